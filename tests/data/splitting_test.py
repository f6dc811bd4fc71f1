"""What is put aside for validation: exact numbers, every class, whole files."""

from collections import Counter

import numpy as np
import pytest

from official_nasfpn.data.coco_json import AnnotatedImage
from official_nasfpn.data.splitting import shuffled, split_off


def _images(classes_of):
  return shuffled(
    [
      AnnotatedImage(id_, f"{id_}.jpg", None, tuple({"category_id": c} for c in classes))
      for id_, classes in enumerate(classes_of)
    ],
    seed=0,
  )


def _counts(images):
  return Counter(name for image in images for name in {r["category_id"] for r in image.annotations})


def test_every_class_has_its_share_where_a_draw_by_lot_would_miss_some():
  rng = np.random.default_rng(0)
  # One class in nearly all images, twenty in two to nine.
  classes_of = [{0} if rng.random() < 0.9 else set() for _ in range(300)]
  for rare in range(1, 21):
    for place in rng.choice(300, 2 + rare % 8, replace=False):
      classes_of[place].add(rare)
  images = _images(classes_of)
  aside, rest = split_off(images, {}, 0.2)
  assert len(aside) == 60
  assert sorted(image.id for image in (*aside, *rest)) == list(range(300))
  counts, total = _counts(aside), _counts(images)
  assert all(1 <= counts[name] < total[name] for name in total)
  assert abs(counts[0] / total[0] - 0.2) < 0.02
  background = sum(not image.annotations for image in aside)
  assert abs(background / sum(not image.annotations for image in images) - 0.2) < 0.1
  # By lot alone: the first 60 of the same order.
  by_lot = _counts(images[:60])
  assert any(by_lot[name] == 0 for name in total)


def test_the_number_is_exact_and_never_none_or_all():
  images = _images([{1}] * 10)
  for fraction, number in ((0.0, 0), (0.01, 1), (0.2, 2), (0.5, 5), (0.99, 9)):
    aside, rest = split_off(images, {}, fraction)
    assert (len(aside), len(rest)) == (number, 10 - number)


def test_it_depends_on_the_seed_and_on_nothing_else():
  classes_of = [{i % 3} for i in range(30)]
  first = split_off(_images(classes_of), {}, 0.3)
  assert split_off(_images(classes_of), {}, 0.3) == first
  other = split_off(shuffled(first[0] + first[1], seed=1), {}, 0.3)
  assert {image.id for image in other[0]} != {image.id for image in first[0]}


def test_a_class_with_one_image_is_trained_on():
  images = _images([{1}] * 9 + [{2}])
  aside, _ = split_off(images, {}, 0.2)
  assert _counts(aside) == {1: 2}


@pytest.mark.parametrize("fraction", [0.2, 0.4])
def test_the_same_file_and_roboflows_copies_stay_together(tmp_path, fraction):
  files, images = {}, []
  for id_ in range(40):
    # Each of twenty photographs twice: the even ones under two names, the odd ones as copies.
    scene = id_ // 2
    name = f"{id_}.jpg" if scene % 2 else f"{scene}_jpg.rf.{id_:032x}.jpg"
    files[id_] = tmp_path / name
    files[id_].write_bytes(b"%02d" % (scene if scene % 2 else id_ + 50))
    images.append(AnnotatedImage(id_, name, None, ({"category_id": 1},)))
  aside, rest = split_off(shuffled(images, 0), files, fraction)
  assert len(aside) == 40 * fraction
  assert not {image.id // 2 for image in aside} & {image.id // 2 for image in rest}
  # Without knowing the files some are torn apart.
  torn, others = split_off(_images([{1}] * 40), {}, fraction)
  assert {image.id // 2 for image in torn} & {image.id // 2 for image in others}


def test_what_cannot_stay_together_is_split_all_the_same(tmp_path):
  images = _images([{1}] * 10)
  for image in images:
    (tmp_path / image.file_name).write_bytes(b"one and the same")
  aside, rest = split_off(images, {i.id: tmp_path / i.file_name for i in images}, 0.2)
  assert (len(aside), len(rest)) == (2, 8)
