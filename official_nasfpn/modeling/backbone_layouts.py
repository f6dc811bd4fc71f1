"""How backbones differ from one library to another, and what ResNets have in common.

Weights compute what they were trained for only in a network with the arithmetic of their library.
"""

import dataclasses

# Blocks of each stage, levels 2 to 5, and whether they are bottlenecks.
RESNETS = {
  10: ((1, 1, 1, 1), False),
  18: ((2, 2, 2, 2), False),
  34: ((3, 4, 6, 3), False),
  50: ((3, 4, 6, 3), True),
  101: ((3, 4, 23, 3), True),
}
RESNET_FILTERS = (64, 128, 256, 512)


@dataclasses.dataclass(frozen=True)
class Pixels:
  """How the pixels of an image become numbers.

  Attributes:
    mean: is subtracted from red, green and blue, 0 to 255.
    deviation: what they are divided by then.
  """

  mean: tuple[float, float, float]
  deviation: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Layout:
  """The arithmetic of a library's ResNets.

  Attributes:
    epsilon: added to the variance in batch norms; None where the recipe says it.
    convolutions_have_bias: whether they have, in front of their batch norms.
    stride_in_first: whether the first, 1x1, convolution of a bottleneck has the stride, and not the
      3x3 one.
    always_projects: whether the first block of a stage has a projection in its shortcut where the
      shapes would do without.
    pixels: what the network wants.
  """

  epsilon: float | None
  convolutions_have_bias: bool
  stride_in_first: bool
  always_projects: bool
  pixels: Pixels


# ImageNet's, which all our images are normalised with.
_IMAGENET = Pixels((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255))
MODEL_GARDEN = Layout(None, False, False, True, _IMAGENET)
# Torchvision's and timm's; KerasHub's, too.
TORCH = Layout(1e-5, False, False, False, _IMAGENET)
# Those of tf_keras.applications. They want blue, green and red: the first kernel is turned when the
# weights are read.
KERAS = Layout(1.001e-5, True, True, False, Pixels((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)))
# What the MobileNetV2 of tf_keras.applications wants: -1 to 1.
KERAS_MOBILENET_PIXELS = Pixels((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
KERAS_MOBILENET_EPSILON = 1e-3
