"""DropBlock drops whole blocks at the right rate, and keeps the mean."""

import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.architecture import CATALOG
from official_nasfpn.modeling.drop_block import Drop, drop_blocks
from official_nasfpn.modeling.feature_pyramid import FeaturePyramid


def drop(rate, seed=0):
  return Drop(tf.constant(rate), tf.constant([seed, 0]))


def dropped_pixels(shape, rate, seed=0, block_size=3):
  return drop_blocks(tf.ones(shape), drop(rate, seed), block_size).numpy() == 0


def test_rate_zero_changes_nothing():
  features = tf.random.stateless_normal([2, 8, 8, 4], [0, 0])
  np.testing.assert_array_equal(drop_blocks(features, drop(0.0)), features)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("block_size", [1, 3, 5])
def test_about_the_rate_is_dropped(rate, block_size):
  # The formula neglects that blocks overlap: at high rates a little less is dropped.
  share = dropped_pixels([8, 32, 40, 64], rate, block_size=block_size).mean()
  assert 0.88 * rate < share < 1.01 * rate


def test_only_whole_blocks_within_the_map_are_dropped():
  dropped = dropped_pixels([4, 12, 20, 8], 0.1)
  starts = np.lib.stride_tricks.sliding_window_view(dropped, (3, 3), axis=(1, 2)).all(axis=(-2, -1))
  covered = np.zeros_like(dropped)
  for row in range(3):
    for column in range(3):
      covered[:, row : row + 10, column : column + 18] |= starts
  assert dropped.any()
  np.testing.assert_array_equal(covered, dropped)


def test_images_and_channels_lose_their_own_blocks():
  dropped = dropped_pixels([4, 16, 16, 8], 0.3)
  maps = dropped.transpose(0, 3, 1, 2).reshape(32, -1)
  assert len(np.unique(maps, axis=0)) == 32


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_the_mean_is_kept(dtype):
  kept = drop_blocks(tf.ones([4, 16, 16, 32], dtype), drop(0.2))
  assert kept.dtype == dtype
  assert float(tf.reduce_mean(tf.cast(kept, tf.float32))) == pytest.approx(1, rel=0.005)
  assert len(np.unique(kept.numpy().astype(np.float32))) == 2


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 5), (3, 3)])
def test_a_map_smaller_than_a_block_loses_what_a_block_would_cover(size):
  dropped = dropped_pixels([64, *size, 64], 0.1)
  height, width = min(3, size[0]), min(3, size[1])
  assert dropped.mean() == pytest.approx(0.1, rel=0.15)
  assert set(np.unique(dropped[..., 0].sum(axis=(1, 2)))) <= set(
    range(0, size[0] * size[1] + 1, height)
  )
  assert (dropped.sum(axis=(1, 2)) >= height * width).any()


def test_the_seed_fixes_the_blocks():
  first = dropped_pixels([2, 8, 8, 4], 0.2, seed=1)
  np.testing.assert_array_equal(dropped_pixels([2, 8, 8, 4], 0.2, seed=1), first)
  assert (dropped_pixels([2, 8, 8, 4], 0.2, seed=2) != first).any()


def test_everything_dropped_is_zero_and_not_nan():
  assert float(tf.reduce_sum(drop_blocks(tf.ones([1, 1, 1, 1]), drop(1.0)))) == 0


def test_gradients_flow_through_what_is_kept():
  features = tf.ones([1, 8, 8, 4])
  with tf.GradientTape() as tape:
    tape.watch(features)
    kept = drop_blocks(features, drop(0.2))
    total = tf.reduce_sum(kept)
  np.testing.assert_array_equal(tape.gradient(total, features), kept)


def test_xla_drops_as_much():
  features = tf.ones([8, 32, 32, 64])
  kept = tf.function(lambda: drop_blocks(features, drop(0.1)), jit_compile=True)().numpy()
  assert 0.09 < (kept == 0).mean() < 0.1
  assert kept.mean() == pytest.approx(1, rel=1e-5)


@pytest.fixture(scope="module")
def pyramid():
  return FeaturePyramid(CATALOG["nas_fpn"], num_filters=16, num_repeats=2)


@pytest.fixture(scope="module")
def inputs():
  return {
    str(level): tf.random.stateless_normal([2, 256 >> level, 256 >> level, 16], [level, 0])
    for level in (3, 4, 5)
  }


def test_every_cell_of_every_repeat_drops_other_blocks(pyramid, inputs):
  pyramids = pyramid(inputs, training=True, drop=drop(0.2))
  # Dropped values are exactly zero; after batch norm no others are.
  zeros = [{level: map.numpy() == 0 for level, map in maps.items()} for maps in pyramids]
  for maps in zeros:
    for level in ("3", "4", "5"):
      assert 0.1 < maps[level].mean() < 0.25, level
  assert (zeros[0]["3"] != zeros[1]["3"]).any()
  assert (zeros[0]["4"] != zeros[0]["3"][:, :16, :16]).any()


def test_a_pyramid_at_inference_drops_nothing(pyramid, inputs):
  expected = pyramid(inputs, training=False)
  for maps, plain in zip(pyramid(inputs, training=False, drop=drop(0.5)), expected, strict=True):
    for level, map in maps.items():
      np.testing.assert_array_equal(map, plain[level])
