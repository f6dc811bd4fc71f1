"""Settings of the input pipeline, and what may be imported without TensorFlow."""

import subprocess
import sys

import pytest

from official_nasfpn import configuration
from official_nasfpn.data.config import InputConfig
from official_nasfpn.errors import UserError


def test_bindings_reach_the_config_and_come_back_as_gin():
  configuration.parse(
    gin_params=['Input.data_dir = "/x"', 'Input.train_parts = ["train"]', "Input.scale_max = 1.5"]
  )
  config = configuration.from_bindings(InputConfig)
  assert config == InputConfig(data_dir="/x", train_parts=("train",), scale_max=1.5)
  configuration.parse(gin_params=[configuration.to_gin(config)])
  assert configuration.from_bindings(InputConfig) == config


@pytest.mark.parametrize(
  "values",
  [
    {"train_parts": "train"},
    {"scale_min": 0.0},
    {"scale_min": 1.3},
    {"max_num_boxes": 0},
    {"shuffle_buffer": 0},
  ],
)
def test_values_that_cannot_work_are_refused(values):
  with pytest.raises(ValueError, match=next(iter(values))):
    InputConfig(**values)


def test_unknown_setting_names_the_nearest():
  with pytest.raises(UserError, match=r"Did you mean Input\.scale_max"):
    configuration.parse(gin_params=["Input.scale_maxx = 2"])


def test_names_of_the_room_need_no_tensorflow():
  code = (
    "import sys, official_nasfpn.data, official_nasfpn.data.preparation; "
    "assert not {'tensorflow', 'official'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
