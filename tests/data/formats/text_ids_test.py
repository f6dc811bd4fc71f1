"""Ids that are text become numbers, and the text is in every output."""

import json

import pytest

from official_nasfpn.data.coco_json import coco_dataset
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.formats.coco import read_coco
from official_nasfpn.data.formats.source import read_source
from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.data.report import Report
from official_nasfpn.data.text_ids import with_text_ids
from tests.data.formats import written
from tests.data.formats.written import IMAGES, write


@pytest.fixture
def annotations(tmp_path):
  written.draw(tmp_path / "images")
  content = written.coco(IMAGES, ids=lambda number: f"n{number}")
  return write(tmp_path / "all.json", json.dumps(content))


def test_text_ids_are_in_what_is_prepared(tmp_path, annotations):
  prepared = prepare_dataset(tmp_path / "out", annotations, validation_fraction=0, num_threads=1)
  info = DatasetInfo.load(prepared.folder)
  assert [(row.id, row.text_id) for row in info.label_map.categories] == [
    (1, "n1"), (2, "n2"), (3, "n3"),
  ]  # fmt: skip
  parts = [json.loads(info.annotation_file(part).read_text()) for part in ("train", "holdout")]
  texts = {row["file_name"]: row["text_id"] for part in parts for row in part["images"]}
  assert texts == {name: f"n{number}" for number, name in enumerate(IMAGES, start=7)}
  assert {row["text_id"] for row in parts[0]["categories"]} == {"n1", "n2", "n3"}
  loaded = LabelMap.load(info.data_dir / "label_map.json")
  assert [row.text_id for row in loaded.categories] == ["n1", "n2", "n3"]


def test_detections_get_the_texts_back(annotations):
  (split,) = read_coco(annotations, None)
  dataset = coco_dataset(split.content, annotations, Report())
  texts = {image.id: image.text_id for image in dataset.images}
  given = json.loads(annotations.read_text())["annotations"]
  results = [
    {"image_id": row["image_id"], "category_id": row["category_id"], "bbox": row["bbox"]}
    for row in split.content["annotations"]
  ]
  back = with_text_ids(results, texts, dataset.label_map)
  assert back == [{key: row[key] for key in ("image_id", "category_id", "bbox")} for row in given]
  assert back != results


def test_files_with_other_classes_agree_on_those_they_share(tmp_path, annotations):
  content = json.loads(annotations.read_text())
  # The first class is missing, so that the others would get its number.
  content["categories"] = content["categories"][1:]
  content["annotations"] = [row for row in content["annotations"] if row["category_id"] != "n1"]
  other = write(tmp_path / "other.json", json.dumps(content))
  source = read_source(annotations, None, other, None, None, Report())
  categories = source.train.content["categories"]
  assert source.val.content["categories"] == categories
  names = {row["id"]: (row["name"], row["text_id"]) for row in categories}
  assert names == {1: ("cell", "n1"), 2: ("dust", "n2"), 3: ("long fibre", "n3")}
  found = [names[row["category_id"]][0] for row in source.val.content["annotations"]]
  assert found == ["dust", "dust", "long fibre"]


def test_numbers_that_are_spelt_as_text_stay_what_they_are(tmp_path, annotations):
  content = written.coco(IMAGES, ids=str)
  (split,) = read_coco(write(tmp_path / "spelt.json", json.dumps(content)), None)
  assert split.content["images"] == content["images"]
