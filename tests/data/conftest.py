"""Datasets that several tests read: never written to."""

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
