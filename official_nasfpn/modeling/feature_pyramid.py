"""The stacked feature pyramid that a `PyramidSpec` describes (sections 3 and 3.1)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from official_nasfpn.architecture import (
  PyramidSpec,
  coarse_and_fine,
  from_json,
  to_json,
  unconsumed_inputs,
)
from official_nasfpn.modeling.config import TopLevels
from official_nasfpn.modeling.drop_block import Drop, drop_blocks
from official_nasfpn.modeling.merging import MERGE_FUNCTIONS, MergeInput
from official_nasfpn.modeling.norm import DEFAULT_NORM, NormSettings
from official_nasfpn.modeling.pyramid_stack import PyramidStack
from official_nasfpn.modeling.resampling import Candidate, max_pool


@tf_keras.utils.register_keras_serializable(package="official_nasfpn")
class FeaturePyramid(PyramidStack):
  """A `PyramidStack` of merging cells. Under DropBlock every cell drops blocks of its output.

  Example:
    pyramid = FeaturePyramid(CATALOG["nas_fpn"], num_filters=256, num_repeats=7)
    final = pyramid({"3": c3, "4": c4, "5": c5})[-1]
  """

  def __init__(
    self,
    spec: PyramidSpec,
    num_filters: int = 256,
    num_repeats: int = 7,
    separable: bool = False,
    top_levels: TopLevels = "max_pool",
    norm: NormSettings = DEFAULT_NORM,
    **kwargs: Any,
  ):
    """Prepares the layers; their weights are made on the first call.

    Args:
      spec: the architecture of one pyramid; each repeat has its own weights.
      num_filters: channels of every map.
      num_repeats: number of pyramids in the stack.
      separable: whether the cells' convolutions are depthwise separable.
      top_levels: how levels above the backbone's are made: by `max_pool` of the projected map below
        (NAS-FPN), or by a strided 3x3 `convolution` of the map below, as the backbone gives it
        (RetinaNet).
      norm: settings of the batch norms.
      **kwargs: arguments of every Keras layer, such as `name`.

    Raises:
      ValueError: `num_filters` or `num_repeats` is not positive.
    """
    super().__init__(spec, num_filters, num_repeats, separable, norm, **kwargs)
    self.top_levels = top_levels
    self.repeats = [
      self._make_repeat(name=f"repeat_{index}") for index in range(1, self.num_repeats + 1)
    ]

  def _make_repeat(self, name: str) -> OnePyramid:
    return OnePyramid(self.spec, self.num_filters, self.separable, self.norm, name=name)

  def build(self, input_shape: Mapping[str, tf.TensorShape]) -> None:
    given = _levels_given(self.spec, input_shape)
    for level in given:
      if input_shape[level][-1] != self.num_filters:
        self.laterals[level] = ConvolutionAndNorm(
          self.num_filters, 1, self.norm, name=f"lateral_{level}"
        )
    if self.top_levels == "convolution":
      for level in map(str, self.spec.levels[len(given) :]):
        # Not separable: at these sizes a whole convolution costs next to nothing, and the published
        # NAS-FPNLite has room for its parameters.
        self.laterals[level] = ConvolutionAndNorm(
          self.num_filters, 3, self.norm, strides=2, name=f"lateral_{level}"
        )
    super().build(input_shape)

  def _inputs(
    self, features: Mapping[str, tf.Tensor], training: bool | None
  ) -> dict[str, tf.Tensor]:
    """Returns the maps of all levels at the pyramid's width."""
    maps = {}
    given = _levels_given(self.spec, {key: map.shape for key, map in features.items()})
    for level in given:
      projected = features[level]
      if level in self.laterals:
        projected = self.laterals[level](projected, training=training)
      maps[level] = projected
    below = features[given[-1]]
    for level in self.spec.levels[len(given) :]:
      if self.top_levels == "convolution":
        maps[str(level)] = self.laterals[str(level)](below, training=training)
        below = tf.nn.relu(maps[str(level)])
      else:
        maps[str(level)] = max_pool(maps[str(level - 1)], stride=2)
    return maps

  def _run_repeat(
    self,
    repeat: OnePyramid,
    maps: Mapping[str, tf.Tensor],
    training: bool | None,
    drop: Drop | None,
  ) -> dict[str, tf.Tensor]:
    return repeat(maps, training=training, drop=drop)

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "spec": to_json(self.spec), "top_levels": self.top_levels}

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> FeaturePyramid:
    return super().from_config({**config, "spec": from_json(config["spec"])})


class OnePyramid(tf_keras.layers.Layer):
  """The merging cells of one repeat: {level: input map} to {level: output map}."""

  def __init__(
    self,
    spec: PyramidSpec,
    num_filters: int,
    separable: bool,
    norm: NormSettings,
    **kwargs: Any,
  ):
    """Prepares the cells' layers.

    Args:
      spec: the architecture.
      num_filters: channels of every map.
      separable: whether the convolutions are depthwise separable.
      norm: settings of the batch norms.
      **kwargs: arguments of every Keras layer, such as `name`.
    """
    super().__init__(**kwargs)
    self.spec = spec
    self.cells = [
      ConvolutionAndNorm(num_filters, 3, norm, separable=separable, name=f"cell_{index}")
      for index in range(1, spec.num_cells + 1)
    ]

  @tf.autograph.experimental.do_not_convert
  def call(
    self,
    inputs: Mapping[str, tf.Tensor],
    training: bool | None = None,
    drop: Drop | None = None,
  ) -> dict[str, tf.Tensor]:
    candidates = [Candidate(level, inputs[str(level)]) for level in self.spec.levels]
    extra_inputs = unconsumed_inputs(self.spec)
    cells = zip(self.spec.cells, extra_inputs, self.cells, strict=True)
    for number, (cell, extra, convolve) in enumerate(cells):
      coarse, fine = (
        MergeInput(candidates[index].at_level(cell.level), candidates[index].global_max)
        for index in coarse_and_fine(self.spec, cell)
      )
      merged = MERGE_FUNCTIONS[cell.op](coarse, fine)
      for index in extra:
        merged += candidates[index].features
      features = convolve(tf.nn.relu(merged), training=training)
      if drop is not None:
        features = drop_blocks(features, drop.part(number))
      candidates.append(Candidate(cell.level, features))
    outputs = {candidate.level: candidate.features for candidate in candidates[-len(inputs) :]}
    return {str(level): outputs[level] for level in self.spec.levels}


class ConvolutionAndNorm(tf_keras.layers.Layer):
  """A convolution with bias, then batch norm: the weights of a cell or of a lateral projection."""

  def __init__(
    self,
    num_filters: int,
    kernel_size: int,
    norm: NormSettings,
    *,
    strides: int = 1,
    separable: bool = False,
    **kwargs: Any,
  ):
    """Prepares both layers.

    Args:
      num_filters: output channels.
      kernel_size: side of the square kernel.
      norm: settings of the batch norm.
      strides: of the convolution.
      separable: whether it is a depthwise separable one.
      **kwargs: arguments of every Keras layer, such as `name`.
    """
    super().__init__(**kwargs)
    # What Model Garden's decoder really uses: its `kernel_initializer` argument has no effect.
    initializer = functools.partial(
      tf_keras.initializers.VarianceScaling,
      scale=2.0,
      mode="fan_out",
      distribution="untruncated_normal",
    )
    geometry = {"kernel_size": kernel_size, "strides": strides, "padding": "same"}
    if separable:
      self.conv = tf_keras.layers.SeparableConv2D(
        num_filters,
        **geometry,
        depthwise_initializer=initializer(),
        pointwise_initializer=initializer(),
        name="conv",
      )
    else:
      self.conv = tf_keras.layers.Conv2D(
        num_filters, **geometry, kernel_initializer=initializer(), name="conv"
      )
    self.norm = tf_keras.layers.BatchNormalization(**norm.for_keras(), name="norm")

  @tf.autograph.experimental.do_not_convert
  def call(self, features: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    return self.norm(self.conv(features), training=training)


def _levels_given(spec: PyramidSpec, shapes: Mapping[str, tf.TensorShape]) -> list[str]:
  """Returns the spec's levels that the backbone gives, lowest first, once their sizes are checked.

  Raises:
    ValueError: a level is missing below a given one, a map is not half as large as the one below
      it, or the topmost cannot be halved down to the spec's highest level.
  """
  wanted = [str(level) for level in spec.levels]
  given = [level for level in wanted if level in shapes]
  if not given or given != wanted[: len(given)]:
    raise ValueError(
      f"The pyramid needs the levels from {wanted[0]!r} up without a gap, under string keys; "
      f"it was given {list(shapes)!r}."
    )
  sizes = {level: tuple(shapes[level][1:3]) for level in given}
  for low, high in itertools.pairwise(given):
    for below, above in zip(sizes[low], sizes[high], strict=True):
      if None not in (below, above) and below != 2 * above:
        raise ValueError(
          f"Level {high} must be half as large as level {low}; their sizes are {sizes[high]} and "
          f"{sizes[low]}. Make both image sides multiples of {2**spec.max_level}."
        )
  multiple = 2 ** (spec.max_level - int(given[-1]))
  if any(side is not None and side % multiple for side in sizes[given[-1]]):
    raise ValueError(
      f"Level {given[-1]} of size {sizes[given[-1]]} cannot be halved down to level "
      f"{spec.max_level}. Make both image sides multiples of {2**spec.max_level}."
    )
  return given
