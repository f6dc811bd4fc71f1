"""Faults put into a clean dataset are found, each under its own name, and shown in the page."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import ExifTags, Image

from official_nasfpn.data.doctor import duplicates
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


def test_ids_that_stand_for_another_class_in_a_second_split(folder):
  content = _load(folder, "valid")
  content["categories"] = [{"id": 1, "name": "dust"}, {"id": 2, "name": "cell"}]
  _save(folder, "valid", content)
  _copy_of_file(folder)
  found = _found(folder)
  finding = found["classes_renamed"]
  assert finding.grade is Grade.BAD
  assert finding.examples == (
    "1: 'cell' in train, 'dust' in val",
    "2: 'dust' in train, 'cell' in val",
  )
  assert "leaks_files" in found  # The rest is looked at all the same.


def test_splits_are_called_by_what_they_are_for(clean, folder, tmp_path):
  # Two exports that both know a split "train" alone, of the same images.
  for name in ("first", "second"):
    shutil.copytree(clean / "train", tmp_path / name / "train")
  checked = check_dataset(tmp_path / "first", val_annotations=tmp_path / "second", num_threads=1)
  assert checked.num_images == {"train": 8, "val": 8}
  (leak,) = (finding for finding in checked.findings if finding.key == "leaks_files")
  assert (leak.grade, leak.count) == (Grade.BAD, 8)
  # Two with a "train" and a "val" each.
  checked = check_dataset(clean, val_annotations=folder, num_threads=1)
  assert list(checked.num_images) == ["train", "val", "val 2", "train 2"]
  # And a file alone.
  file = clean / "train" / "_annotations.coco.json"
  assert list(check_dataset(file, num_threads=1).num_images) == ["all"]


def test_images_that_are_alike_are_looked_for_once(clean, monkeypatch):
  calls = []
  look = duplicates.same_looks
  monkeypatch.setattr(duplicates, "same_looks", lambda images: calls.append(1) or look(images))
  check_dataset(clean, num_threads=1)
  assert len(calls) == 1


def test_an_image_that_is_listed_twice_and_an_id_of_two_files(folder):
  content = _load(folder)
  rows = content["images"]
  rows += [dict(rows[0]), {**rows[1], "file_name": "2.png"}]
  _save(folder, "train", content)
  found = _found(folder)
  assert found["images_duplicate_id"].grade is Grade.NOTE
  assert "not trained on" not in found["images_duplicate_id"].meaning
  assert found["images_ambiguous_id"].grade is Grade.BAD
  assert "not trained on" in found["images_ambiguous_id"].meaning


def test_an_image_that_lists_put_into_two_splits_is_no_leak(tmp_path):
  (tmp_path / "images").mkdir()
  for place in range(4):
    _picture(place).save(tmp_path / "images" / f"{place}.png")
    _write(tmp_path / "labels" / f"{place}.txt", "0 0.5 0.5 0.25 0.25\n")
  _write(tmp_path / "train.txt", "".join(f"images/{place}.png\n" for place in range(3)))
  _write(tmp_path / "val.txt", "images/2.png\nimages/3.png\n")
  _write(tmp_path / "data.yaml", "train: train.txt\nval: val.txt\nnames: [cell]\n")
  found = _found(tmp_path / "data.yaml")
  assert set(found) == {"images_in_two_splits"}
  assert found["images_in_two_splits"].grade is Grade.DOUBTFUL
  assert "nothing leaks" in found["images_in_two_splits"].meaning


def _write(path, text):
  path.parent.mkdir(exist_ok=True)
  path.write_text(text)


def test_very_many_boxes_in_an_image(folder):
  content = _load(folder)
  for place in range(99):
    _add(content, 0, [place, place, 10, 10])
  _save(folder, "train", content)
  finding = _found(folder)["images_many_boxes"]
  assert finding.examples == ["0.png: 101"]
  assert "random choice of Input.max_num_boxes" in finding.meaning


def test_files_that_are_stored_otherwise(folder):
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = 6
  turned = Image.open(folder / "train" / "0.png").transpose(Image.Transpose.ROTATE_90)
  turned.save(folder / "train" / "0.png", exif=exif)
  Image.open(folder / "train" / "1.png").save(folder / "train" / "1.png", format="TIFF")
  found = _found(folder)
  assert found["images_turned"].examples == ["0.png"]
  assert found["images_reencoded"].examples == ["1.png"]
  assert "images_other_size" not in found


def _in_folders(content, names):
  """Gives the images names in folders that are not there."""
  for row, name in zip(content["images"], names, strict=True):
    row["file_name"] = name


def test_file_names_that_may_be_of_another_image(folder):
  content = _load(folder)
  _in_folders(content, ["a/0.png", "b/0.png", *(f"a\\{place}.png" for place in range(2, 8))])
  _save(folder, "train", content)
  found = _found(folder)
  assert found["images_ambiguous_file"].examples == ["a/0.png", "b/0.png"]
  assert found["images_backslashes"].count == 6
  assert check_dataset(folder, num_threads=1).num_images == {"train": 6, "val": 8}
  # Where none is left, the sentence of `prepare`.
  _in_folders(content, [f"{letter}/{place}.png" for place in range(4) for letter in "ab"])
  _save(folder, "train", content)
  with pytest.raises(UserError, match="the last part of its name is that of several images"):
    check_dataset(folder, num_threads=1)


def test_an_entry_for_the_file_of_another_one(folder):
  content = _load(folder)
  content["images"].append({**content["images"][0], "id": 100})
  _save(folder, "train", content)
  assert _found(folder)["images_same_file"].examples == ["0.png: ids 0 and 100"]


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_list_without_images_is_refused_as_when_preparing(folder, split):
  _save(folder, split, {**_load(folder, split), "images": []})
  with pytest.raises(UserError, match="the list 'images' is empty"):
    check_dataset(folder, folder / split, num_threads=1)


def test_a_test_split_without_images_is_none_of_preparing(folder):
  (folder / "test").mkdir()
  _save(folder, "test", {**_load(folder), "images": []})
  checked = check_dataset(folder, folder, num_threads=1)
  assert checked.num_images == {"train": 8, "val": 8, "test": 0}


def test_a_negative_number_of_threads_is_refused(clean):
  with pytest.raises(UserError, match="num_threads must be at least 1, not -1"):
    check_dataset(clean, num_threads=-1)


def test_a_broken_image_and_a_missing_one(folder):
  (folder / "train" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
  (folder / "train" / "5.png").unlink()
  found = _found(folder)
  assert found["images_broken"].examples == ["2.png"]
  assert found["images_missing"].examples == ["5.png"]


def test_what_it_means_is_known_of_every_problem_that_can_be_reported():
  assert set(MEANINGS) - set(PROBLEMS) == {key for key in MEANINGS if MEANINGS[key][1]}
  # Of parts that are split off, which a check does not do; of splits it finds leaks.
  of_parts = {"images_holdout_trained_on", "images_val_trained_on"}
  of_a_detector = {"boxes_other_category"}
  assert set(PROBLEMS) - of_parts - of_a_detector <= set(MEANINGS)
  for _, _, meaning in MEANINGS.values():
    assert meaning.endswith((".", "?"))


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
