"""What the merge ops compute (section 3.1, Figure 3)."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf


class MergeInput(NamedTuple):
  """One of the two feature maps that a cell merges.

  Attributes:
    at_cell_level: the map resampled to the cell's level, [batch, height, width, channels].
    global_max: returns the largest value of each channel, [batch, 1, 1, channels].
  """

  at_cell_level: tf.Tensor
  global_max: Callable[[], tf.Tensor]


def _sum(coarse: MergeInput, fine: MergeInput) -> tf.Tensor:
  """Adds both maps."""
  return coarse.at_cell_level + fine.at_cell_level


def _global_pool(coarse: MergeInput, fine: MergeInput) -> tf.Tensor:
  """Adds the coarse map to the fine one gated, per channel, by the coarse map's global maximum.

  Maximum and sigmoid are those of the authors' released code.
  """
  return coarse.at_cell_level + fine.at_cell_level * tf.sigmoid(coarse.global_max())


# By the names of `architecture.MERGE_OPS`. The coarse map comes first: that of the higher level, or
# at equal levels the cell's first input.
MERGE_FUNCTIONS: Mapping[str, Callable[[MergeInput, MergeInput], tf.Tensor]] = {
  "sum": _sum,
  "global_pool": _global_pool,
}
