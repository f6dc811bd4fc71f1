"""Backbones by the paper's names: image in, feature maps C3, C4, C5 out.

A new backbone is one builder function and one entry in `BACKBONES`. A plain name is Model Garden's
network; `R-50-torch` and the like have the arithmetic of another library, for its weights.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from official_nasfpn.modeling.backbone_layouts import (
  KERAS,
  KERAS_MOBILENET_EPSILON,
  KERAS_MOBILENET_PIXELS,
  TORCH,
  Layout,
)
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


def _build_published_resnet(
  depth: int,
  layout: Layout,
  image_size: tuple[int, int],
  width: float,
  norm: NormSettings,
) -> tf_keras.Model:
  """Builds a ResNet with the arithmetic of weights that can be had."""
  from official_nasfpn.modeling.published_resnet import build_published_resnet

  return build_published_resnet(depth, layout, image_size, width, norm)


def _build_keras_mobilenet(
  image_size: tuple[int, int],
  width: float,
  norm: NormSettings,
) -> tf_keras.Model:
  """Builds a MobileNetV2 for the weights of tf_keras.applications, which has the same layers."""
  import tf_keras

  from official_nasfpn.modeling.published_resnet import from_our_pixels

  norm = dataclasses.replace(norm, epsilon=KERAS_MOBILENET_EPSILON)
  images = tf_keras.Input([*image_size, 3])
  mobilenet = _build_mobilenet(image_size, width, norm)
  outputs = mobilenet(from_our_pixels(KERAS_MOBILENET_PIXELS)(images))
  return tf_keras.Model(images, outputs, name="backbone")


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
  **{
    f"R-{depth}-torch": functools.partial(_build_published_resnet, depth, TORCH)
    for depth in (18, 34, 50, 101)
  },
  **{
    f"R-{depth}-keras": functools.partial(_build_published_resnet, depth, KERAS)
    for depth in (50, 101)
  },
  "MobileNetV2": _build_mobilenet,
  "MobileNetV2-keras": _build_keras_mobilenet,
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
