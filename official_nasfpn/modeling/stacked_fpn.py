"""The original FPN, stacked: the baseline of Figure 8a."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras
from official.vision.modeling.decoders.fpn import FPN

from official_nasfpn.architecture import Fpn
from official_nasfpn.modeling.drop_block import Drop, drop_blocks


@tf_keras.utils.register_keras_serializable(package="official_nasfpn")
class StackedFpn(tf_keras.layers.Layer):
  """Turns a backbone's maps into the FPNs of every repeat; each is Model Garden's.

  Takes and returns what `FeaturePyramid` does. With `training=True` and a `drop`, blocks of every
  output of every repeat are dropped.
  """

  def __init__(
    self,
    spec: Fpn,
    num_filters: int = 256,
    num_repeats: int = 1,
    separable: bool = False,
    norm_momentum: float = 0.997,
    norm_epsilon: float = 1e-4,
    sync_batch_norm: bool = False,
    **kwargs: Any,
  ):
    """Keeps the settings; layers are made on the first call.

    Args:
      spec: the levels.
      num_filters: channels of every map.
      num_repeats: number of FPNs in the stack.
      separable: whether the convolutions are depthwise separable.
      norm_momentum: of the batch norms' moving averages.
      norm_epsilon: added to the variance in batch norms.
      sync_batch_norm: whether batch statistics are taken over all replicas.
      **kwargs: arguments of every Keras layer, such as `name`.
    """
    super().__init__(**kwargs)
    self.spec = spec
    self.num_filters = num_filters
    self.num_repeats = num_repeats
    self.separable = separable
    self.norm_momentum = norm_momentum
    self.norm_epsilon = norm_epsilon
    self.sync_batch_norm = sync_batch_norm
    self.repeats: list[FPN] = []

  @property
  def laterals(self) -> dict[str, tf_keras.layers.Layer]:
    """Projections before the first repeat: none, since every repeat has its own."""
    return {}

  def build(self, input_shape: Mapping[str, tf.TensorShape]) -> None:
    shapes = dict(input_shape)
    for index in range(1, self.num_repeats + 1):
      repeat = FPN(
        shapes,
        min_level=self.spec.min_level,
        max_level=self.spec.max_level,
        num_filters=self.num_filters,
        use_separable_conv=self.separable,
        norm_momentum=self.norm_momentum,
        norm_epsilon=self.norm_epsilon,
        use_sync_bn=self.sync_batch_norm,
        name=f"repeat_{index}",
      )
      self.repeats.append(repeat)
      shapes = dict(repeat.output_specs)
    super().build(input_shape)

  @tf.autograph.experimental.do_not_convert
  def call(
    self,
    features: Mapping[str, tf.Tensor],
    training: bool | None = None,
    drop: Drop | None = None,
  ) -> list[dict[str, tf.Tensor]]:
    maps = dict(features)
    pyramids = []
    for index, repeat in enumerate(self.repeats):
      maps = repeat(maps, training=training)
      if training and drop is not None:
        part = drop.part(index)
        maps = {level: drop_blocks(map, part.part(int(level))) for level, map in maps.items()}
      pyramids.append(maps)
    return pyramids

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      "spec": {"min_level": self.spec.min_level, "max_level": self.spec.max_level},
      "num_filters": self.num_filters,
      "num_repeats": self.num_repeats,
      "separable": self.separable,
      "norm_momentum": self.norm_momentum,
      "norm_epsilon": self.norm_epsilon,
      "sync_batch_norm": self.sync_batch_norm,
    }

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> StackedFpn:
    return cls(**{**config, "spec": Fpn(**config["spec"])})
