"""What all pyramids are to a detector, and what stacks of them have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from official_nasfpn.architecture import Architecture
from official_nasfpn.modeling.drop_block import Drop
from official_nasfpn.modeling.norm import DEFAULT_NORM, NormSettings


class PyramidLayer(tf_keras.layers.Layer):
  """What lies between a detector's backbone and its heads.

  It is called with the backbone's maps {"3": C3, "4": C4, "5": C5} and, by name, `training`, `drop`
  and `last_repeat`, as described at `PyramidStack`. It returns a list with the maps {level: map} of
  every repeat.

  Attributes:
    spec: the architecture.
    num_repeats: how many pyramids are stacked.
    laterals: the projections before the first repeat, by level.
  """

  def __init__(self, spec: Architecture, num_repeats: int, **kwargs: Any):
    """Keeps the settings.

    Args:
      spec: the architecture.
      num_repeats: how many pyramids are stacked.
      **kwargs: arguments of every Keras layer, such as `name`.
    """
    super().__init__(**kwargs)
    self.spec = spec
    self.num_repeats = num_repeats
    self.laterals: dict[str, tf_keras.layers.Layer] = {}


class PyramidStack(PyramidLayer):
  """Pyramids of equal width, each of which takes the maps of the one before.

  Takes {"3": C3, "4": C4, "5": C5}, maps of [batch, height / 2^l, width / 2^l, channels]; levels
  outside the spec are ignored, and those missing at the top are made from the highest one given.
  Returns a list, one {"3": P3, ..., "7": P7} per repeat, each map of `num_filters` channels; the
  last one is the final pyramid. With `last_repeat` it stops after that repeat and computes nothing
  beyond it (section 3.2, anytime detection). With `training=True` and a `drop`, blocks are dropped
  (section 4.4).
  """

  def __init__(
    self,
    spec: Architecture,
    num_filters: int = 256,
    num_repeats: int = 7,
    separable: bool = False,
    norm: NormSettings = DEFAULT_NORM,
    **kwargs: Any,
  ):
    """Keeps the settings.

    Args:
      spec: the architecture of one pyramid; each repeat has its own weights.
      num_filters: channels of every map.
      num_repeats: number of pyramids in the stack.
      separable: whether the convolutions are depthwise separable.
      norm: settings of the batch norms.
      **kwargs: arguments of every Keras layer, such as `name`.

    Raises:
      ValueError: `num_filters` or `num_repeats` is not positive.
    """
    if num_filters < 1 or num_repeats < 1:
      raise ValueError(
        f"num_filters and num_repeats must be positive, not {num_filters} and {num_repeats}."
      )
    super().__init__(spec, num_repeats, **kwargs)
    self.num_filters = num_filters
    self.separable = separable
    self.norm = norm
    self.repeats: list[tf_keras.layers.Layer] = []

  # Nothing below depends on the values of tensors, so there is nothing for AutoGraph to rewrite.
  @tf.autograph.experimental.do_not_convert
  def call(
    self,
    features: Mapping[str, tf.Tensor],
    training: bool | None = None,
    drop: Drop | None = None,
    last_repeat: int | None = None,
  ) -> list[dict[str, tf.Tensor]]:
    maps = self._inputs(features, training)
    pyramids = []
    for index, repeat in enumerate(self.repeats[:last_repeat]):
      part = None if drop is None or not training else drop.part(index)
      maps = self._run_repeat(repeat, maps, training, part)
      pyramids.append(maps)
    return pyramids

  def _inputs(
    self, features: Mapping[str, tf.Tensor], training: bool | None
  ) -> dict[str, tf.Tensor]:
    """Returns what the first repeat takes."""
    raise NotImplementedError

  def _run_repeat(
    self,
    repeat: tf_keras.layers.Layer,
    maps: Mapping[str, tf.Tensor],
    training: bool | None,
    drop: Drop | None,
  ) -> dict[str, tf.Tensor]:
    """Returns the maps of all levels after one repeat; drops blocks if `drop` is given."""
    raise NotImplementedError

  def get_config(self) -> dict[str, Any]:
    """Returns all settings but the spec, which each kind of pyramid writes in its own way."""
    return {
      **super().get_config(),
      "num_filters": self.num_filters,
      "num_repeats": self.num_repeats,
      "separable": self.separable,
      "norm_momentum": self.norm.momentum,
      "norm_epsilon": self.norm.epsilon,
      "sync_batch_norm": self.norm.synchronized,
    }

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> PyramidStack:
    """Makes a layer from what `get_config` returns, with the spec itself as its `spec`."""
    arguments = dict(config)
    norm = NormSettings(
      arguments.pop("norm_momentum"),
      arguments.pop("norm_epsilon"),
      arguments.pop("sync_batch_norm"),
    )
    return cls(**arguments, norm=norm)
