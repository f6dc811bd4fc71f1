"""Crops of one image, and which boxes they leave."""

import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.data.augmentation.views import areas, boxes_in_crop, random_crop
from tests.data.augmentation.rectangles import (
  assert_boxes_frame_their_colors,
  photo,
  seed,
  view_of,
)


def test_a_random_crop_keeps_an_object_whole_and_its_boxes_right():
  three = photo(200, 300, (0, 20, 20, 90, 80), (1, 60, 150, 150, 280), (2, 120, 20, 190, 110))
  whole = areas(view_of(three).boxes).numpy()
  crop = tf.function(lambda seed: random_crop(three, 0.25, seed))
  sizes, lost = set(), 0
  for number in range(60):
    cropped = crop(seed(number))
    view = view_of(cropped)
    lost += 3 - assert_boxes_frame_their_colors(view)
    shares = areas(view.boxes).numpy() / whole[view.classes.numpy()]
    assert shares.max() == pytest.approx(1, abs=0.03)
    assert shares.min() > 0.24
    height, width, _ = cropped.image.shape
    assert height * width > 0.29 * 200 * 300
    sizes.add((height, width))
  assert len(sizes) > 30
  assert lost > 10


def test_an_image_without_boxes_is_cropped_too():
  empty = photo(100, 150)
  shapes = {tuple(random_crop(empty, 0.25, seed(number)).image.shape) for number in range(8)}
  assert len(shapes) > 4


def test_an_object_that_fills_the_image_leaves_it_whole():
  full = photo(60, 80, (0, 0, 0, 60, 80))
  cropped = random_crop(full, 0.25, seed(0))
  assert cropped.image.shape == (60, 80, 3)
  np.testing.assert_allclose(cropped.boxes, [[0, 0, 1, 1]])


@pytest.mark.parametrize(("min_visible", "kept"), [(0.0, 3), (0.25, 2), (0.4, 1), (1.0, 1)])
def test_boxes_of_which_too_little_is_left_are_dropped(min_visible, kept):
  """Of three boxes of 40 pixels a crop of 100 columns has all, three tenths, and a tenth."""
  boxes = tf.constant([[0, 10, 40, 50], [0, 88, 40, 128], [0, 96, 40, 136]], tf.float32) / 200
  cropped, classes = boxes_in_crop(
    boxes,
    tf.constant([4, 5, 6]),
    tf.constant([200.0, 200.0]),
    tf.constant([0.0, 0.0]),
    tf.constant([200.0, 100.0]),
    min_visible,
  )
  assert classes.numpy().tolist() == [4, 5, 6][:kept]
  expected = [[0, 10, 40, 50], [0, 88, 40, 100], [0, 96, 40, 100]][:kept]
  np.testing.assert_allclose(cropped, expected, atol=1e-4)
