"""A prepared directory that is not whole is refused before anything is trained on it."""

import json
import shutil

import pytest

from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.errors import UserError


@pytest.fixture
def data_dir(shapes_info, tmp_path):
  copy = tmp_path / "copy"
  shutil.copytree(shapes_info.data_dir, copy)
  return copy


def test_what_is_saved_is_loaded(shapes_info, data_dir):
  info = DatasetInfo.load(data_dir)
  assert info.parts == shapes_info.parts
  assert info.label_map == shapes_info.label_map
  assert (info.source, info.settings) == (shapes_info.source, shapes_info.settings)
  assert info.report == shapes_info.report


def test_parts_add_up(shapes_info):
  assert shapes_info.num_images(("train", "holdout")) == 48
  assert shapes_info.num_images(("val",)) == 12
  assert len(shapes_info.shard_paths(("train", "holdout"))) == 8


def test_a_dataset_may_be_moved_with_its_images(data_dir):
  info = DatasetInfo.load(data_dir)
  content = json.loads(info.annotation_file("val").read_text())
  assert all((info.images_dir("val") / image["file_name"]).is_file() for image in content["images"])


def test_unknown_part_names_the_parts(shapes_info):
  with pytest.raises(UserError, match="no part 'test'; its parts: train, holdout, val"):
    shapes_info.num_images(("test",))


def test_missing_shard_is_named(data_dir):
  (data_dir / "holdout-00002-of-00004.tfrecord").unlink()
  with pytest.raises(UserError, match=r"holdout-00002-of-00004\.tfrecord is missing"):
    DatasetInfo.load(data_dir)


def test_truncated_shard_is_named(data_dir):
  path = data_dir / "train-00001-of-00004.tfrecord"
  size = path.stat().st_size
  with path.open("r+b") as file:
    file.truncate(size - 7)
  with pytest.raises(UserError, match=f"{path.name} has {size - 7} bytes where {size} were"):
    DatasetInfo.load(data_dir)


def test_missing_annotations_are_named(data_dir):
  (data_dir / "val.json").unlink()
  with pytest.raises(UserError, match=r"val\.json is missing"):
    DatasetInfo.load(data_dir)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 1, "parts": {"val": {}}}'])
def test_damaged_description_is_refused(data_dir, text):
  (data_dir / "dataset.json").write_text(text)
  with pytest.raises(UserError, match=r"dataset\.json is damaged"):
    DatasetInfo.load(data_dir)


def test_other_format_version_is_refused(data_dir):
  (data_dir / "dataset.json").write_text('{"format_version": 99}')
  with pytest.raises(UserError, match="format version 99"):
    DatasetInfo.load(data_dir)


def test_other_folders_are_told_how_to_become_one(tmp_path):
  with pytest.raises(UserError, match=r"holds no prepared dataset.*nasfpn prepare"):
    DatasetInfo.load(tmp_path)
