"""Files that are found under other names, and those that several images share."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from official_nasfpn.data.dataset_info import PARTS, DatasetInfo
from official_nasfpn.data.image_files import find_image_file, take_groups
from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.errors import UserError


def _picture(path, seed=0):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)).save(path)


def _source(folder, names, file="all.json"):
  """Writes annotations with a box for each of some file names, whose ids count from 1."""
  images = [{"id": i, "file_name": name} for i, name in enumerate(names, start=1)]
  boxes = [
    {"id": image["id"], "image_id": image["id"], "category_id": 1, "bbox": [1, 1, 9, 9]}
    for image in images
  ]
  path = folder / file
  categories = [{"id": 1, "name": "a"}]
  path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
  return path


def _prepare(folder, names, **options):
  annotations = _source(folder, names)
  return prepare_dataset(folder / "out", annotations, folder / "images", num_threads=1, **options)


def _ids(prepared):
  info = DatasetInfo.load(prepared.folder)
  contents = [json.loads(info.annotation_file(part).read_text()) for part in PARTS]
  return [{image["id"] for image in content["images"]} for content in contents]


class TestNames:
  @pytest.mark.parametrize(
    "name", ["deep\\a.png", "deep/a.png", ".\\deep\\a.png", "C:\\my\\data\\a.png", "/home/me/a.png"]
  )
  def test_folders_may_be_written_in_any_way_or_not_be_there(self, tmp_path, name):
    _picture(tmp_path / ("deep" if "deep" in name else "") / "a.png")
    found = find_image_file(tmp_path, name)
    assert found.path.name == "a.png"
    assert found.has_backslashes == ("\\" in name)
    assert found.by_last_part == ("deep" not in name)

  def test_a_backslash_that_is_in_the_name_on_disk_is_none(self, tmp_path):
    _picture(tmp_path / "a\\b.png", 1)
    _picture(tmp_path / "a" / "b.png", 2)
    assert find_image_file(tmp_path, "a\\b.png").path == tmp_path / "a\\b.png"
    assert not find_image_file(tmp_path, "a\\b.png").has_backslashes

  @pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "\\", "a\0b", "\ud800.png", "x" * 5000, "x/" * 3000, "folder"]
  )
  def test_what_cannot_be_a_file_is_missing(self, tmp_path, name):
    (tmp_path / "folder").mkdir()
    assert find_image_file(tmp_path, name) is None

  def test_backslashes_are_said(self, tmp_path):
    for number in (1, 2, 3):
      _picture(tmp_path / "images" / "deep" / f"{number}.png", number)
    prepared = _prepare(tmp_path, [f"deep\\{number}.png" for number in (1, 2, 3)])
    assert sum(prepared.num_images.values()) == 3
    assert prepared.report["images_backslashes"]["count"] == 3
    assert set(prepared.report) == {"images_backslashes"}

  def test_names_that_the_system_cannot_take_are_missing_and_said(self, tmp_path):
    _picture(tmp_path / "images" / "fine.png")
    # The name of a file in another encoding, as Python gives it.
    os.link(tmp_path / "images" / "fine.png", os.fsencode(tmp_path / "images") + b"/\xff.png")
    names = ["fine.png", "\ud800.png", "\udcff.png", "x" * 400, "two\nlines.png"]
    prepared = _prepare(tmp_path, names, validation_fraction=0, holdout_fraction=0)
    assert prepared.report["images_missing"]["count"] == 4
    assert all(example.isprintable() for example in prepared.report["images_missing"]["examples"])

  def test_a_last_part_that_is_of_two_images_is_nobodys(self, tmp_path):
    _picture(tmp_path / "images" / "1.png", 1)
    _picture(tmp_path / "images" / "2.png", 2)
    names = ["north/1.png", "south\\1.png", "2.png"]
    prepared = _prepare(tmp_path, names, validation_fraction=0, holdout_fraction=0)
    assert _ids(prepared) == [{3}, set(), set()]
    assert prepared.report["images_ambiguous_file"]["count"] == 2
    with pytest.raises(UserError, match="the last part of its name is that of several images"):
      prepare_dataset(tmp_path / "b", _source(tmp_path, names[:2]), tmp_path / "images")
    assert not (tmp_path / "b").exists()


class TestSharedFiles:
  def test_images_of_one_file_are_in_one_part_and_that_is_said(self, tmp_path):
    for number in range(12):
      _picture(tmp_path / "images" / f"{number}.png", number)
    # A name that differs, and a link, are the same file, too.
    os.link(tmp_path / "images" / "0.png", tmp_path / "images" / "link.png")
    names = [f"{number}.png" for number in range(12)] * 2
    names[12:15] = ["link.png", "./1.png", ".\\2.png"]
    prepared = _prepare(tmp_path, names)
    parts = _ids(prepared)
    assert sum(map(len, parts)) == 24
    for ids in parts:
      assert {id_ + 12 for id_ in ids if id_ <= 12} == {id_ for id_ in ids if id_ > 12}
    assert [len(ids) for ids in parts] == [14, 4, 6]
    assert prepared.report["images_same_file"]["count"] == 12
    assert not any("trained_on" in problem for problem in prepared.report)

  def test_annotations_that_are_given_twice_are_said_with_a_count(self, tmp_path, capsys):
    for number in range(6):
      _picture(tmp_path / "images" / f"{number}.png", number)
    annotations = _source(tmp_path, [f"{number}.png" for number in range(6)])
    prepared = _prepare(
      tmp_path, [f"{number}.png" for number in range(6)], val_annotations=annotations
    )
    assert prepared.num_images == {"train": 5, "holdout": 1, "val": 6}
    assert prepared.report["images_val_trained_on"]["count"] == 6

  def test_the_same_pixels_in_another_file_are_said(self, tmp_path):
    for number in range(6):
      _picture(tmp_path / "images" / f"{number}.png", number)
    # Other bytes, and another format.
    Image.open(tmp_path / "images" / "0.png").save(tmp_path / "images" / "copy.bmp")
    image = Image.open(tmp_path / "images" / "1.png")
    image.save(tmp_path / "images" / "copy.png", compress_level=1)
    names = [f"{number}.png" for number in range(6)]
    val = _source(tmp_path, ["copy.png", "copy.bmp"], "val.json")
    prepared = _prepare(tmp_path, names, val_annotations=val, holdout_fraction=0)
    assert prepared.report["images_val_trained_on"] == {
      "count": 2,
      "examples": ["copy.bmp as 0.png", "copy.png as 1.png"],
    }

  def test_without_equal_keys_the_first_ones_are_taken(self):
    assert take_groups("abcde", range(5), 2) == (["a", "b"], ["c", "d", "e"])

  @pytest.mark.parametrize(
    ("count", "first"), [(0, ""), (1, "ac"), (2, "ac"), (3, "acb"), (9, "acb")]
  )
  def test_groups_are_kept_whole_and_something_is_left(self, count, first):
    found, others = take_groups("abcde", [1, 2, 1, 3, 3], count)
    assert "".join(found) == first
    assert sorted(found + others) == list("abcde")
