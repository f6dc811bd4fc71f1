"""Brightness, contrast and saturation in one pass, held against Model Garden's three."""

import numpy as np
import pytest
import tensorflow as tf
from official.vision.ops import augment, preprocess_ops

from official_nasfpn.data.augmentation.color_jitter import change_colors, jitter_colors
from tests.data.augmentation.rectangles import seed


def image(low=90, high=150):
  pixels = np.random.default_rng(0).integers(low, high, (30, 50, 3))
  return tf.constant(pixels, tf.float32)


@pytest.mark.parametrize(
  "factors", [(1.2, 1, 1), (0.8, 1, 1), (1, 1.4, 1), (1, 1, 0.3), (1.1, 0.7, 1.3)]
)
def test_equals_model_gardens_three_passes_where_nothing_is_clipped(factors):
  brightness, contrast, saturation = factors
  theirs = tf.cast(image(), tf.uint8)
  theirs = augment.brightness(theirs, brightness)
  theirs = augment.contrast(theirs, contrast)
  theirs = preprocess_ops._saturation(theirs, saturation)
  ours = change_colors(image(), *map(tf.constant, map(float, factors)))
  # They cut off to whole numbers three times.
  difference = ours.numpy() - theirs.numpy()
  assert difference.min() > -1
  assert difference.max() < 4


def test_factors_of_one_change_nothing():
  np.testing.assert_allclose(change_colors(image(0, 256), 1.0, 1.0, 1.0), image(0, 256), atol=1e-3)


def test_values_stay_within_their_bounds():
  changed = change_colors(image(0, 256), 1.9, 1.9, 1.9).numpy()
  assert changed.min() == 0
  assert changed.max() == 255


def test_without_saturation_all_is_grey():
  grey = change_colors(image(), 1.0, 1.0, 0.0).numpy()
  np.testing.assert_allclose(
    grey, tf.image.rgb_to_grayscale(image()).numpy().repeat(3, -1), atol=0.1
  )


def test_the_strength_bounds_the_factors_and_one_seed_decides_them():
  # A grey image has no contrast and no colour: only its brightness changes.
  flat = tf.fill([4, 6, 3], 100.0)
  values = np.array([jitter_colors(flat, 0.4, seed(number))[0, 0, 0] for number in range(200)])
  assert 60 <= values.min() < 63
  assert 137 < values.max() <= 140
  assert abs(values.mean() - 100) < 5
  np.testing.assert_array_equal(
    jitter_colors(flat, 0.4, seed(5)), jitter_colors(flat, 0.4, seed(5))
  )
