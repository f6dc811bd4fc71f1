"""The original FPN, stacked: the baseline of Figure 8a."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras
from official.vision.modeling.decoders.fpn import FPN

from official_nasfpn.architecture import Fpn
from official_nasfpn.modeling.drop_block import Drop, drop_blocks
from official_nasfpn.modeling.pyramid_stack import PyramidStack


@tf_keras.utils.register_keras_serializable(package="official_nasfpn")
class StackedFpn(PyramidStack):
  """A `PyramidStack` of FPNs; each is Model Garden's, with laterals of its own.

  Under DropBlock blocks of every output of every repeat are dropped.
  """

  def build(self, input_shape: Mapping[str, tf.TensorShape]) -> None:
    shapes = dict(input_shape)
    for index in range(1, self.num_repeats + 1):
      repeat = FPN(
        shapes,
        min_level=self.spec.min_level,
        max_level=self.spec.max_level,
        num_filters=self.num_filters,
        use_separable_conv=self.separable,
        **self.norm.for_model_garden(),
        name=f"repeat_{index}",
      )
      self.repeats.append(repeat)
      shapes = dict(repeat.output_specs)
    super().build(input_shape)

  def _inputs(
    self, features: Mapping[str, tf.Tensor], training: bool | None
  ) -> dict[str, tf.Tensor]:
    del training
    return dict(features)

  def _run_repeat(
    self, repeat: FPN, maps: Mapping[str, tf.Tensor], training: bool | None, drop: Drop | None
  ) -> dict[str, tf.Tensor]:
    outputs = repeat(maps, training=training)
    if drop is None:
      return outputs
    return {level: drop_blocks(map, drop.part(int(level))) for level, map in outputs.items()}

  def get_config(self) -> dict[str, Any]:
    levels = {"min_level": self.spec.min_level, "max_level": self.spec.max_level}
    return {**super().get_config(), "spec": levels}

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> StackedFpn:
    return super().from_config({**config, "spec": Fpn(**config["spec"])})
