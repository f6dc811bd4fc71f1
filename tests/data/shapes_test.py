"""The embedded dataset."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from official_nasfpn.data.shapes import CATEGORIES, ShapesConfig, write_shapes_dataset
from official_nasfpn.errors import UserError


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
  folder = tmp_path_factory.mktemp("shapes")
  write_shapes_dataset(folder, ShapesConfig(200, 128), seed=0)
  return folder, json.loads((folder / "annotations.json").read_text())


def _digest(folder):
  hasher = hashlib.sha256()
  for path in sorted(folder.rglob("*.j*")):
    hasher.update(path.name.encode() + path.read_bytes())
  return hasher.hexdigest()


def _write(folder, *args):
  folder.mkdir()
  write_shapes_dataset(folder, *args)
  return _digest(folder)


def test_seed_decides_every_byte(tmp_path):
  config = ShapesConfig(8, 96)
  first = _write(tmp_path / "a", config, 3)
  assert _write(tmp_path / "b", config, 3) == first
  assert _write(tmp_path / "c", config, 4) != first


def test_more_images_begin_with_the_same_ones(tmp_path):
  _write(tmp_path / "a", ShapesConfig(2, 96), 0)
  _write(tmp_path / "b", ShapesConfig(5, 96), 0)
  for name in ("000001.jpg", "000002.jpg"):
    first, second = (tmp_path / folder / "images" / name for folder in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_category_ids_have_gaps_and_all_occur_about_equally(shapes):
  _, content = shapes
  counts = {category.id: 0 for category in CATEGORIES}
  assert np.diff(list(counts)).min() > 1
  for row in content["annotations"]:
    counts[row["category_id"]] += 1
  assert min(counts.values()) > 0.6 * max(counts.values())


def test_boxes_lie_inside_images_of_many_aspect_ratios(shapes):
  folder, content = shapes
  sizes = {}
  for row in content["images"]:
    with Image.open(folder / "images" / row["file_name"]) as image:
      assert image.size == (row["width"], row["height"])
    sizes[row["id"]] = image.size
  ratios = [width / height for width, height in sizes.values()]
  assert min(ratios) < 0.75
  assert max(ratios) > 1.33
  for row in content["annotations"]:
    x, y, width, height = row["bbox"]
    assert min(x, y) >= 0
    assert width > 0 < height
    assert x + width <= sizes[row["image_id"]][0]
    assert y + height <= sizes[row["image_id"]][1]
    assert row["area"] <= width * height


def test_sizes_span_a_factor_of_eight(shapes):
  _, content = shapes
  sides = [max(row["bbox"][2:]) for row in content["annotations"]]
  assert min(sides) < 14
  assert max(sides) > 8 * min(sides)


def test_some_images_are_empty_and_some_boxes_overlap(shapes):
  _, content = shapes
  boxes = {row["id"]: [] for row in content["images"]}
  for row in content["annotations"]:
    boxes[row["image_id"]].append(row["bbox"])
  assert 0 < sum(not rows for rows in boxes.values()) < 20
  overlapping = 0
  for rows in boxes.values():
    for i, (x, y, w, h) in enumerate(rows):
      overlapping += any(
        x < u + s and u < x + w and y < v + t and v < y + h for u, v, s, t in rows[:i]
      )
  assert overlapping > 0.1 * len(content["annotations"])


def test_every_object_differs_from_what_surrounds_it(shapes):
  """Inside and outside of a box's outline differ, so that no label is a riddle."""
  folder, content = shapes
  files = {row["id"]: row["file_name"] for row in content["images"]}
  faint = 0
  for row in content["annotations"]:
    pixels = np.asarray(Image.open(folder / "images" / files[row["image_id"]]), float)
    left, top, width, height = (int(side) for side in row["bbox"])
    middle = pixels[top + height // 3 : top + height - height // 3, left + width // 3 :][
      :, : width // 3 + 1
    ]
    ring = np.concatenate(
      [
        pixels[max(top - 3, 0) : top, left : left + width].reshape(-1, 3),
        pixels[top + height : top + height + 3, left : left + width].reshape(-1, 3),
        pixels[top : top + height, max(left - 3, 0) : left].reshape(-1, 3),
      ]
    )
    faint += np.abs(middle.mean((0, 1)) - ring.mean(0)).max() < 10
  assert faint < 0.05 * len(content["annotations"])


@pytest.mark.parametrize("values", [{"num_images": 0}, {"image_size": 32}])
def test_sizes_that_cannot_work_are_refused(values):
  with pytest.raises(UserError, match=next(iter(values))):
    ShapesConfig(**values)
