"""What tells whether the figures of two evaluations may be compared."""

import dataclasses
import shutil

import pytest

from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.evaluated_under import conditions_of, difference
from official_nasfpn.training.experiment import Experiment


@pytest.fixture
def experiment(tiny_detector, shapes_data):
  return Experiment(tiny_detector, InputConfig(data_dir=str(shapes_data)), TrainingConfig())


@pytest.fixture
def change(experiment, shapes_data):
  """Returns a function from settings of the detector to what is said of an evaluation with them."""
  dataset = DatasetInfo.load(shapes_data)

  def said(**settings):
    detector = dataclasses.replace(experiment.detector, **settings)
    other = dataclasses.replace(experiment, detector=detector)
    return difference(conditions_of(other, dataset), conditions_of(experiment, dataset))

  return said


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("score_threshold", 0.5),
    ("nms_iou_threshold", 0.9),
    ("max_detections", 7),
    ("image_size", (256, 256)),
    ("anchor_size", 3.0),
  ],
)
def test_another_way_to_detect_is_named(change, name, value):
  assert f"with Detector.{name} = {value if name != 'image_size' else [256, 256]}" in change(
    **{name: value}
  )


def test_another_architecture_is_named(change):
  assert change(architecture="nas_fpn") == "is with another Detector.architecture"


def test_what_changes_no_figure_is_no_difference(change):
  assert change(norm_momentum=0.5, sync_batch_norm=True) is None


def test_a_copy_of_the_data_is_the_same_and_other_annotations_are_not(
  experiment, shapes_data, tmp_path
):
  moved = DatasetInfo.load(shutil.copytree(shapes_data, tmp_path / "data"))
  conditions = conditions_of(experiment, DatasetInfo.load(shapes_data))
  assert difference(conditions_of(experiment, moved), conditions) is None
  text = moved.annotation_file("val").read_text()
  moved.annotation_file("val").write_text(text.replace('"area": ', '"area": 1', 1))
  assert difference(conditions_of(experiment, moved), conditions) == "is of other annotations"


def test_a_setting_that_a_former_version_had_not_is_no_difference(experiment, shapes_data):
  conditions = conditions_of(experiment, DatasetInfo.load(shapes_data))
  former = {name: value for name, value in conditions.items() if name != "Detector.num_scales"}
  assert difference(former, conditions) is None
