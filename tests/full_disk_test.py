"""A full disk under single files that people ask for: one sentence, no traceback.

Folders (data, runs, searches, exports, detections) have such tests with their programs.
"""

import json

import pytest

from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.doctor.check import check_dataset
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.training.anchors.figure import draw_anchors
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.learning_rate_range import LearningRateRange
from tests.data.formats.written import IMAGES, coco, draw


def draw_boxes_over_anchors(folder, data):
  detector = DetectorConfig(backbone="R-10", image_size=(128, 128))
  experiment = Experiment(detector, InputConfig(data_dir=str(data)), TrainingConfig())
  draw_anchors(experiment, folder / "anchors.png")


def draw_a_range(folder, data):
  del data
  found = LearningRateRange((0.01, 0.02, 0.04), (3.0, 2.0, 4.0), 0.01)
  found.draw(folder / "range.png")


def check(folder, data):
  del data
  check_dataset(folder / "all.json", folder / "images", output=folder / "check.html")


@pytest.mark.parametrize("write", [draw_boxes_over_anchors, draw_a_range, check])
def test_a_file_for_which_there_is_no_room(write, shapes_data, tmp_path, no_file_above):
  draw(tmp_path / "images")
  (tmp_path / "all.json").write_text(json.dumps(coco(IMAGES)))
  no_file_above(4000)
  with pytest.raises(UserError, match=r"cannot be written: File too large\. .*[Cc]hoose another"):
    write(tmp_path, shapes_data)
