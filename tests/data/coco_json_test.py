"""COCO JSON: what is refused, what is left out with a note, what is mended."""

import copy
import json

import pytest

from official_nasfpn.data.coco_json import Box, clean_boxes, read_coco_json
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
  return read_coco_json(path, report), report


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


def test_second_image_of_an_id_is_left_out(tmp_path):
  dataset, report = _read(tmp_path, _with(("images", 1, "id"), 5))
  assert [image.file_name for image in dataset.images] == ["a.jpg"]
  assert report.count("images_duplicate_id") == 1


def test_ids_written_as_digits_or_with_a_decimal_point_are_numbers(tmp_path):
  content = _with(("images", 0, "id"), "0005")
  content["annotations"][0]["image_id"] = 5.0
  content["categories"][0]["id"] = "30"
  dataset, _ = _read(tmp_path, content)
  assert dataset.images[0].id == 5
  assert len(dataset.images[0].annotations) == 1
  assert dataset.label_map == LABEL_MAP


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("{", "is not JSON"),
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
    (_with(("images", 0), 3), "an entry of 'images' has no 'id': 3"),
  ],
)
def test_what_is_not_coco_is_refused_and_told_why(tmp_path, content, message):
  with pytest.raises(UserError, match=message) as error:
    _read(tmp_path, content)
  assert "my.json" in str(error.value)


def test_missing_file_is_named(tmp_path):
  with pytest.raises(UserError, match=r"nothing\.json"):
    read_coco_json(tmp_path / "nothing.json", Report())


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
    ({"bbox": [1, 1, 5, "5"]}, "boxes_malformed"),
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
