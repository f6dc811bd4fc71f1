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
    {"mosaic": 1.5},
    {"mixup": -0.1},
    {"copy_paste": 2},
    {"random_crop": 1.01},
    {"color_jitter": 1.2},
    {"rand_augment": -1},
    {"rand_augment_magnitude": 0.0},
    {"rand_augment_magnitude": 11},
    {"min_visible": 1.1},
    {"max_num_boxes": 0},
    {"shuffle_buffer": 0},
  ],
)
def test_values_that_cannot_work_are_refused(values):
  with pytest.raises(ValueError, match=next(iter(values))):
    InputConfig(**values)


def test_augmentations_are_off_and_can_be_taken_one_by_one():
  assert InputConfig().augmentations == {}
  config = InputConfig(mosaic=0.5, rand_augment=2, horizontal_flip=False)
  assert config.augmentations == {"mosaic": 0.5, "rand_augment": 2}
  assert config.only("mosaic") == InputConfig(mosaic=1.0, horizontal_flip=False)
  assert config.only("rand_augment") == InputConfig(rand_augment=2, horizontal_flip=False)
  assert config.only(None) == InputConfig(horizontal_flip=False)


def test_unknown_setting_names_the_nearest():
  with pytest.raises(UserError, match=r"Did you mean Input\.scale_max"):
    configuration.parse(gin_params=["Input.scale_maxx = 2"])


def test_names_of_the_room_need_no_tensorflow():
  code = (
    "import sys, official_nasfpn.data, official_nasfpn.data.preparation; "
    "assert not {'tensorflow', 'official'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
