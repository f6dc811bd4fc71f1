"""Training in float16: the loss is scaled, and a step whose gradients overflow is left out."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.data.config import InputConfig
from official_nasfpn.errors import UserError
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, open_dataset
from official_nasfpn.training.number_format import number_format
from official_nasfpn.training.optimizer import build_optimizer, optimizer_state
from official_nasfpn.training.task import DetectionTask
from official_nasfpn.training.training import train_detector


@pytest.fixture
def experiment(tiny_detector, shapes_data):
  return Experiment(
    tiny_detector,
    InputConfig(data_dir=str(shapes_data)),
    TrainingConfig(
      batch_size=4,
      epochs=0.3,
      decay_epochs=(),
      evaluation_batch_size=16,
      compute_dtype="mixed_float16",
    ),
  )


class _Step:
  """A train step under a policy, with its losses and what it changes."""

  def __init__(self, experiment, policy):
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
      experiment, dataset = open_dataset(experiment)
      self.task = DetectionTask(experiment, dataset)
      self.model = self.task.build_model()
      variables = self.model.trainable_variables
      self.optimizer = build_optimizer(experiment.training, 38, variables)
      metrics = self.task.build_metrics()
      batch = next(iter(self.task.build_inputs()))
      step = tf.function(lambda: self.task.train_step(batch, self.model, self.optimizer, metrics))
      step()
      self.take = step
      self.losses = {metric.name: float(metric.result()) for metric in metrics}
    finally:
      tf_keras.mixed_precision.set_global_policy("float32")

  def weights(self):
    return [variable.numpy() for variable in self.model.trainable_variables]


@pytest.mark.slow
def test_float16_learns_what_float32_does(experiment):
  half, single = (_Step(experiment, policy) for policy in ("mixed_float16", "float32"))
  assert half.losses == pytest.approx(single.losses, rel=1e-2)
  for ours, theirs in zip(half.weights(), single.weights(), strict=True):
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=5e-3)
  assert optimizer_state(single.optimizer) == single.optimizer.variables()


@pytest.mark.slow
def test_a_step_whose_gradients_overflow_is_left_out_and_is_no_divergence(experiment):
  step = _Step(experiment, "mixed_float16")
  scale, counter = optimizer_state(step.optimizer)[-2:]
  assert float(scale) == 2**15
  assert int(counter) == 1
  before = step.weights()
  scale.assign(1e38)
  (total_loss,) = step.take().values()
  assert np.isfinite(float(total_loss))
  assert float(scale) == pytest.approx(5e37)
  assert int(counter) == 0
  assert int(step.optimizer.iterations) == 2
  for ours, theirs in zip(step.weights(), before, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  step.task.nan_guard.check(tf.distribute.get_strategy())
  # With a scale that fits again it goes on.
  scale.assign(2.0**15)
  step.take()
  assert any(not np.array_equal(a, b) for a, b in zip(step.weights(), before, strict=True))


@pytest.mark.slow
def test_a_training_in_float16_goes_on_in_the_format_of_another_device(experiment, tmp_path):
  run = train_detector(experiment, tmp_path / "run")
  assert run.evaluation.compute_dtype == "mixed_float16"
  assert "; computes in float16: as" in (run.model_dir / "train.log").read_text()
  assert tf_keras.mixed_precision.global_policy().name == "float32"
  # The last step again, as if it had been killed before, by way of 'auto'.
  for file in (run.model_dir / "checkpoints").glob("*"):
    if file.name != "checkpoint":
      file.rename(file.with_name(file.name.replace("ckpt-3", "ckpt-2")))
  states = run.model_dir / "checkpoints" / "checkpoint"
  states.write_text(states.read_text().replace("ckpt-3", "ckpt-2"))
  training = dataclasses.replace(experiment.training, compute_dtype="auto", epochs=0.3)
  again = train_detector(
    dataclasses.replace(experiment, training=training), run.model_dir, evaluate=False
  )
  assert again.steps == 3


def test_float16_is_not_for_tpus(monkeypatch):
  strategy = object.__new__(tf.distribute.TPUStrategy)
  monkeypatch.setattr(tf.distribute, "get_strategy", lambda: strategy)
  with pytest.raises(UserError, match="'mixed_float16' is not for TPUs"):
    number_format("mixed_float16")
