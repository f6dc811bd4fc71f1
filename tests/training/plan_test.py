"""What a plan says of memory, and assumes if there is no data to count."""

import shlex
from pathlib import Path

import pytest
import tf_keras

from official_nasfpn.training import plan as plan_lib
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import load_experiment
from official_nasfpn.training.optimizer import build_optimizer, optimizer_state
from official_nasfpn.training.plan import assume_coco, make_plan
from official_nasfpn.training.weight_average import begin_average


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


def test_of_a_batch_in_parts_one_part_must_fit(plan_of):
  whole = plan_of("Training.batch_size = 16", "Training.micro_batches = 1").as_text()
  parts = plan_of("Training.batch_size = 16", "Training.micro_batches = 4").as_text()
  assert "memory           16.0 GiB a device" in whole
  assert "1.000 of activations for each of 16 images\n" in whole
  assert "memory           4.0 GiB a device" in parts
  assert "1.000 of activations for each of 4 images, 4 times a step\n" in parts


@pytest.mark.parametrize("average", [{}, {"ema_decay": 0.9}])
@pytest.mark.parametrize("settings", [{"optimizer": "adam"}, {"momentum": 0.9}, {"momentum": 0.0}])
def test_what_the_optimizer_keeps_is_counted(plan_of, settings, average):
  values = {"optimizer": "sgd", "micro_batches": 1, **settings, **average}
  plan = plan_of(*(f"Training.{name} = {value!r}" for name, value in values.items()))
  model = tf_keras.Sequential([tf_keras.layers.Dense(30, use_bias=False)])
  model.build([None, 20])
  optimizer = build_optimizer(TrainingConfig(**values), 8, model.weights)
  begin_average(optimizer, model)
  kept = [each for each in optimizer_state(optimizer) if each.shape == (20, 30)]
  assert plan.weight_bytes == 4 * plan.parameters * (2 + len(kept))


def test_the_sum_of_gradients_of_parts_is_counted(plan_of):
  whole, parts = (plan_of(f"Training.micro_batches = {number}") for number in (1, 2))
  assert parts.weight_bytes - whole.weight_bytes == 4 * whole.parameters


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
