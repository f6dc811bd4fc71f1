"""DropBlock (Ghiasi, Lin, Le 2018): training drops contiguous parts of feature maps."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

BLOCK_SIZE = 3


class Drop(NamedTuple):
  """What one train step drops.

  Attributes:
    rate: the share of each map to drop, in [0, 1), float32 [].
    seed: int32 [2]; the same seed drops the same blocks, but others when compiled by XLA.
  """

  rate: tf.Tensor
  seed: tf.Tensor

  def part(self, index: int | tf.Tensor) -> Drop:
    """Returns the drop for one of several places, with different blocks in each."""
    return Drop(self.rate, tf.random.experimental.stateless_fold_in(self.seed, index))


def drop_blocks(features: tf.Tensor, drop: Drop, block_size: int = BLOCK_SIZE) -> tf.Tensor:
  """Sets random blocks to zero and scales the rest, so that the mean is kept (algorithm 1).

  Every channel of every image loses blocks of its own, all of which lie within the map.

  Args:
    features: [batch, height, width, channels] of static size, but for the batch.
    drop: how much, and which.
    block_size: side of the square blocks, in pixels of the map; at most the sides of the map.

  Returns:
    The map with some blocks dropped, of the dtype of `features`.
  """
  height, width, channels = features.shape[1:]
  block_height, block_width = min(block_size, height), min(block_size, width)
  positions = (height - block_height + 1, width - block_width + 1)
  # The rate at which blocks have to start to drop the wanted share of pixels, neglecting overlaps.
  share_of_starts = drop.rate * (height * width) / (block_height * block_width)
  share_of_starts /= positions[0] * positions[1]
  noise = tf.random.stateless_uniform([tf.shape(features)[0], *positions, channels], drop.seed)
  starts = tf.cast(noise < share_of_starts, features.dtype)
  # A pixel is dropped if a block starts at it or less than a block before it.
  margins = [[0, 0], [block_height - 1] * 2, [block_width - 1] * 2, [0, 0]]
  window = (block_height, block_width)
  dropped = tf.nn.max_pool2d(tf.pad(starts, margins), window, strides=1, padding="VALID")
  kept = 1 - dropped
  # Counted in float32: bfloat16 cannot count beyond 256.
  kept_share = tf.reduce_mean(tf.cast(kept, tf.float32))
  return features * kept * tf.cast(tf.math.divide_no_nan(1.0, kept_share), features.dtype)
