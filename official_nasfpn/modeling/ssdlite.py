"""The feature maps that SSDLite predicts from (Sandler et al., CVPR 2018, section 6.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from official_nasfpn.architecture import Ssdlite
from official_nasfpn.modeling.backbones import EXPANDED_C4
from official_nasfpn.modeling.ssdlite_levels import EXTRA_CHANNELS, LAST_CHANNELS


class SsdliteFeatures(tf_keras.layers.Layer):
  """Turns MobileNetV2's maps into SSDLite's, which are no pyramid: nothing goes down.

  Level 4 is C4 within a bottleneck (here the last of its stage; published: the first of the next),
  level 5 is C5 with the 1280 channels of the classifier, and the further ones follow from it by
  1x1, strided depthwise 3x3 and 1x1 convolutions. Sides that are odd are rounded up.
  """

  def __init__(
    self,
    norm_momentum: float = 0.997,
    norm_epsilon: float = 1e-4,
    sync_batch_norm: bool = False,
    **kwargs: Any,
  ):
    """Prepares the layers.

    Args:
      norm_momentum: of the batch norms' moving averages.
      norm_epsilon: added to the variance in batch norms.
      sync_batch_norm: whether batch statistics are taken over all replicas.
      **kwargs: arguments of every Keras layer, such as `name`.
    """
    super().__init__(**kwargs)
    self.spec = Ssdlite()
    self.num_repeats = 1
    norm = {"momentum": norm_momentum, "epsilon": norm_epsilon, "synchronized": sync_batch_norm}
    self.last = _convolution(LAST_CHANNELS, norm, "level_5")
    self.extra = {
      level: tf_keras.Sequential(
        [
          _convolution(channels // 2, norm, "reduce"),
          _depthwise(norm, "halve"),
          _convolution(channels, norm, "expand"),
        ],
        name=f"level_{level}",
      )
      for level, channels in EXTRA_CHANNELS.items()
    }

  @property
  def laterals(self) -> dict[str, tf_keras.layers.Layer]:
    """Projections before the first repeat: none."""
    return {}

  @tf.autograph.experimental.do_not_convert
  def call(
    self,
    features: Mapping[str, tf.Tensor],
    training: bool | None = None,
    drop: None = None,
    last_repeat: int | None = None,
  ) -> list[dict[str, tf.Tensor]]:
    del drop  # There are no merging cells; `Experiment` refuses DropBlock.
    del last_repeat  # There is one.
    below = self.last(features["5"], training=training)
    maps = {"4": features[EXPANDED_C4], "5": below}
    for level, layers in self.extra.items():
      below = maps[level] = layers(below, training=training)
    return [maps]


def _convolution(channels: int, norm: Mapping[str, Any], name: str) -> tf_keras.Sequential:
  convolution = tf_keras.layers.Conv2D(
    channels, 1, use_bias=False, kernel_initializer="he_normal", name="conv"
  )
  return _with_norm(convolution, norm, name)


def _depthwise(norm: Mapping[str, Any], name: str) -> tf_keras.Sequential:
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
  convolution: tf_keras.layers.Layer, norm: Mapping[str, Any], name: str
) -> tf_keras.Sequential:
  layers = [
    convolution,
    tf_keras.layers.BatchNormalization(**norm, name="norm"),
    tf_keras.layers.ReLU(6.0, name="relu6"),
  ]
  return tf_keras.Sequential(layers, name=name)
