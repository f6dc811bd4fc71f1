"""What a plan says of memory, and assumes if there is no data to count."""

import shlex
from pathlib import Path

import pytest
import tf_keras

from official_nasfpn.training import plan as plan_lib
from official_nasfpn.training.experiment import load_experiment
from official_nasfpn.training.plan import assume_coco, make_plan


@pytest.fixture
def plan_of(monkeypatch):
  """Returns a function that plans a training of the quickstart; its activations take 1 GiB."""
  policies = []
  monkeypatch.setattr(plan_lib, "build_detector", lambda *_: policies.append(_policy()))
  monkeypatch.setattr(plan_lib, "stored_activation_bytes", lambda _: 2**30)

  def plan(*bindings):
    experiment = load_experiment(["gin/quickstart.gin"], bindings)
    policies.clear()
    planned = make_plan(experiment, assume_coco(experiment))
    assert policies == [experiment.training.compute_dtype]
    return planned

  return plan


def _policy():
  return tf_keras.mixed_precision.global_policy().name


def test_the_precision_policy_of_the_caller_is_kept(plan_of):
  tf_keras.mixed_precision.set_global_policy("mixed_float16")
  try:
    plan_of("Training.compute_dtype = 'mixed_bfloat16'")
    assert _policy() == "mixed_float16"
  finally:
    tf_keras.mixed_precision.set_global_policy("float32")


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
