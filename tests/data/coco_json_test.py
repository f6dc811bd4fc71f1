"""COCO JSON: what is refused, what is left out with a note, what is mended."""

import copy
import json

import pytest

from official_nasfpn.data.coco_json import Box, clean_boxes, coco_dataset, parse_coco_json
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError

COCO = {
  "images": [
    {"id": 5, "file_name": "a.jpg", "width": 100, "height": 80},
    {"id": 2, "file_name": "b.jpg"},
  ],
  "annotations": [
    {"id": 0, "image_id": 5, "category_id": 30, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2]]},
    {"id": 1, "image_id": 77, "category_id": 30, "bbox": [1, 2, 3, 4]},
  ],
  "categories": [{"id": 30, "name": "late"}, {"id": 4, "name": "early"}],
}
LABEL_MAP = LabelMap((Category(4, "early"), Category(30, "late")))


def _read(tmp_path, content):
  path = tmp_path / "my.json"
  path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
  report = Report()
  return coco_dataset(parse_coco_json(path), path, report), report


def _with(path, value):
  content = copy.deepcopy(COCO)
  place = content
  for key in path[:-1]:
    place = place[key]
  if value is None:
    del place[path[-1]]
  else:
    place[path[-1]] = value
  return content


def test_label_map_follows_the_ids_not_the_order_in_the_file(tmp_path):
  dataset, _ = _read(tmp_path, COCO)
  assert dataset.label_map == LABEL_MAP


def test_images_know_their_annotations_without_outlines(tmp_path):
  dataset, report = _read(tmp_path, COCO)
  first, second = dataset.images
  assert (first.id, first.size, second.id, second.size) == (5, (100, 80), 2, None)
  assert [row["id"] for row in first.annotations] == [0]
  assert "segmentation" not in first.annotations[0]
  assert second.annotations == ()
  assert report.count("boxes_unknown_image") == 1


def test_an_image_that_is_there_twice_is_kept_once(tmp_path):
  content = _with(("images", 1), {"id": 5, "file_name": "./a.jpg", "width": "100", "height": 80.0})
  dataset, report = _read(tmp_path, content)
  assert [(image.file_name, image.size) for image in dataset.images] == [("a.jpg", (100, 80))]
  assert report.count("images_duplicate_id") == 1
  content["images"][1]["width"] = 90
  assert _read(tmp_path, content)[0].images[0].size is None


def test_an_id_of_two_files_is_left_out_with_its_boxes(tmp_path):
  content = _with(("images", 1), {"id": 5, "file_name": "a.png", "width": 100, "height": 80})
  content["images"].append({"id": "2", "file_name": "b.jpg"})
  dataset, report = _read(tmp_path, content)
  assert [image.file_name for image in dataset.images] == ["b.jpg"]
  assert report.to_json() == {
    "images_ambiguous_id": {"count": 1, "examples": ["5: a.jpg and a.png, 1 boxes"]},
    "boxes_unknown_image": {"count": 1, "examples": ["annotation 1 of image 77"]},
  }
  del content["images"][2]
  with pytest.raises(UserError, match="every id in 'images' stands for several files"):
    _read(tmp_path, content)


def test_ids_written_as_digits_or_with_a_decimal_point_are_numbers(tmp_path):
  content = _with(("images", 0, "id"), "0005")
  content["annotations"][0]["image_id"] = 5.0
  content["categories"][0]["id"] = " 3e1 "
  dataset, _ = _read(tmp_path, content)
  assert dataset.images[0].id == 5
  assert len(dataset.images[0].annotations) == 1
  assert dataset.label_map == LABEL_MAP


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("{", "is not JSON"),
    (f'{{"images": [{{"id": 1, "width": 1{"0" * 399}}}]}}', "is not JSON: a number has 400 digits"),
    ("[" * 100_000, "is not JSON: lists or objects are nested too deeply"),
    ("[1]", "holds a list"),
    ('{"shapes": [], "version": "5"}', "no 'images'.*found: 'shapes', 'version'"),
    ('{"images": [], "annotations": {}, "categories": []}', "'annotations' is no list"),
    (_with(("annotations",), None), "no 'annotations'"),
    (_with(("categories",), []), "'categories' is empty"),
    (_with(("images",), []), "'images' is empty"),
    (_with(("images", 0, "file_name"), None), "an entry of 'images' has no 'file_name'"),
    (_with(("annotations", 0, "image_id"), None), "an entry of 'annotations' has no 'image_id'"),
    (_with(("categories", 0, "name"), None), "an entry of 'categories' has no 'name'"),
    (_with(("categories", 1, "id"), 30), "category id 30 stands for more than one"),
    (_with(("images", 0, "id"), "img_5"), "image's id is 'img_5'; ids must be whole numbers"),
    (_with(("images", 0, "id"), 2**63), "at most 64 bits"),
    (_with(("images", 0, "id"), 2.0**60), "at most 64 bits"),
    (_with(("images", 0, "id"), -(2**63)), "-9223372036854775808, which marks rows without an"),
    (_with(("images", 0, "id"), "9" * 5000), "at most 64 bits"),
    (_with(("images", 0, "file_name"), ["a.jpg"]), r"file_name is \['a.jpg'\]; it must be text"),
    (_with(("categories", 0, "name"), {"en": "cat"}), "name is {'en': 'cat'}; it must be text"),
    (_with(("images", 0), 3), "an entry of 'images' has no 'id': 3"),
    (_with(("categories", 0), "cat\n"), r"an entry of 'categories' has no '\w+': 'cat\\n'\."),
  ],
)
def test_what_is_not_coco_is_refused_and_told_why(tmp_path, content, message):
  with pytest.raises(UserError, match=message) as error:
    _read(tmp_path, content)
  assert "my.json" in str(error.value)


@pytest.mark.parametrize("spelling", [float, str, lambda side: f" {side}.0 ", lambda s: f"{s}e0"])
def test_sizes_are_numbers_however_they_are_spelt(tmp_path, spelling):
  content = _with(("images", 0, "width"), spelling(100))
  content["images"][0]["height"] = spelling(80)
  dataset, report = _read(tmp_path, content)
  assert dataset.images[0].size == (100, 80)
  assert report.count("images_no_size") == 0


@pytest.mark.parametrize("side", [0, -1, 99.5, "wide", "1,024", True, [100], 2**70, float("inf")])
def test_sizes_that_are_none_are_said(tmp_path, side):
  dataset, report = _read(tmp_path, _with(("images", 0, "width"), side))
  assert dataset.images[0].size is None
  assert report.count("images_no_size") == 1


def test_annotations_without_a_box_get_that_of_their_outline(tmp_path):
  square = [10, 10, 30, 10, 30, "40.0", 10, 40]
  content = copy.deepcopy(COCO)
  rows = [
    {"segmentation": [square]},
    {"segmentation": square, "bbox": []},
    {"segmentation": [square], "bbox": [0, 0, 0, 0]},
    {"segmentation": [square], "bbox": [1, 2, 3, 4]},
    {"segmentation": [[1, 2]]},
    {"bbox": None},
  ]
  content["annotations"] = [
    {"image_id": 5, "category_id": 30, "id": i, **row} for i, row in enumerate(rows)
  ]
  dataset, _ = _read(tmp_path, content)
  report = Report()
  boxes = clean_boxes(dataset.images[0].annotations, (100, 80), dataset.label_map, report, "a.jpg")
  assert [(box.x, box.y, box.width, box.height) for box in boxes] == [
    *[(10, 10, 20, 30)] * 3,
    (1, 2, 3, 4),
  ]
  assert {name: found["count"] for name, found in report.to_json().items()} == {
    "boxes_malformed": 2,
    "boxes_from_outlines": 3,
  }


@pytest.mark.parametrize(
  ("name", "clean"),
  [
    ("cat\n", "cat"),
    ("black\r\n\tcat", "black cat"),
    ("cat\x1b[31m", "cat [31m"),
    ("cat\x00", "cat"),
    ("\ud800cat", "cat"),
    ("cat\u2028", "cat"),
    (" ", "category 30"),
    ("", "category 30"),
  ],
)
def test_names_of_categories_are_cleaned_and_that_is_said(tmp_path, name, clean):
  dataset, report = _read(tmp_path, _with(("categories", 0, "name"), name))
  assert dataset.label_map.categories == (Category(4, "early"), Category(30, clean))
  (example,) = report.to_json()["categories_cleaned"]["examples"]
  assert example == f"{name!r} is {clean!r}"


@pytest.mark.parametrize("name", ["猫", "👩‍🚀", "Straße", "خطأ", "R\u0065\u0301sume\u0301"])
def test_names_in_any_script_stay_as_they_are(tmp_path, name):
  dataset, report = _read(tmp_path, _with(("categories", 0, "name"), name))
  assert dataset.label_map.name(1) == name
  assert report.count("categories_cleaned") == 0


def test_categories_of_one_name_are_told_apart(tmp_path):
  content = _with(("categories", 1, "name"), "late\n")
  content["categories"].append({"id": 5, "name": "other"})
  dataset, report = _read(tmp_path, content)
  assert [category.name for category in dataset.label_map.categories] == [
    "late (4)",
    "other",
    "late (30)",
  ]
  assert report.count("categories_same_name") == 2


def test_missing_file_is_named(tmp_path):
  with pytest.raises(UserError, match=r"nothing\.json"):
    parse_coco_json(tmp_path / "nothing.json")


def _clean(*rows):
  report = Report()
  annotations = [{"id": i, "category_id": 30, **row} for i, row in enumerate(rows)]
  return clean_boxes(annotations, (100, 80), LABEL_MAP, report, "a.jpg"), report


def test_box_beyond_the_border_by_rounding_noise_is_kept():
  # Model Garden drops it without a word: create_coco_tf_record.py, `x + width > image_width`.
  (box,), report = _clean({"bbox": [50.00001, 10, 50, 20], "area": 900})
  assert box == Box(50.00001, 10.0, 100 - 50.00001, 20.0, 1, 900.0, False)
  assert report.count("boxes_clipped") == 1


def test_box_partly_outside_is_clipped_on_every_side():
  (box,), report = _clean({"bbox": [-10, -20, 300, 300]})
  assert (box.x, box.y, box.width, box.height, box.area) == (0, 0, 100, 80, 8000)
  assert report.count("boxes_clipped") == 1


@pytest.mark.parametrize("area", [None, "much", -1, 0, 100 * 80 + 1, 1e39])
def test_what_is_no_area_in_the_image_is_that_of_the_box(area):
  (box,), _ = _clean({"bbox": [10, 10, 20, 30], "area": area})
  assert box.area == 600


def test_numbers_of_an_annotation_may_be_text():
  row = {"bbox": ["10", "5.5", "2e1", " 10 "], "category_id": "30.0", "area": "150", "iscrowd": "0"}
  (box,), report = _clean(row)
  assert box == Box(10.0, 5.5, 20.0, 10.0, 1, 150.0, False)
  assert report.to_json() == {}


@pytest.mark.parametrize(
  ("value", "is_crowd"),
  [(0, False), (0.0, False), ("0", False), ("0.0", False), (None, False), ("", False),
   (False, False), ("false", False), (1, True), ("1", True), (1.0, True), (True, True),
   ("True", True)],
)  # fmt: skip
def test_iscrowd_is_read_in_every_spelling(value, is_crowd):
  (box,), _ = _clean({"bbox": [0, 0, 10, 10], "iscrowd": value})
  assert box.is_crowd is is_crowd


def test_crowd_is_kept_and_marked():
  (box,), report = _clean({"bbox": [0, 0, 100, 80], "iscrowd": 1})
  assert box.is_crowd
  assert report.to_json() == {
    "boxes_crowd": {"count": 1, "examples": ["annotation 0 of a.jpg"]},
  }


@pytest.mark.parametrize(
  ("row", "problem"),
  [
    ({"bbox": [1, 1, 5, 5], "category_id": 5}, "boxes_unknown_category"),
    ({"bbox": [1, 1, 5, 5], "category_id": None}, "boxes_unknown_category"),
    ({}, "boxes_malformed"),
    ({"bbox": [1, 1, 5]}, "boxes_malformed"),
    ({"bbox": [1, 1, 5, "five"]}, "boxes_malformed"),
    ({"bbox": [1, 1, 5, True]}, "boxes_malformed"),
    ({"bbox": [1, 1, 5, 10**400]}, "boxes_malformed"),
    ({"bbox": [1, 1, 5, 5], "iscrowd": "perhaps"}, "boxes_malformed"),
    ({"bbox": [1, 1, 5, 5], "category_id": {"a": []}}, "boxes_unknown_category"),
    ({"bbox": [1, 1, 5, float("nan")]}, "boxes_malformed"),
    ({"bbox": [1, 1, 0, 5]}, "boxes_no_area"),
    ({"bbox": [1, 1, 5, -5]}, "boxes_no_area"),
    ({"bbox": [100, 1, 5, 5]}, "boxes_outside"),
    ({"bbox": [1, -9, 5, 5]}, "boxes_outside"),
  ],
)
def test_unusable_box_is_dropped_for_its_one_reason(row, problem):
  boxes, report = _clean(row)
  assert boxes == []
  assert {key: found["count"] for key, found in report.to_json().items()} == {problem: 1}
