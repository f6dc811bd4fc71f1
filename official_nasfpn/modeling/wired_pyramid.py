"""A stacked pyramid whose wiring is data: one graph for every architecture of a search space.

Tracing a train step takes longer than a short training. Merging has no weights, so the weights of a
pyramid do not depend on what its cells read; here candidates are looked up and resampled by tensors
of a `Wiring`, and one traced function runs any architecture with as many cells.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras

from official_nasfpn.architecture import (
  MERGE_OPS,
  PyramidSpec,
  coarse_and_fine,
  unconsumed_inputs,
)
from official_nasfpn.modeling.drop_block import Drop
from official_nasfpn.modeling.feature_pyramid import FeaturePyramid, OnePyramid
from official_nasfpn.modeling.merging import MERGE_FUNCTIONS, MergeInput
from official_nasfpn.modeling.resampling import global_max

# Columns of `Wiring.cells` before those of unconsumed candidates.
_NUM_COLUMNS = 5


class Wiring(NamedTuple):
  """An architecture as tensors. Candidates are counted as in its spec.

  Attributes:
    cells: int32 [num_cells, 5 + num_added], for every cell: the coarse candidate, the fine one, for
      both how many levels the cell lies above them, the op as its place in `MERGE_OPS`, and the
      unconsumed candidates that are added. The number of candidates stands for none.
    outputs: int32 [num_levels], the candidates that are the outputs, the lowest level first.
  """

  cells: np.ndarray | tf.Tensor
  outputs: np.ndarray | tf.Tensor


def wiring_of(spec: PyramidSpec) -> Wiring:
  """Returns the wiring of an architecture, as NumPy arrays.

  The shapes depend on the numbers of cells and levels alone.
  """
  num_candidates = spec.num_inputs + spec.num_cells
  # At its level an output cell can find the input and intermediate cells, but no other output.
  num_added = 1 + spec.num_intermediate_cells
  rows = []
  for cell, added in zip(spec.cells, unconsumed_inputs(spec), strict=True):
    inputs = coarse_and_fine(spec, cell)
    steps = [cell.level - spec.level_of(index) for index in inputs]
    none = [num_candidates] * (num_added - len(added))
    rows.append([*inputs, *steps, list(MERGE_OPS).index(cell.op), *added, *none])
  outputs = {
    cell.level: spec.num_inputs + spec.num_intermediate_cells + index
    for index, cell in enumerate(spec.output_cells)
  }
  return Wiring(
    np.array(rows, np.int32), np.array([outputs[level] for level in spec.levels], np.int32)
  )


@tf_keras.utils.register_keras_serializable(package="official_nasfpn")
class WiredPyramid(FeaturePyramid):
  """A `FeaturePyramid` that computes any architecture with as many cells and levels as its own.

  Its weights are those of a `FeaturePyramid` of any of them, under the same names. It does not drop
  blocks.
  """

  def _make_repeat(self, name: str) -> OneWiredPyramid:
    return OneWiredPyramid(self.spec, self.num_filters, self.separable, self.norm, name=name)

  @tf.autograph.experimental.do_not_convert
  def call(
    self,
    features: Mapping[str, tf.Tensor],
    training: bool | None = None,
    drop: Drop | None = None,
    last_repeat: int | None = None,
    wiring: Wiring | None = None,
  ) -> list[dict[str, tf.Tensor]]:
    """Runs the stack.

    Args:
      features: as for `PyramidStack`.
      training: whether batch norms use, and follow, the batch's statistics.
      drop: must be None.
      last_repeat: as for `PyramidStack`.
      wiring: the architecture to compute; None computes its own spec.

    Raises:
      ValueError: blocks are to be dropped.
    """
    if drop is not None:
      raise ValueError("a WiredPyramid drops no blocks")
    wiring = wiring_of(self.spec) if wiring is None else wiring
    maps = self._inputs(features, training)
    pyramids = []
    for repeat in self.repeats[:last_repeat]:
      maps = repeat(maps, wiring=wiring, training=training)
      pyramids.append(maps)
    return pyramids


class OneWiredPyramid(OnePyramid):
  """The merging cells of one repeat, wired by tensors."""

  @tf.autograph.experimental.do_not_convert
  def call(
    self, inputs: Mapping[str, tf.Tensor], wiring: Wiring, training: bool | None = None
  ) -> dict[str, tf.Tensor]:
    keys = [str(level) for level in self.spec.levels]
    maps = [inputs[key] for key in keys]
    num_filters = maps[0].shape[-1]
    # One list holds maps of all sizes; gradients flow only to those that were read.
    candidates = tf.TensorArray(
      maps[0].dtype,
      size=self.spec.num_inputs + self.spec.num_cells + 1,
      element_shape=[None, None, None, num_filters],
      infer_shape=False,
      clear_after_read=False,
    )
    for index, features in enumerate(maps):
      candidates = candidates.write(index, features)
    # Broadcast, so that adding it to a map of any size changes nothing.
    nothing = tf.zeros([tf.shape(maps[0])[0], 1, 1, num_filters], maps[0].dtype)
    candidates = candidates.write(self.spec.num_inputs + self.spec.num_cells, nothing)

    cells = tf.convert_to_tensor(wiring.cells)
    for index, convolve in enumerate(self.cells):
      columns = tf.unstack(cells[index])
      coarse, fine, coarse_steps, fine_steps, op = columns[:_NUM_COLUMNS]
      merged = merge(
        op,
        merge_input(candidates.read(coarse), coarse_steps),
        merge_input(candidates.read(fine), fine_steps),
      )
      if self.spec.is_output(index):
        for added in columns[_NUM_COLUMNS:]:
          merged += candidates.read(added)
      features = convolve(tf.nn.relu(merged), training=training)
      candidates = candidates.write(self.spec.num_inputs + index, features)

    outputs = {}
    for index, key in enumerate(keys):
      output = candidates.read(wiring.outputs[index])
      outputs[key] = tf.ensure_shape(output, inputs[key].shape)
    return outputs


def merge(op: tf.Tensor, coarse: MergeInput, fine: MergeInput) -> tf.Tensor:
  """Merges two maps by the op with this place in `MERGE_OPS`, int32 []."""
  # Only the chosen one is computed: another's gradient, times zero, might not be a number.
  branches = [functools.partial(MERGE_FUNCTIONS[name], coarse, fine) for name in MERGE_OPS]
  merged = tf.switch_case(op, branches)
  merged.set_shape([None, None, None, coarse.at_cell_level.shape[-1]])
  return merged


def merge_input(features: tf.Tensor, steps: tf.Tensor) -> MergeInput:
  """Returns a map as one that a cell merges.

  Args:
    features: [batch, height, width, channels].
    steps: int32 [], as for `resample`.
  """
  return MergeInput(resample(features, steps), functools.partial(global_max, features))


def resample(features: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
  """Moves a map some levels up by max pooling, or down by repeating values.

  Args:
    features: [batch, height, width, channels].
    steps: int32 [], levels to go up; negative to go down.
  """
  factor = tf.bitwise.left_shift(1, tf.abs(steps))

  def up() -> tf.Tensor:
    sides = tf.stack([1, factor, factor, 1])
    return tf.raw_ops.MaxPoolV2(input=features, ksize=sides, strides=sides, padding="SAME")

  def down() -> tf.Tensor:
    size = tf.shape(features)[1:3] * factor
    return tf.raw_ops.ResizeNearestNeighbor(images=features, size=size)

  resampled = tf.switch_case(tf.sign(steps) + 1, [down, lambda: features, up])
  resampled.set_shape([features.shape[0], None, None, features.shape[-1]])
  return resampled


def wiring_signature(spec: PyramidSpec) -> Wiring:
  """Returns the shapes of the wirings of a spec's search space, for `tf.function`."""
  wiring = wiring_of(spec)
  return Wiring(*(tf.TensorSpec(part.shape, tf.int32) for part in wiring))
