"""Class indices, labels in TFRecords and the dataset's own category ids."""

import json

import pytest

from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.errors import UserError

GAPS = LabelMap((Category(0, "zero"), Category(7, "seven"), Category(90, "Straße")))


def test_indices_count_from_zero_without_gaps_and_lead_back_to_the_ids():
  assert GAPS.num_classes == 3
  assert [GAPS.category_id(i) for i in range(3)] == [0, 7, 90]
  assert [GAPS.index_of(id_) for id_ in (0, 7, 90)] == [0, 1, 2]
  assert GAPS.name(2) == "Straße"
  with pytest.raises(KeyError):
    GAPS.index_of(1)


def test_file_round_trip_counts_labels_from_one(tmp_path):
  path = tmp_path / "label_map.json"
  GAPS.save(path)
  assert LabelMap.load(path) == GAPS
  rows = json.loads(path.read_text(encoding="utf-8"))["categories"]
  assert rows[1] == {"label": 2, "id": 7, "name": "seven"}


def test_one_id_for_two_categories_is_refused():
  with pytest.raises(ValueError, match="category id 7"):
    LabelMap((Category(7, "a"), Category(7, "b")))


@pytest.mark.parametrize(
  "text",
  ["", "[]", "{}", '{"categories": [{"label": 2, "id": 1, "name": "a"}]}', '{"categories": [1]}'],
)
def test_other_files_are_refused_by_name(tmp_path, text):
  path = tmp_path / "label_map.json"
  path.write_text(text)
  with pytest.raises(UserError, match=r"label_map\.json is not a label map"):
    LabelMap.load(path)
  with pytest.raises(UserError, match="There is no label map"):
    LabelMap.load(tmp_path / "nothing.json")
