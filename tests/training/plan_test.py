"""What a plan assumes if there is no data to count."""

import shlex
from pathlib import Path

from official_nasfpn.training.experiment import load_experiment
from official_nasfpn.training.plan import assume_coco


def test_without_data_that_of_coco_is_assumed():
  data = assume_coco(load_experiment(["gin/paper/nasfpn_r50_640.gin"]))
  assert (data.num_images, data.num_evaluation_images, data.num_classes) == (118_287, 5_000, 80)
  assert data.assumption.startswith(
    "There is no data given: 118,287 images (as COCO train2017 has)"
  )
  assert data.assumption.endswith("--output_dir DATA")


def test_what_a_recipe_says_is_not_assumed():
  experiment = load_experiment(
    ["gin/quickstart.gin"], ["Detector.num_classes = 3", "Input.data_dir = 'data/mine'"]
  )
  data = assume_coco(experiment)
  assert (data.num_images, data.num_classes) == (576, 3)
  assert "576 images (by Training.images_per_epoch) and 3 classes (by Detector" in data.assumption
  assert data.assumption.endswith(shlex.quote(str(Path("data/mine").resolve())))
