"""Images that look alike are found in any number, in little memory."""

import tracemalloc

import numpy as np

from official_nasfpn.data.doctor.duplicates import same_looks
from official_nasfpn.data.doctor.examination import ExaminedImage
from official_nasfpn.data.report import Report

BITS = 256
# As the doctor has it.
MOST_DIFFERENT = 8


def _image(place, looks, pixels=None):
  pixels = str(place) if pixels is None else pixels
  return ExaminedImage("train", "", None, (8, 8), str(place), pixels, looks, (), (), Report())


def _images(looks):
  return [_image(place, row) for place, row in enumerate(looks)]


def _different(looks, places):
  """Returns looks that differ in the bits at `places`."""
  bits = np.unpackbits(looks)
  bits[places] ^= 1
  return np.packbits(bits)


def _random(count, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (count, BITS // 8), np.uint8)


def test_all_that_look_alike_are_found_however_many_images_there_are():
  looks = _random(21_000)
  draw = np.random.default_rng(1)
  for place in range(100):
    bits = draw.choice(BITS, MOST_DIFFERENT + place % 2, replace=False)
    looks[20_000 + place] = _different(looks[place], bits)
  assert same_looks(_images(looks)) == [[place, 20_000 + place] for place in range(0, 100, 2)]


def test_bits_that_differ_may_lie_anywhere():
  (looks,) = _random(1)
  for step in range(1, 33):
    other = _different(looks, np.arange(MOST_DIFFERENT) * step)
    assert same_looks(_images([looks, other])) == [[0, 1]]
    other = _different(looks, np.arange(MOST_DIFFERENT + 1) * (step - 1 or 1))
    assert same_looks(_images([looks, other])) == []


def test_what_is_found_is_what_comparing_every_pair_finds():
  draw = np.random.default_rng(2)
  looks = list(_random(12))
  while len(looks) < 300:
    parent = looks[draw.integers(len(looks))]
    looks.append(_different(parent, draw.choice(BITS, draw.integers(5, 14), replace=False)))
  different = np.bitwise_count(np.array(looks)[:, None] ^ np.array(looks)).sum(axis=2)
  expected, left = [], set(range(len(looks)))
  while left:
    group, new = set(), {min(left)}
    while new:
      group |= new
      new = set(np.flatnonzero((different[list(new)] <= MOST_DIFFERENT).any(axis=0))) - group
    left -= group
    expected += [sorted(group)] if len(group) > 1 else []
  assert len(expected) > 5
  assert same_looks(_images(looks)) == expected


def test_images_of_the_same_pixels_are_no_group_and_belong_to_that_of_another_one():
  looks = _random(3)
  near = _different(looks[0], [0])
  images = [
    _image(0, looks[0], "a"), _image(1, looks[0], "a"), _image(2, near, "b"),
    _image(3, looks[1], "c"), _image(4, looks[1], "c"),
    _image(5, looks[2], "d"), _image(6, looks[2], "e"),
  ]  # fmt: skip
  assert same_looks(images) == [[0, 1, 2], [5, 6]]


def test_flat_images_and_broken_ones_look_like_none():
  flat = np.zeros(BITS // 8, np.uint8)
  assert same_looks([]) == []
  assert same_looks([_image(0, None), _image(1, None), *_images([flat, flat])]) == []


def test_frames_of_a_fixed_camera_take_little_memory():
  equal = np.repeat(_random(1), 20_000, axis=0)
  bits = np.unpackbits(equal, axis=1)
  places = np.random.default_rng(3).integers(0, BITS, (20_000, 3))
  bits[np.arange(20_000)[:, None], places] ^= 1
  for frames in (equal, np.packbits(bits, axis=1)):
    images = _images(frames)
    tracemalloc.start()
    try:
      groups = same_looks(images)
      peak = tracemalloc.get_traced_memory()[1]
    finally:
      tracemalloc.stop()
    assert groups == [list(range(20_000))]
    # All pairs would be 200 million.
    assert peak < 50e6
