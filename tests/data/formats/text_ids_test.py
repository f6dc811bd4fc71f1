"""Ids that are text become numbers, and the text is in every output."""

import json

import pytest

from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.formats.coco import read_coco
from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.data.preparation import prepare_dataset
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
  assert LabelMap.load(info.data_dir / "label_map.json") == info.label_map


def test_numbers_that_are_spelt_as_text_stay_what_they_are(tmp_path, annotations):
  content = written.coco(IMAGES, ids=str)
  (split,) = read_coco(write(tmp_path / "spelt.json", json.dumps(content)), None)
  assert split.content["images"] == content["images"]
