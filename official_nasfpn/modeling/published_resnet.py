"""ResNets with the arithmetic of weights that can be had.

Model Garden's ResNet pads strided windows as TensorFlow does, by one pixel less at the top left
than PyTorch, and projects the first shortcut of basic blocks as well. So weights trained elsewhere
would compute something else in it. Layers have the names of torchvision's.
"""

import dataclasses

import tf_keras

from official_nasfpn.modeling.backbone_layouts import (
  RESNET_FILTERS,
  RESNETS,
  TORCH,
  Layout,
  Pixels,
)
from official_nasfpn.modeling.norm import NormSettings

_EXPANSION = 4


def build_published_resnet(
  depth: int, layout: Layout, image_size: tuple[int, int], width: float, norm: NormSettings
) -> tf_keras.Model:
  """Builds a ResNet without its classifier.

  Args:
    depth: one of `RESNETS`.
    layout: whose arithmetic it has.
    image_size: height and width of its input, in pixels.
    width: channels of every layer, relative to the published network.
    norm: settings of the batch norms, less the epsilon, which is the layout's.

  Returns:
    A functional model from images that are normalised as all of ours are, float32 [batch, height,
    width, 3], to {"3": C3, "4": C4, "5": C5}.
  """
  build = _Builder(layout, dataclasses.replace(norm, epsilon=layout.epsilon))
  images = tf_keras.Input([*image_size, 3])
  # Ours are torch's.
  features = images if layout.pixels == TORCH.pixels else from_our_pixels(layout.pixels)(images)
  features = build.convolution(features, int(64 * width), 7, 2, "conv1", "bn1")
  features = tf_keras.layers.ReLU(name="relu")(features)
  # After a ReLU zeros around the map do not change its maxima.
  features = tf_keras.layers.ZeroPadding2D(1, name="pad_pool")(features)
  features = tf_keras.layers.MaxPooling2D(3, 2, name="maxpool")(features)
  stages, has_bottlenecks = RESNETS[depth]
  block = build.bottleneck if has_bottlenecks else build.basic_block
  outputs = {}
  for stage, (filters, num_blocks) in enumerate(zip(RESNET_FILTERS, stages, strict=True), start=1):
    for number in range(num_blocks):
      stride = 2 if stage > 1 and number == 0 else 1
      features = block(features, int(filters * width), stride, f"layer{stage}.{number}")
    outputs[str(stage + 1)] = features
  outputs.pop("2")
  return tf_keras.Model(images, outputs, name="backbone")


class _Builder:
  """Adds layers, with the settings that all of them have in common."""

  def __init__(self, layout: Layout, norm: NormSettings):
    self._layout, self._norm = layout, norm

  def convolution(self, features, filters, kernel, stride, name, norm_name):
    """A convolution, padded alike on all sides, and its batch norm."""
    if kernel > 1:
      features = tf_keras.layers.ZeroPadding2D(kernel // 2, name=f"pad_{name}")(features)
    features = tf_keras.layers.Conv2D(
      filters,
      kernel,
      stride,
      use_bias=self._layout.convolutions_have_bias,
      kernel_initializer="he_normal",
      name=name,
    )(features)
    return tf_keras.layers.BatchNormalization(**self._norm.for_keras(), name=norm_name)(features)

  def basic_block(self, features, filters, stride, name):
    sides = ((filters, 3, stride), (filters, 3, 1))
    return self._block(features, sides, stride, name)

  def bottleneck(self, features, filters, stride, name):
    first, second = (stride, 1) if self._layout.stride_in_first else (1, stride)
    sides = ((filters, 1, first), (filters, 3, second), (_EXPANSION * filters, 1, 1))
    return self._block(features, sides, stride, name)

  def _block(self, features, convolutions, stride, name):
    shortcut = features
    channels = convolutions[-1][0]
    if stride > 1 or shortcut.shape[-1] != channels:
      names = f"{name}.downsample.0", f"{name}.downsample.1"
      shortcut = self.convolution(shortcut, channels, 1, stride, *names)
    for number, (filters, kernel, each_stride) in enumerate(convolutions, start=1):
      names = f"{name}.conv{number}", f"{name}.bn{number}"
      features = self.convolution(features, filters, kernel, each_stride, *names)
      if number < len(convolutions):
        features = tf_keras.layers.ReLU(name=f"{name}.relu{number}")(features)
    features = tf_keras.layers.Add(name=f"{name}.add")([features, shortcut])
    return tf_keras.layers.ReLU(name=f"{name}.relu")(features)


def from_our_pixels(pixels: Pixels) -> tf_keras.layers.Layer:
  """Returns a layer that turns images as we normalise them into what a network was trained on.

  It stands in front of the first padding: zeros there are the network's zeros.
  """
  ours = TORCH.pixels
  scale = [mine / theirs for mine, theirs in zip(ours.deviation, pixels.deviation, strict=True)]
  offset = [
    (mine - theirs) / deviation
    for mine, theirs, deviation in zip(ours.mean, pixels.mean, pixels.deviation, strict=True)
  ]
  return tf_keras.layers.Rescaling(scale, offset, name="pixels")
