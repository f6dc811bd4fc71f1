"""Mosaic, copy-paste and mixup: every box frames the pixels of its object, whatever was drawn."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.data.augmentation.mixing import (
  MAX_PASTED,
  _not_hidden,
  mixup,
  mosaic,
  paste_boxes,
)
from official_nasfpn.data.augmentation.views import plain_view
from official_nasfpn.data.config import InputConfig
from tests.data.augmentation.rectangles import (
  assert_boxes_frame_their_colors,
  four_photos,
  photo,
  seed,
  view_of,
)

CONFIG = InputConfig()
SIZE = (256, 320)


def test_boxes_of_a_mosaic_frame_their_objects():
  photos = four_photos()
  make = tf.function(lambda seed: mosaic(photos, CONFIG, SIZE, seed))
  counts, lefts = [], set()
  for number in range(60):
    view = make(seed(number))
    assert view.image.shape == (*SIZE, 3)
    counts.append(assert_boxes_frame_their_colors(view))
    lefts.update(view.boxes.numpy()[:, 1].round().tolist())
  # Most objects are there, and at many places.
  assert np.mean(counts) > 3.5
  assert len(lefts) > 100


def test_an_object_that_a_mosaic_cuts_to_a_sliver_has_no_box():
  photos = four_photos()
  strict = dataclasses.replace(CONFIG, min_visible=0.9, horizontal_flip=False)
  loose = dataclasses.replace(strict, min_visible=0.0)
  make_both = tf.function(
    lambda seed: [mosaic(photos, config, SIZE, seed) for config in (strict, loose)]
  )
  dropped = 0
  for number in range(15):
    kept, every = make_both(seed(number))
    np.testing.assert_array_equal(kept.image, every.image)
    assert set(kept.classes.numpy()) <= set(every.classes.numpy())
    dropped += len(every.classes) - len(kept.classes)
  assert dropped > 5


def test_a_mosaic_of_images_without_boxes_has_none():
  view = mosaic([photo(90, 120)] * 4, CONFIG, SIZE, seed(0))
  assert view.boxes.shape == (0, 4)
  assert view.classes.shape == (0,)


def test_pasted_boxes_frame_their_objects_and_hide_little():
  target = photo(256, 320, (0, 20, 20, 120, 110), (1, 130, 200, 240, 300))
  source = photo(240, 160, (2, 20, 20, 90, 140), (3, 100, 10, 180, 90), (4, 190, 20, 235, 100))
  paste = tf.function(lambda seed: paste_boxes(view_of(target), source, CONFIG, SIZE, seed))
  numbers, kept = [], 0
  for number in range(60):
    view = paste(seed(number))
    assert view.image.shape == (256, 320, 3)
    assert_boxes_frame_their_colors(view)
    pasted = [kind for kind in view.classes.numpy() if kind >= 2]
    kept += len(view.classes) - len(pasted)
    numbers.append(len(pasted))
  assert set(numbers) == {1, 2, MAX_PASTED}
  assert kept > 110


@pytest.mark.parametrize(
  ("min_visible", "expected"),
  [
    # Of the second box all is hidden but its last 20 of 100 rows.
    (0.1, {0: [10, 10, 60, 60], 1: [180, 10, 200, 110]}),
    (0.3, {0: [10, 10, 60, 60]}),
  ],
)
def test_a_box_that_is_hidden_in_part_is_made_smaller_or_dropped(min_visible, expected):
  target = view_of(photo(200, 120, (0, 10, 10, 60, 60), (1, 100, 10, 200, 110)))
  place = tf.constant([80.0, 0.0, 180.0, 120.0])
  boxes, classes = _not_hidden(target.boxes, target.classes, place, min_visible)
  assert classes.numpy().tolist() == list(expected)
  np.testing.assert_allclose(boxes, list(expected.values()), rtol=1e-5)


def test_nothing_is_pasted_of_an_image_without_boxes():
  target = view_of(photo(100, 100, (0, 20, 20, 80, 80)))
  view = paste_boxes(target, photo(90, 120), CONFIG, (100, 100), seed(0))
  np.testing.assert_array_equal(view.image, target.image)
  np.testing.assert_array_equal(view.boxes, target.boxes)


def test_boxes_are_pasted_on_an_image_without_any():
  source = photo(100, 100, (3, 20, 20, 80, 80))
  for number in range(5):
    view = paste_boxes(view_of(photo(90, 120)), source, CONFIG, (100, 120), seed(number))
    assert assert_boxes_frame_their_colors(view) == 1


def test_a_pasted_object_is_at_most_half_as_large_as_the_view():
  source = photo(100, 100, (3, 0, 0, 100, 100))
  target = view_of(photo(90, 120))
  view = paste_boxes(target, source, CONFIG, (100, 120), seed(0))
  height, width = (view.boxes[0, 2:] - view.boxes[0, :2]).numpy()
  assert height == width == 45


def test_mixup_blends_two_views_and_has_the_boxes_of_both():
  one = view_of(photo(100, 160, (0, 20, 20, 80, 60)))
  two = view_of(photo(140, 120, (1, 90, 70, 130, 110)))
  weights = []
  for number in range(40):
    view = mixup(one, two, seed(number))
    assert view.image.shape == (140, 160, 3)
    np.testing.assert_array_equal(view.boxes, [[20, 20, 80, 60], [90, 70, 130, 110]])
    assert view.classes.numpy().tolist() == [0, 1]
    red = float(view.image[50, 40, 0]) / 255
    weights.append(red)
    # The same weight everywhere; the second view is black there.
    np.testing.assert_allclose(view.image[20:80, 20:60, 0], 255 * red, rtol=1e-5)
    np.testing.assert_allclose(view.image[105, 90, 1], 255 * (1 - red), atol=115 * red + 1)
  assert 0.1 < min(weights) < 0.4 < np.mean(weights) < 0.6 < max(weights) < 0.9


def test_one_seed_decides_all():
  photos = four_photos()
  view = plain_view(photos[0], CONFIG, SIZE, seed(0))
  makers = {
    "mosaic": lambda seed: mosaic(photos, CONFIG, SIZE, seed),
    "paste": lambda seed: paste_boxes(view, photos[3], CONFIG, SIZE, seed),
    "mixup": lambda seed: mixup(view, view_of(photos[2]), seed),
  }
  for name, maker in makers.items():
    make = tf.function(maker)
    same, again, other = make(seed(1)), make(seed(1)), make(seed(2))
    np.testing.assert_array_equal(same.image, again.image, name)
    np.testing.assert_array_equal(same.boxes, again.boxes, name)
    assert not np.array_equal(same.image, other.image), name
