"""Faults put into a clean dataset are found, each under its own name, and shown in the page."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from official_nasfpn.data.doctor.check import check_dataset
from official_nasfpn.data.doctor.meanings import MEANINGS, Grade
from official_nasfpn.data.report import PROBLEMS
from official_nasfpn.errors import UserError

SIZE = (160, 120)
CATEGORIES = [{"id": 1, "name": "cell"}, {"id": 2, "name": "dust"}]
# Doubtful in any small dataset.
ALWAYS = {"classes_rare"}


def _picture(seed):
  """Returns blots that look like no other picture's."""
  coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
  return Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)


def _dataset(folder):
  """Makes two splits of eight images, each with a cell and a speck of dust."""
  for number, split in enumerate(("train", "valid")):
    (folder / split).mkdir(parents=True)
    content = {"images": [], "annotations": [], "categories": CATEGORIES}
    for place in range(8):
      id_ = 10 * number + place
      _picture(id_).save(folder / split / f"{id_}.png")
      row = {"id": id_, "file_name": f"{id_}.png", "width": SIZE[0], "height": SIZE[1]}
      content["images"].append(row)
      for category, box in ((1, [20 + place, 20, 40, 35]), (2, [100, 60 + place, 30, 30])):
        _add(content, id_, box, category)
    _save(folder, split, content)
  return folder


def _add(content, image_id, box, category=1):
  number = len(content["annotations"]) + 1
  content["annotations"].append(
    {"id": number, "image_id": image_id, "category_id": category, "bbox": box}
  )


def _load(folder, split="train"):
  return json.loads((folder / split / "_annotations.coco.json").read_text())


def _save(folder, split, content):
  (folder / split / "_annotations.coco.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
  return _dataset(tmp_path_factory.mktemp("clean") / "data")


@pytest.fixture
def folder(tmp_path, clean):
  shutil.copytree(clean, tmp_path / "data")
  return tmp_path / "data"


def _found(folder, **options):
  checked = check_dataset(folder, num_threads=1, **options)
  return {finding.key: finding for finding in checked.findings if finding.key not in ALWAYS}


def test_in_a_clean_dataset_nothing_is_found(clean):
  checked = check_dataset(clean, num_threads=1)
  assert {finding.key for finding in checked.findings} <= ALWAYS
  assert checked.num_images == {"train": 8, "val": 8}
  assert checked.num_boxes == {"cell": {"train": 8, "val": 8}, "dust": {"train": 8, "val": 8}}


@pytest.mark.parametrize(
  ("box", "key"),
  [
    ([0, 0, 160, 120], "boxes_whole_image"),
    ([70, 10, 2, 3], "boxes_tiny"),
    ([5, 80, 90, 4], "boxes_thin"),
    ([500, 10, 20, 20], "boxes_outside"),
    ([150, 10, 20, 20], "boxes_clipped"),
    ([0.25, 0.5, 0.5, 0.25], "boxes_normalised"),
    ([20.2, 20, 40, 35], "boxes_twice"),
    ([1, 2, 0, 3], "boxes_no_area"),
    (["a", 2, 3, 3], "boxes_malformed"),
  ],
)
def test_a_box_that_is_wrong_is_found(folder, box, key):
  content = _load(folder)
  _add(content, 0, box)
  _save(folder, "train", content)
  finding = _found(folder)[key]
  assert finding.count == 1
  assert "0.png" in finding.examples[0]
  assert finding.meaning


def test_a_box_of_two_classes(folder):
  content = _load(folder)
  _add(content, 0, [20, 20, 40, 35], category=2)
  _save(folder, "train", content)
  found = _found(folder)
  assert found["boxes_two_classes"].examples == ("0.png: cell and dust",)
  assert "boxes_twice" not in found


def test_corners_in_place_of_sides(folder):
  content = _load(folder)
  for row in content["annotations"]:
    x, y, width, height = row["bbox"]
    row["bbox"] = [x, y, x + width, y + height]
  for split in ("train", "valid"):
    other = _load(folder, split)
    for row in other["annotations"]:
      x, y, width, height = row["bbox"]
      row["bbox"] = [x, y, x + width, y + height]
    _save(folder, split, other)
  finding = _found(folder)["boxes_corners"]
  assert finding.grade is Grade.BAD
  assert finding.count == 16  # The boxes of dust; cells fit as sides, too.


def _copy_of_file(folder):
  shutil.copy(folder / "train" / "3.png", folder / "valid" / "13.png")


def _copy_of_pixels(folder):
  Image.open(folder / "train" / "3.png").save(folder / "valid" / "13.png", compress_level=0)


def _scaled_copy(folder):
  image = Image.open(folder / "train" / "3.png").resize((120, 90)).resize(SIZE)
  image.save(folder / "valid" / "13.png")


@pytest.mark.parametrize(
  ("copy", "key"),
  [
    (_copy_of_file, "leaks_files"),
    (_copy_of_pixels, "leaks_pixels"),
    (_scaled_copy, "leaks_looks"),
  ],
)
def test_an_image_in_two_splits_is_found_once(folder, copy, key):
  copy(folder)
  found = _found(folder)
  assert found[key].examples == ("3.png (train) = 13.png (val)",)
  assert [name for name in found if name.startswith("leaks_")] == [key]


def test_the_same_image_twice_in_a_split(folder):
  shutil.copy(folder / "train" / "3.png", folder / "train" / "4.png")
  found = _found(folder)
  assert found["duplicate_files"].count == 1
  assert not any(name.startswith("leaks_") for name in found)


def test_classes_that_a_split_lacks_and_names_that_are_nearly_the_same(folder):
  for split in ("train", "valid"):
    content = _load(folder, split)
    content["categories"] = [*CATEGORIES, {"id": 3, "name": "Cell "}, {"id": 4, "name": "fibre"}]
    if split == "valid":
      content["annotations"] = [row for row in content["annotations"] if row["category_id"] == 1]
    else:
      _add(content, 0, [60, 90, 20, 20], category=3)
    _save(folder, split, content)
  found = _found(folder)
  assert found["classes_alike"].examples == ("'cell' / 'Cell'",)
  assert found["classes_empty"].examples == ("fibre",)
  assert found["classes_unmeasured"].examples == ("dust", "Cell")
  assert found["classes_unmeasured"].title.endswith("val")


def test_a_broken_image_and_a_missing_one(folder):
  (folder / "train" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
  (folder / "train" / "5.png").unlink()
  found = _found(folder)
  assert found["images_broken"].examples == ["2.png"]
  assert found["images_missing"].examples == ["5.png"]


def test_what_it_means_is_known_of_reported_problems_that_cost_boxes():
  assert set(MEANINGS) - set(PROBLEMS) == {key for key in MEANINGS if MEANINGS[key][1]}
  for key in ("images_missing", "boxes_outside", "boxes_clipped", "boxes_no_area"):
    assert MEANINGS[key][2]


def test_the_page_is_complete_in_itself_and_shows_the_worst(folder, tmp_path):
  content = _load(folder)
  content["categories"][0]["name"] = "<script>alert(1)</script>"
  for row in content["categories"]:
    row["name"] = row["name"]
  _add(content, 0, [70, 10, 2, 3])
  _save(folder, "train", content)
  other = _load(folder, "valid")
  other["categories"] = content["categories"]
  _save(folder, "valid", other)
  _copy_of_file(folder)
  page = tmp_path / "check.html"
  before = sorted(path for path in folder.rglob("*"))
  checked = check_dataset(folder, output=page, num_threads=1)
  html = page.read_text(encoding="utf-8")
  assert sorted(path for path in folder.rglob("*")) == before
  assert "<script" not in html
  assert "&lt;script&gt;alert(1)" in html
  assert html.count("<img ") == 3  # The two that are one, and the tiny box.
  assert not re.findall(r'(?:src|href)="(?!data:|#)', html)
  for finding in checked.findings:
    assert finding.meaning.split(".")[0].replace("'", "&#39;") in html
  # Again over the same page, and over nothing else.
  check_dataset(folder, output=page, num_threads=1)
  (tmp_path / "other.html").write_text("my homepage")
  with pytest.raises(UserError, match="is another file already"):
    check_dataset(folder, output=tmp_path / "other.html")
  with pytest.raises(UserError, match="is not an HTML file"):
    check_dataset(folder, output=tmp_path / "check.txt")
