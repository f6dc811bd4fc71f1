"""Trainings that begin with the same weights: the same again, whatever was trained between."""

import dataclasses
import random

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.data.config import InputConfig
from official_nasfpn.modeling import wired_pyramid
from official_nasfpn.training import repeated_training
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, open_dataset
from official_nasfpn.training.nan_guard import TrainingDiverged
from official_nasfpn.training.repeated_training import RepeatedTraining
from official_nasfpn.training.task import DetectionTask
from official_nasfpn.training.training import train_detector

SPACE = SearchSpace()
FIRST, SECOND = (SPACE.sample(random.Random(seed)) for seed in (1, 2))
CONFIG = TrainingConfig(
  batch_size=4,
  epochs=0.5,
  learning_rate=0.1,
  warmup_epochs=0.1,
  decay_epochs=(),
  evaluation_batch_size=8,
  steps_per_loop=2,
)


def _experiment(tiny_detector, shapes_data, architecture=FIRST, **training):
  return Experiment(
    dataclasses.replace(tiny_detector, anchor_size=2.0, architecture=architecture),
    InputConfig(data_dir=str(shapes_data)),
    dataclasses.replace(CONFIG, **training),
  )


def _build(experiment):
  tf_keras.backend.clear_session()
  return RepeatedTraining(*open_dataset(experiment))


def _weights(training):
  return [variable.numpy() for variable in training._trainer.model.variables]


@pytest.mark.slow
def test_one_graph_has_one_size(tiny_detector, shapes_data, tmp_path):
  training = _build(_experiment(tiny_detector, shapes_data))
  deeper = dataclasses.replace(SECOND, num_repeats=2)
  with pytest.raises(ValueError, match="an architecture of another size"):
    training.run(deeper, tmp_path / "train.log", lambda share: None)


@pytest.mark.slow
def test_one_graph_trains_what_a_graph_of_its_own_does(
  tiny_detector, shapes_data, tmp_path, weights, monkeypatch
):
  """The same AP and the same weights, within the rounding of sums in another order."""
  traced = []
  call = wired_pyramid.OneWiredPyramid.call
  monkeypatch.setattr(
    wired_pyramid.OneWiredPyramid,
    "call",
    lambda self, *args, **kwargs: traced.append(kwargs["training"]) or call(self, *args, **kwargs),
  )
  experiment = _experiment(tiny_detector, shapes_data)
  training = _build(experiment)
  assert training.takes_any_architecture
  before = _weights(training)
  found = {}
  for name, spec in (("first", FIRST), ("second", SECOND), ("again", FIRST)):
    result, share = training.run(spec, tmp_path / f"{name}.log", lambda share: None)
    assert share == 1
    found[name] = result.metrics, _weights(training)
  # Once each for building the weights, training and evaluating.
  assert sorted(traced, key=str) == [False, None, True]
  assert found["again"][0] == found["first"][0]
  for again, value in zip(found["again"][1], found["first"][1], strict=True):
    np.testing.assert_array_equal(again, value)

  for name, spec in (("first", FIRST), ("second", SECOND)):
    own = _experiment(tiny_detector, shapes_data, spec)
    run = train_detector(own, tmp_path / name, evaluate=True)
    assert found[name][0]["AP"] == pytest.approx(run.evaluation.metrics["AP"], abs=1e-3)
  moved = [
    abs(one - two).max() for one, two in zip(found["first"][1], found["second"][1], strict=True)
  ]
  assert max(moved) > 1e-3
  assert any(
    not np.array_equal(one, two) for one, two in zip(before, found["first"][1], strict=True)
  )


@pytest.mark.slow
def test_initial_weights_are_those_of_a_detector_of_its_own(tiny_detector, shapes_data):
  from official_nasfpn.modeling.detector import build_detector

  experiment = _experiment(tiny_detector, shapes_data)
  training = _build(experiment)
  for spec in (FIRST, SECOND):
    tf_keras.utils.set_random_seed(experiment.training.seed)
    config = dataclasses.replace(experiment.detector, architecture=spec)
    own = build_detector(config, training._trainer.task._label_map.num_classes)
    pairs = zip(own.variables, training._trainer.model.variables, strict=True)
    for variable, other in pairs:
      np.testing.assert_array_equal(variable.numpy(), other.numpy(), err_msg=variable.name)


@pytest.mark.slow
def test_a_training_may_stop_on_the_way(tiny_detector, shapes_data, tmp_path):
  training = _build(_experiment(tiny_detector, shapes_data, "fpn", epochs=0.8))
  assert not training.takes_any_architecture
  spec = training._experiment.detector.architecture
  with pytest.raises(ValueError, match="of another architecture"):
    training.run(FIRST, tmp_path / "train.log", lambda share: None)

  def train(stops, should_stop=lambda share, result: False):
    told = []
    result, share = training.run(spec, tmp_path / "train.log", told.append, stops, should_stop)
    return result.metrics, share, told

  whole = train(())
  assert whole[1] == 1
  assert whole[2][-1] == 1
  # Evaluations during the training do not change it.
  seen = []
  assert train((0.75, 0.25), lambda share, result: seen.append((share, result))) == whole
  assert [share for share, _ in seen] == [0.25, 0.75]
  metrics, share, told = train((0.25, 0.75), lambda share, result: share == 0.25)
  assert (metrics, share) == (seen[0][1].metrics, 0.25)
  assert max(told) == 0.25


def test_an_evaluation_has_the_average_which_begins_at_the_weights_that_were_read(
  tiny_detector, shapes_data, tmp_path, monkeypatch
):
  kernel = []

  def initialize(task, model):
    del task
    kernel.append(model.trainable_variables[0])
    kernel[0].assign(tf.fill(kernel[0].shape, 3.0))

  class Controller:
    """Moves the weights, and leaves the average where it begins."""

    def __init__(self, **parts):
      del parts

    def train(self, step):
      del step
      kernel[0].assign_add(tf.ones(kernel[0].shape))

  seen = []
  monkeypatch.setattr(DetectionTask, "initialize", initialize)
  monkeypatch.setattr(repeated_training.orbit, "Controller", Controller)
  training = _build(_experiment(tiny_detector, shapes_data, ema_decay=0.9))
  monkeypatch.setattr(
    training._evaluator, "run", lambda: seen.append(np.unique(kernel[0].numpy()).tolist())
  )
  for _ in range(2):
    training.run(FIRST, tmp_path / "log", lambda share: None, [0.5], lambda share, result: False)
    # The training goes on from its own weights, and the next one from the start.
    assert np.unique(kernel[0].numpy()).tolist() == [5.0]
  assert seen == [[3.0]] * 4


@pytest.mark.slow
def test_a_training_that_diverged_leaves_nothing_to_the_next(tiny_detector, shapes_data, tmp_path):
  training = _build(_experiment(tiny_detector, shapes_data))
  log = tmp_path / "train.log"
  expected, _ = training.run(FIRST, log, lambda share: None)
  kernel = training._trainer.model.trainable_variables[0]

  def damage(share):
    kernel.assign(tf.fill(kernel.shape, np.nan))

  with pytest.raises(TrainingDiverged):
    training.run(SECOND, log, damage)
  result, _ = training.run(FIRST, log, lambda share: None)
  assert result.metrics == expected.metrics


@pytest.mark.parametrize(
  "settings", [{"drop_block_rate": 0.1}, {"jit_compile": True}], ids=["DropBlock", "XLA"]
)
def test_what_the_one_graph_cannot_do_has_its_own(settings, tiny_detector, shapes_data):
  training = _build(_experiment(tiny_detector, shapes_data, **settings))
  assert not training.takes_any_architecture
