"""The train step as a TPU needs it: static shapes, compiled by XLA, with the same results."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.vision.modeling.backbones.resnet import ResNet

from official_nasfpn.data.config import InputConfig
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detector import build_detector
from official_nasfpn.training import task as task_lib
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, open_dataset
from official_nasfpn.training.optimizer import build_optimizer, num_steps
from official_nasfpn.training.strategies import build_strategy
from official_nasfpn.training.task import DetectionTask
from official_nasfpn.training.train_step import loss_names


@pytest.fixture(scope="module")
def experiment_and_dataset(shapes_data):
  return open_dataset(
    Experiment(
      DetectorConfig(
        backbone="R-10",
        backbone_width=0.25,
        architecture="nas_fpn",
        num_filters=16,
        num_repeats=1,
        head_num_convs=1,
        image_size=(128, 128),
        norm_momentum=0.9,
      ),
      InputConfig(data_dir=str(shapes_data)),
      TrainingConfig(batch_size=4, gradient_clip_norm=10.0, warmup_learning_rate=0.08),
    )
  )


def _with_drop_block(experiment, rate):
  training = dataclasses.replace(experiment.training, drop_block_rate=rate)
  return dataclasses.replace(experiment, training=training)


class _TrainStep:
  """A train step that can be repeated from the same initial weights."""

  def __init__(self, experiment, dataset, jit_compile):
    task = DetectionTask(experiment, dataset)
    self._model = task.build_model()
    self._optimizer = build_optimizer(
      experiment.training, dataset.num_images(("train",)), self._model.trainable_variables
    )
    self._metrics = task.build_metrics()
    batches = task.build_inputs()
    for spec in tf.nest.flatten(batches.element_spec):
      assert spec.shape.is_fully_defined(), spec
    self._batch = next(iter(batches))
    self._variables = [*self._model.variables, *self._optimizer.variables()]
    self._initial = [variable.numpy() for variable in self._variables]
    self._step = tf.function(
      lambda batch: task.train_step(batch, self._model, self._optimizer, self._metrics),
      jit_compile=jit_compile,
    )

  def take(self, step_number=0):
    """Takes the step as step `step_number`; returns the losses and the weights after it."""
    for variable, value in zip(self._variables, self._initial, strict=True):
      variable.assign(value)
    self._optimizer.iterations.assign(step_number)
    for metric in self._metrics:
      metric.reset_states()
    self._step(self._batch)
    losses = {metric.name: float(metric.result()) for metric in self._metrics}
    return losses, [(weight.name, weight.numpy()) for weight in self._model.variables]


@pytest.fixture(scope="module")
def compiled_step(experiment_and_dataset):
  return _TrainStep(*experiment_and_dataset, jit_compile=True)


@pytest.mark.slow
def test_xla_compiles_the_whole_train_step_and_computes_the_same(
  experiment_and_dataset, compiled_step
):
  losses, weights = _TrainStep(*experiment_and_dataset, jit_compile=False).take()
  compiled_losses, compiled_weights = compiled_step.take()
  assert set(losses) == set(loss_names(1))
  assert losses["box_loss"] > 0
  assert compiled_losses == pytest.approx(losses, rel=1e-3)
  for (name, value), (_, compiled) in zip(weights, compiled_weights, strict=True):
    np.testing.assert_allclose(compiled, value, rtol=1e-2, atol=1e-3, err_msg=name)


@pytest.mark.slow
def test_xla_compiles_drop_block_too(experiment_and_dataset, compiled_step):
  experiment, dataset = experiment_and_dataset
  plain, plain_weights = compiled_step.take(step_number=100)
  dropping = _TrainStep(_with_drop_block(experiment, 0.2), dataset, jit_compile=True)
  first, weights = dropping.take(step_number=100)
  second, again = dropping.take(step_number=100)
  assert first == second
  # With initial weights the loss is the prior's. Dropped blocks change what later cells see.
  assert first["total_loss"] == pytest.approx(plain["total_loss"], rel=0.01)
  name = "detector/pyramid/repeat_1/cell_7/norm/moving_mean:0"
  assert np.abs(dict(weights)[name] - dict(plain_weights)[name]).max() > 1e-3
  for (name, value), (_, other) in zip(weights, again, strict=True):
    np.testing.assert_array_equal(value, other, err_msg=name)


def test_drop_block_rises_linearly_to_its_rate(experiment_and_dataset):
  experiment, dataset = experiment_and_dataset
  task = DetectionTask(_with_drop_block(experiment, 0.2), dataset)
  total = num_steps(experiment.training, dataset.num_images(experiment.input.train_parts))
  rates = [float(task._drop(tf.constant(step)).rate) for step in (0, total // 2, total, 2 * total)]
  assert rates == pytest.approx([0.0, 0.1, 0.2, 0.2], rel=0.01)
  seeds = {tuple(task._drop(tf.constant(step)).seed.numpy()) for step in range(20)}
  assert len(seeds) == 20
  assert DetectionTask(experiment, dataset)._drop(tf.constant(5)) is None


def test_every_replica_drops_its_own_blocks(experiment_and_dataset):
  experiment, dataset = experiment_and_dataset
  strategy = build_strategy("mirrored")
  with strategy.scope():
    task = DetectionTask(_with_drop_block(experiment, 0.2), dataset)
  seeds = strategy.run(lambda: task._drop(tf.constant(7)).seed).values
  assert len({tuple(seed.numpy()) for seed in seeds}) == 2


def test_every_micro_batch_drops_its_own_blocks(experiment_and_dataset, monkeypatch):
  experiment, dataset = experiment_and_dataset
  task = DetectionTask(_with_drop_block(experiment, 0.2), dataset)
  batch = next(iter(task.build_inputs()))
  seeds = []

  def model(images, training, drop, wiring):
    seeds.append(tuple(drop.seed.numpy()))

  def take(forward, images, *arguments):
    for number in (None, tf.constant(0), tf.constant(1)):
      forward(images, number)
    return dict.fromkeys(task.losses, 0.0)

  model.trainable_variables = []
  monkeypatch.setattr(task_lib, "train_step", take)
  optimizer = build_optimizer(experiment.training, 38, [])
  task.train_step(batch, model, optimizer, [])
  assert len(set(seeds)) == 3
  # A batch as a whole drops what it always did.
  assert seeds[0] == tuple(task._drop(optimizer.iterations).seed.numpy())


def _with_backbone_weights(experiment, path):
  training = dataclasses.replace(experiment.training, backbone_weights=str(path))
  return dataclasses.replace(experiment, training=training)


def test_a_backbone_of_the_model_garden_is_read(experiment_and_dataset, tmp_path):
  experiment, dataset = experiment_and_dataset
  tf_keras.utils.set_random_seed(7)
  # As Model Garden's classification task saves them: with C2, under the name `backbone`.
  theirs = ResNet(
    model_id=10,
    input_specs=tf_keras.layers.InputSpec(shape=[None, 128, 128, 3]),
    depth_multiplier=0.25,
    norm_epsilon=1e-4,
  )
  path = tf.train.Checkpoint(backbone=theirs, other=tf.Variable(1.0)).save(tmp_path / "ckpt")
  task = DetectionTask(_with_backbone_weights(experiment, path), dataset)
  model = task.build_model()
  image = tf.random.stateless_normal([1, 128, 128, 3], [0, 1])
  assert not np.allclose(model.backbone(image)["5"], theirs(image)["5"])
  task.initialize(model)
  for level in ("3", "4", "5"):
    np.testing.assert_allclose(model.backbone(image)[level], theirs(image)[level], rtol=1e-4)


def test_a_checkpoint_of_a_backbone_that_cannot_be_read_is_named(experiment_and_dataset, tmp_path):
  experiment, dataset = experiment_and_dataset
  missing = DetectionTask(_with_backbone_weights(experiment, tmp_path / "no"), dataset)
  model = missing.build_model()
  with pytest.raises(UserError, match=r"no': there is no such file"):
    missing.initialize(model)
  other = dataclasses.replace(experiment.detector, backbone="R-18")
  path = tf.train.Checkpoint(backbone=build_detector(other, 1).backbone).save(tmp_path / "other")
  with pytest.raises(UserError, match=r"does not fit Detector\.backbone = 'R-10'"):
    DetectionTask(_with_backbone_weights(experiment, path), dataset).initialize(model)
