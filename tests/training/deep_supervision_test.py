"""Deep supervision: every exit learns and is reported, at no loss to the last one."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.data.config import InputConfig
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.training import runner
from official_nasfpn.training.coco_evaluation import METRICS
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, open_dataset
from official_nasfpn.training.optimizer import build_optimizer
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.strategies import build_strategy
from official_nasfpn.training.task import DetectionTask


@pytest.fixture(scope="module")
def ordinary(shapes_data):
  return Experiment(
    DetectorConfig(
      backbone="R-10",
      backbone_width=0.25,
      # The fewest operations for three repeats.
      architecture="fpn",
      num_filters=16,
      num_repeats=3,
      head_num_convs=1,
      image_size=(128, 128),
      norm_momentum=0.9,
    ),
    InputConfig(data_dir=str(shapes_data)),
    TrainingConfig(
      batch_size=4, epochs=0.4, warmup_learning_rate=0.05, decay_epochs=(), steps_per_loop=2
    ),
  )


def anytime(experiment, exit_heads="separate", **training):
  return dataclasses.replace(
    experiment,
    detector=dataclasses.replace(experiment.detector, exit_heads=exit_heads),
    training=dataclasses.replace(experiment.training, **training),
  )


@pytest.fixture(scope="module")
def one_step(ordinary):
  """Returns a function from settings of `anytime` to the losses of one train step and the model.

  The results are cached. The last head of every model starts with the same weights.
  """
  head_weights = []

  @functools.cache
  def step(exit_heads="last", exit_loss_weights=None):
    settings = anytime(ordinary, exit_heads, exit_loss_weights=exit_loss_weights)
    experiment, dataset = open_dataset(settings)
    task = DetectionTask(experiment, dataset)
    model = task.build_model()
    head_weights[:] = head_weights or model.head.get_weights()
    model.head.set_weights(head_weights)
    optimizer = build_optimizer(
      experiment.training, dataset.num_images(("train",)), model.trainable_variables
    )
    metrics = task.build_metrics()
    batch = next(iter(task.build_inputs()))
    tf.function(lambda: task.train_step(batch, model, optimizer, metrics))()
    return {metric.name: float(metric.result()) for metric in metrics}, model

  return step


def test_the_loss_is_the_weighted_sum_over_the_exits(one_step):
  losses, _ = one_step("separate", (0.5, 2.0, 1.0))
  exits = [
    losses["exit_1/class_loss"] + losses["exit_1/box_loss"],
    losses["exit_2/class_loss"] + losses["exit_2/box_loss"],
    losses["class_loss"] + losses["box_loss"],
  ]
  expected = 0.5 * exits[0] + 2.0 * exits[1] + exits[2] + losses["weight_decay"]
  assert losses["total_loss"] == pytest.approx(expected, rel=1e-5)
  unweighted, _ = one_step("separate")
  expected = sum(exits) + losses["weight_decay"]
  assert unweighted["total_loss"] == pytest.approx(expected, rel=1e-5)


def test_weights_of_zero_are_the_ordinary_training(one_step):
  expected, model = one_step()
  losses, supervised = one_step("separate", (0.0, 0.0, 1.0))
  assert losses["class_loss"] == expected["class_loss"]
  assert losses["box_loss"] == expected["box_loss"]
  for part in ("backbone", "pyramid", "head"):
    pairs = zip(getattr(model, part).variables, getattr(supervised, part).variables, strict=True)
    for ours, theirs in pairs:
      np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7, err_msg=ours.name)


@pytest.mark.parametrize("exit_heads", ["shared", "separate"])
def test_every_exit_learns(one_step, exit_heads):
  _, model = one_step(exit_heads)
  _, frozen = one_step(exit_heads, (0.0, 0.0, 1.0))
  for early, unsupervised in zip(model.early_heads, frozen.early_heads, strict=True):
    biases = [v for v in early.trainable_variables if "scores/bias" in v.name]
    others = [v for v in unsupervised.trainable_variables if "scores/bias" in v.name]
    assert not np.allclose(biases[0], others[0])


@pytest.mark.slow
def test_every_exit_is_evaluated_and_written_down(ordinary, tmp_path):
  experiment, dataset = open_dataset(anytime(ordinary))
  folder = RunFolder(tmp_path / "run")
  folder.claim(experiment, dataset.label_map)
  strategy = build_strategy("one_device")
  result, _ = runner.train(experiment, dataset, folder, strategy, evaluate_on_the_way=True)
  assert len(result.exit_metrics) == 3
  assert result.exit_metrics[-1] == result.metrics
  assert set(result.exit_metrics[0]) == set(METRICS)
  assert "by exit:" in result.table()
  assert len(json.loads(result.to_json())["exit_metrics"]) == 3
  assert {"exit_1/class_loss", "exit_2/box_loss", "class_loss"} <= scalars(folder.path / "train")
  assert {"exit_1/AP", "exit_2/AP50", "AP"} <= scalars(folder.path / "validation")
  # An evaluation of the checkpoint gives the same metrics.
  assert runner.evaluate(experiment, dataset, folder, strategy).exit_metrics == result.exit_metrics


def scalars(folder):
  (file,) = folder.glob("events*")
  return {
    value.tag
    for event in tf.compat.v1.train.summary_iterator(str(file))
    for value in event.summary.value
  }


def test_one_weight_for_every_exit(ordinary):
  with pytest.raises(UserError, match="has 2 weights for 3 exits"):
    anytime(ordinary, exit_loss_weights=(1.0, 1.0))
  with pytest.raises(UserError, match="has 3 weights for 1 exits"):
    anytime(ordinary, "last", exit_loss_weights=(1.0, 1.0, 1.0))
