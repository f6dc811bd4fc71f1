"""The average of the weights: what it is, who uses it, and that the training does not."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.data.config import InputConfig
from official_nasfpn.serving.export.export_detector import export_detector
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.optimizer import build_optimizer, optimizer_state
from official_nasfpn.training.restore import restore_detector
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.start_weights import take_weights, weights_by_part
from official_nasfpn.training.strategies import build_strategy
from official_nasfpn.training.training import evaluate_detector, train_detector
from official_nasfpn.training.weight_average import averaged_weights, begin_average

DECAY = 0.9
SETTINGS = TrainingConfig(
  ema_decay=DECAY, batch_size=64, learning_rate=0.05, warmup_learning_rate=0.05, warmup_epochs=0.01
)


class Model(tf_keras.Model):
  """A kernel and a batch norm, whose statistics no optimizer touches."""

  def __init__(self):
    super().__init__()
    self.dense = tf_keras.layers.Dense(2, use_bias=False)
    self.norm = tf_keras.layers.BatchNormalization(momentum=0.5)

  def call(self, inputs, training=None):
    return self.norm(self.dense(inputs), training=training)


def numpy_average(history):
  """The average after each step, as Model Garden's dynamic decay says it."""
  average = history[0]
  for step, value in enumerate(history[1:], start=1):
    decay = min(DECAY, (1 + step) / (10 + step))
    average = [decay * a + (1 - decay) * v for a, v in zip(average, value, strict=True)]
  return average


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_it_is_the_average_of_all_weights(policy, strategy):
  strategy = build_strategy(strategy)
  former = tf_keras.mixed_precision.global_policy()
  tf_keras.mixed_precision.set_global_policy(policy)
  try:
    with strategy.scope():
      tf_keras.utils.set_random_seed(0)
      model = Model()
      model(tf.zeros([4, 3]))
      optimizer = build_optimizer(SETTINGS, 1000, model.trainable_variables)
      begin_average(optimizer, model)
  finally:
    tf_keras.mixed_precision.set_global_policy(former)

  @tf.function
  def step(inputs):
    def of_replica():
      with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.cast(model(inputs, training=True), tf.float32)[:, 0] ** 2)
        scales = hasattr(optimizer, "get_scaled_loss")
        to_differentiate = optimizer.get_scaled_loss(loss) if scales else loss
      gradients = tape.gradient(to_differentiate, model.trainable_variables)
      if scales:
        gradients = optimizer.get_unscaled_gradients(gradients)
      optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    strategy.run(of_replica)

  history = [model.get_weights()]
  for number in range(6):
    before = int(optimizer.iterations.numpy())
    step(tf.random.stateless_normal([4, 3], [number, 0]))
    # In float16 the first steps overflow, and are left out.
    if optimizer.iterations.numpy() > before:
      history.append(model.get_weights())
  assert len(history) > 3
  assert max(np.abs(a - b).max() for a, b in zip(history[0], history[-1], strict=True)) > 0.01
  with strategy.scope(), averaged_weights(optimizer):
    found = model.get_weights()
  for number, (value, expected) in enumerate(zip(found, numpy_average(history), strict=True)):
    # Under loss scaling the very first step averages the statistics before they are updated.
    is_statistic = number >= len(model.trainable_weights)
    atol = 5e-3 if policy == "mixed_float16" and is_statistic else 1e-6
    np.testing.assert_allclose(value, expected, rtol=2e-5, atol=atol)
  for value, expected in zip(model.get_weights(), history[-1], strict=True):
    np.testing.assert_array_equal(value, expected)  # Bit by bit: the training goes on from them.


def test_a_search_goes_back_to_the_start_of_it_too():
  model = Model()
  model(tf.zeros([4, 3]))
  optimizer = build_optimizer(SETTINGS, 1000, model.trainable_variables)
  begin_average(optimizer, model)
  state = optimizer_state(optimizer)
  # The averages of six weights, momentum of three, and the number of the step.
  assert len({id(variable) for variable in state}) >= 6 - 1 + 3 + 1


@pytest.fixture
def experiment(tiny_detector, shapes_data):
  return Experiment(
    tiny_detector,
    InputConfig(data_dir=str(shapes_data)),
    TrainingConfig(
      batch_size=4,
      epochs=0.4,
      learning_rate=0.1,
      warmup_epochs=0.1,
      decay_epochs=(),
      checkpoint_epochs=0.1,
      checkpoints_to_keep=4,
      steps_per_loop=2,
      ema_decay=0.5,
    ),
  )


def flat(detector):
  return [v.numpy() for variables in weights_by_part(detector).values() for v in variables]


@pytest.mark.slow
def test_evaluations_exports_and_later_trainings_have_the_average(experiment, tmp_path):
  run = train_detector(experiment, tmp_path / "run")
  folder = RunFolder(run.model_dir)
  settings, label_map = folder.load()
  best = flat(restore_detector(settings, label_map, folder.checkpoint_to_use()))
  last = flat(restore_detector(settings, label_map, folder.latest_checkpoint()))
  plain = dataclasses.replace(
    settings, training=dataclasses.replace(settings.training, ema_decay=None)
  )
  raw_detector = restore_detector(plain, label_map, folder.latest_checkpoint())
  raw = flat(raw_detector)
  # The best and the last checkpoint are of the same step: one holds the average as weights, the
  # other beside them.
  for value, expected in zip(last, best, strict=True):
    np.testing.assert_array_equal(value, expected)
  assert max(np.abs(a - b).max() for a, b in zip(best, raw, strict=True)) > 1e-4

  assert evaluate_detector(run.model_dir).evaluation == run.evaluation
  export = export_detector(run.model_dir, tmp_path / "export", check=True)
  assert export.check.expected
  take_weights(raw_detector, label_map, str(export.path))
  for value, expected in zip(flat(raw_detector), best, strict=True):
    np.testing.assert_array_equal(value, expected)


@pytest.mark.slow
def test_the_average_does_not_change_the_training_and_is_resumed(experiment, tmp_path, weights):
  def train(name, **settings):
    training = dataclasses.replace(experiment.training, **settings)
    run = train_detector(
      dataclasses.replace(experiment, training=training), tmp_path / name, evaluate=False
    )
    return RunFolder(run.model_dir)

  with_it, without = train("with"), train("without", ema_decay=None)
  for name, value in weights(without).items():
    np.testing.assert_array_equal(weights(with_it)[name], value, err_msg=name)

  # As if it had been killed after its checkpoint of step 2: from one checkpoint to the next, also
  # over that one, the average moves towards the weights by what is left of the decay.
  for file in with_it.checkpoints.glob("ckpt-[34].*"):
    file.unlink()
  states = with_it.checkpoints / "checkpoint"
  states.write_text(states.read_text().replace("ckpt-4", "ckpt-2"))
  train("with")
  kept = [checkpoint(with_it, step) for step in (1, 2, 3, 4)]
  assert len(kept[0]) > 100
  for step, (before, after) in enumerate(itertools.pairwise(kept), start=2):
    decay = min(0.5, (1 + step) / (10 + step))
    for name, (average, weight) in after.items():
      expected = decay * before[name][0] + (1 - decay) * weight
      np.testing.assert_allclose(average, expected, rtol=1e-4, atol=1e-6, err_msg=name)


def checkpoint(folder, step):
  """Returns the average and the value of every weight in a checkpoint."""
  reader = tf.train.load_checkpoint(str(folder.checkpoints / f"ckpt-{step}"))
  value, average = "/.ATTRIBUTES/VARIABLE_VALUE", "/.OPTIMIZER_SLOT/optimizer/average"
  names = [
    name.removesuffix(average + value)
    for name in reader.get_variable_to_shape_map()
    if name.endswith(average + value)
  ]
  return {
    name: (reader.get_tensor(name + average + value), reader.get_tensor(name + value))
    for name in names
  }
