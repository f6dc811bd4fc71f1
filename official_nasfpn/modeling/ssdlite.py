"""The feature maps that SSDLite predicts from (Sandler et al., CVPR 2018, section 6.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from official_nasfpn.architecture import Ssdlite
from official_nasfpn.modeling.backbones import EXPANDED_C4
from official_nasfpn.modeling.norm import NormSettings
from official_nasfpn.modeling.pyramid_size import SSDLITE_EXTRA_CHANNELS, SSDLITE_LAST_CHANNELS
from official_nasfpn.modeling.pyramid_stack import PyramidLayer


class SsdliteFeatures(PyramidLayer):
  """Turns MobileNetV2's maps into SSDLite's, which are no pyramid: nothing goes down.

  Level 4 is C4 within a bottleneck (here the last of its stage; published: the first of the next),
  level 5 is C5 with the 1280 channels of the classifier, and the further ones follow from it by
  1x1, strided depthwise 3x3 and 1x1 convolutions. Sides that are odd are rounded up.
  """

  def __init__(self, spec: Ssdlite, norm: NormSettings, **kwargs: Any):
    """Prepares the layers.

    Args:
      spec: its architecture.
      norm: settings of the batch norms.
      **kwargs: arguments of every Keras layer, such as `name`.
    """
    super().__init__(spec, num_repeats=1, **kwargs)
    self.last = _convolution(SSDLITE_LAST_CHANNELS, norm, "level_5")
    self.extra = {
      level: tf_keras.Sequential(
        [
          _convolution(channels // 2, norm, "reduce"),
          _depthwise(norm, "halve"),
          _convolution(channels, norm, "expand"),
        ],
        name=f"level_{level}",
      )
      for level, channels in SSDLITE_EXTRA_CHANNELS.items()
    }

  @tf.autograph.experimental.do_not_convert
  def call(
    self,
    features: Mapping[str, tf.Tensor],
    training: bool | None = None,
    drop: None = None,
    last_repeat: int | None = None,
  ) -> list[dict[str, tf.Tensor]]:
    del drop, last_repeat  # It drops no blocks, and has one repeat.
    below = self.last(features["5"], training=training)
    maps = {"4": features[EXPANDED_C4], "5": below}
    for level, layers in self.extra.items():
      below = maps[level] = layers(below, training=training)
    return [maps]


def _convolution(channels: int, norm: NormSettings, name: str) -> tf_keras.Sequential:
  convolution = tf_keras.layers.Conv2D(
    channels, 1, use_bias=False, kernel_initializer="he_normal", name="conv"
  )
  return _with_norm(convolution, norm, name)


def _depthwise(norm: NormSettings, name: str) -> tf_keras.Sequential:
  convolution = tf_keras.layers.DepthwiseConv2D(
    3,
    strides=2,
    padding="same",
    use_bias=False,
    depthwise_initializer=tf_keras.initializers.VarianceScaling(2.0, mode="fan_out"),
    name="conv",
  )
  return _with_norm(convolution, norm, name)


def _with_norm(
  convolution: tf_keras.layers.Layer, norm: NormSettings, name: str
) -> tf_keras.Sequential:
  layers = [
    convolution,
    tf_keras.layers.BatchNormalization(**norm.for_keras(), name="norm"),
    tf_keras.layers.ReLU(6.0, name="relu6"),
  ]
  return tf_keras.Sequential(layers, name=name)
