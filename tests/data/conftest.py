"""Datasets that several tests read: never written to."""

import os
from pathlib import Path

import pytest

from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.data.shapes import ShapesConfig


@pytest.fixture(scope="session")
def shapes_info(tmp_path_factory):
  """A prepared dataset of 60 drawn images: 38 train, 10 holdout, 12 val."""
  output_dir = tmp_path_factory.mktemp("shapes") / "data"
  prepare_dataset(output_dir, shapes=ShapesConfig(60, 96), num_shards=4, num_threads=2)
  return DatasetInfo.load(output_dir)


@pytest.fixture(scope="session")
def real_data():
  """The folder of the real datasets, bccd and coco_val128."""
  default = Path(__file__).parents[3] / "shared" / "data"
  folder = Path(os.environ.get("NASFPN_TEST_DATA", default))
  if not (folder / "bccd").is_dir():
    pytest.skip(f"no real datasets in {folder}; NASFPN_TEST_DATA names their folder")
  return folder
