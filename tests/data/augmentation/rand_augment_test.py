"""RandAugment: its geometry carries boxes along, its colours are Model Garden's."""

import numpy as np
import pytest
import tensorflow as tf
from official.vision.ops import augment

from official_nasfpn.data.augmentation.rand_augment import _operations, rand_augment
from official_nasfpn.data.augmentation.views import GREY
from tests.data.augmentation.rectangles import (
  assert_boxes_frame_their_colors,
  photo,
  seed,
  view_of,
)

GEOMETRY = ("rotate", "shear x", "shear y", "shift x", "shift y")
UP, DOWN = 1.0, -1.0


def scene():
  return view_of(photo(200, 300, (0, 60, 60, 130, 160), (1, 80, 190, 150, 280), (2, 5, 5, 45, 50)))


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("sign", [UP, DOWN])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_boxes_follow_their_objects(name, sign, strength):
  operation = _operations(strength, min_visible=0.5)[name]
  moved = operation(scene(), tf.constant(sign))
  assert moved.image.shape == (200, 300, 3)
  # A corner that was turned is a point, which no pixel is.
  assert assert_boxes_frame_their_colors(moved, tolerance=2.5) >= 1
  first = moved.boxes.numpy()[moved.classes.numpy() == 0]
  assert np.abs(first - [60, 60, 130, 160]).max() > 3


def test_what_is_shifted_outside_loses_its_box():
  everything = _operations(1.0, min_visible=0.5)["shift x"](scene(), tf.constant(DOWN))
  # 90 columns to the left: the third is outside, of the first a part.
  assert everything.classes.numpy().tolist() == [0, 1]
  np.testing.assert_allclose(everything.boxes[0], [60, 0, 130, 70], rtol=1e-5)
  strict = _operations(1.0, min_visible=0.9)["shift x"](scene(), tf.constant(DOWN))
  assert strict.classes.numpy().tolist() == [1]


def test_a_shift_equals_model_gardens_but_for_what_it_leaves_empty():
  pixels = np.random.default_rng(0).integers(0, 256, (40, 100, 3), np.uint8)
  view = view_of(photo(40, 100))._replace(image=tf.constant(pixels, tf.float32))
  ours = _operations(1.0, 0.5)["shift x"](view, tf.constant(UP)).image.numpy()
  theirs = augment.translate_x(tf.constant(pixels), -30, [128] * 3).numpy()
  np.testing.assert_allclose(ours[:, 30:], theirs[:, 30:], atol=1e-3)
  np.testing.assert_allclose(ours[:, :30], GREY, atol=1e-3)
  # Theirs is the mirrored image, where objects have no boxes.
  np.testing.assert_array_equal(theirs[:, :30], pixels[:, :30][:, ::-1])


@pytest.mark.parametrize("name", [*GEOMETRY, "colour", "contrast", "brightness", "sharpness"])
def test_a_greater_magnitude_changes_more_in_both_directions(name):
  pixels = np.random.default_rng(1).uniform(60, 190, (20, 30, 3)).repeat(5, 0).repeat(5, 1)
  view = view_of(photo(100, 150, (0, 20, 20, 80, 130)))
  view = view._replace(image=tf.constant(pixels, tf.float32))
  for sign in (UP, DOWN):
    changes = [
      float(tf.reduce_mean(tf.abs(moved.image - view.image)))
      for strength in (0.05, 0.5, 1.0)
      for moved in [_operations(strength, 0.0)[name](view, tf.constant(sign))]
    ]
    assert changes[0] < changes[1]
    # What is shifted by half of its structure is as different as can be.
    assert changes[2] > 0.8 * changes[1] if name in GEOMETRY else changes[2] > changes[1]


def test_every_operation_is_drawn_and_one_seed_decides_all():
  apply = tf.function(lambda seed: rand_augment(scene(), 2, 7.0, 0.25, seed))
  names = set()
  for number in range(60):
    view, done = apply(seed(number))
    names.update(name.decode() for name in done.numpy())
    assert view.image.shape == (200, 300, 3)
    assert np.isfinite(view.image).all()
    assert (view.boxes.numpy()[:, 2:] <= [200, 300]).all()
    assert (view.boxes.numpy()[:, :2] >= 0).all()
    assert len(view.boxes) == len(view.classes) <= 3
  assert names == set(_operations(0.7, 0.25))
  assert len(names) == 14
  np.testing.assert_array_equal(apply(seed(3))[0].image, apply(seed(3))[0].image)


def test_a_view_without_boxes_stays_without():
  empty = view_of(photo(50, 70))
  for name, operation in _operations(1.0, 0.25).items():
    moved = operation(empty, tf.constant(UP))
    assert moved.boxes.shape == (0, 4), name
    assert np.isfinite(moved.image).all(), name
