"""Backbones by the paper's names: image in, feature maps C3, C4, C5 out.

A new backbone is one builder function and one entry in `BACKBONES`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from official_nasfpn.modeling.norm import DEFAULT_NORM, NormSettings

if TYPE_CHECKING:  # Recipes are checked against the names below without TensorFlow.
  import tf_keras

LEVELS = ("3", "4", "5")
# A further output of MobileNetV2: C4 within the last bottleneck of that level, 576 channels wide.
EXPANDED_C4 = "4/depthwise"


def _build_resnet(
  depth: int,
  image_size: tuple[int, int],
  width: float,
  norm: NormSettings,
) -> tf_keras.Model:
  """Builds a ResNet of the Model Garden (stem 7x7, basic blocks up to depth 34)."""
  import tf_keras
  from official.vision.modeling.backbones.resnet import ResNet

  resnet = ResNet(
    model_id=depth,
    input_specs=tf_keras.layers.InputSpec(shape=[None, *image_size, 3]),
    depth_multiplier=width,  # "Depth" of a feature map: its channels.
    **norm.for_model_garden(),
  )
  outputs = {level: resnet.output[level] for level in LEVELS}
  return tf_keras.Model(resnet.input, outputs, name="backbone")


def _build_mobilenet(
  image_size: tuple[int, int],
  width: float,
  norm: NormSettings,
) -> tf_keras.Model:
  """Builds the Model Garden's MobileNetV2 up to its last inverted bottleneck of 320 channels."""
  import tf_keras
  from official.vision.modeling.backbones.mobilenet import MobileNet

  mobilenet = MobileNet(
    model_id="MobileNetV2",
    input_specs=tf_keras.layers.InputSpec(shape=[None, *image_size, 3]),
    filter_size_scale=width,
    output_intermediate_endpoints=True,
    **norm.for_model_garden(),
  )
  # The convolution to 1280 channels after C5 belongs to the classifier.
  outputs = {level: mobilenet.output[level] for level in (*LEVELS, EXPANDED_C4)}
  return tf_keras.Model(mobilenet.input, outputs, name="backbone")


def _build_amoebanet(
  image_size: tuple[int, int],
  width: float,
  norm: NormSettings,
) -> tf_keras.Model:
  """Builds our AmoebaNet-D; the Model Garden has none."""
  import tf_keras

  from official_nasfpn.modeling.amoebanet import build_amoebanet

  make_norm = functools.partial(tf_keras.layers.BatchNormalization, **norm.for_keras())
  return build_amoebanet(image_size, width, make_norm)


BACKBONES: Mapping[str, Callable[..., tf_keras.Model]] = {
  **{f"R-{depth}": functools.partial(_build_resnet, depth) for depth in (10, 18, 34, 50, 101)},
  "MobileNetV2": _build_mobilenet,
  "AmoebaNet-D": _build_amoebanet,
}


def build_backbone(
  name: str,
  image_size: tuple[int, int],
  *,
  width: float = 1.0,
  norm: NormSettings = DEFAULT_NORM,
) -> tf_keras.Model:
  """Builds a backbone with freshly initialised weights.

  Args:
    name: one of `BACKBONES`.
    image_size: height and width of its input, in pixels.
    width: channels of every layer, relative to the published network.
    norm: settings of the batch norms.

  Returns:
    A functional model from float32 images [batch, height, width, 3] to
    {"3": C3, "4": C4, "5": C5}, level l of size [batch, height / 2^l, width / 2^l, channels];
    MobileNetV2 also gives `EXPANDED_C4`.

  Raises:
    ValueError: the name is unknown.
  """
  if name not in BACKBONES:
    raise ValueError(f"Unknown backbone {name!r}; there are {', '.join(BACKBONES)}.")
  return BACKBONES[name](image_size=tuple(image_size), width=width, norm=norm)
