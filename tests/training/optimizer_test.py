"""Learning rates at the steps where they change."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.optimizer import (
  build_optimizer,
  learning_rate_schedule,
  num_steps,
)
from official_nasfpn.training.strategies import build_strategy
from official_nasfpn.training.weight_average import begin_average

IMAGES = 110_895  # train2017 without the reward's 7,392 images


def test_the_papers_step_schedule():
  # Section 4.1: 50 epochs, 0.08 for a batch of 64, times 0.1 at epochs 30 and 40.
  config = TrainingConfig()
  rate = learning_rate_schedule(config, IMAGES)
  steps_per_epoch = IMAGES / 64
  assert num_steps(config, IMAGES) == 86_637
  assert float(rate(0)) == pytest.approx(0.0067, rel=1e-3)
  assert float(rate(2 * steps_per_epoch)) == pytest.approx(0.08)
  assert float(rate(29 * steps_per_epoch)) == pytest.approx(0.08)
  assert float(rate(31 * steps_per_epoch)) == pytest.approx(0.008)
  assert float(rate(41 * steps_per_epoch)) == pytest.approx(0.0008)


def test_rates_scale_with_the_batch():
  rate = learning_rate_schedule(TrainingConfig(batch_size=16), IMAGES)
  steps_per_epoch = IMAGES / 16
  assert float(rate(0)) == pytest.approx(0.0067 / 4, rel=1e-3)
  assert float(rate(10 * steps_per_epoch)) == pytest.approx(0.02)


def test_cosine_ends_at_zero():
  config = TrainingConfig(schedule="cosine", epochs=10.0)
  rate = learning_rate_schedule(config, 6400)
  assert float(rate(500)) == pytest.approx(0.04, rel=1e-3)
  assert float(rate(1000)) == pytest.approx(0.0, abs=1e-6)


def test_a_constant_rate_without_decay_epochs():
  rate = learning_rate_schedule(TrainingConfig(decay_epochs=()), 6400)
  assert float(rate(4999)) == pytest.approx(0.08)


def test_a_recipe_can_last_equally_long_on_every_dataset():
  config = TrainingConfig(batch_size=4, epochs=9.0, warmup_epochs=0.5, images_per_epoch=576)
  for images in (50, 164, 100_000):
    assert num_steps(config, images) == 1296
    assert float(learning_rate_schedule(config, images)(71)) < 0.005
    assert float(learning_rate_schedule(config, images)(72)) == pytest.approx(0.005)


def test_momentum():
  assert build_optimizer(TrainingConfig(), 6400, []).get_config()["momentum"] == 0.9


@pytest.mark.parametrize(
  ("setting", "message"),
  [
    ({"schedule": "poly"}, "'step' or 'cosine'"),
    ({"batch_size": 0}, "greater than 0"),
    ({"batch_size": 4.5}, "valid integer"),
    ({"epochs": 0}, "greater than 0"),
    ({"images_per_epoch": 0}, "greater than 0"),
    ({"decay_epochs": (40, 30)}, "must increase"),
    ({"learning_rate": float("nan")}, "finite"),
    ({"compute_dtype": "float16"}, "'float32', 'mixed_bfloat16' or 'mixed_float16'"),
    ({"jit_compile": "gpu"}, "'auto'"),
    ({"batchsize": 4}, "Unexpected keyword argument"),
  ],
)
def test_bad_settings_are_refused(setting, message):
  (name,) = setting
  with pytest.raises(ValueError, match=rf"(?s){name}.*{message}"):
    TrainingConfig(**setting)


def test_adam_is_clipped_and_scheduled_too():
  config = TrainingConfig(
    optimizer="adam", schedule="cosine", batch_size=8, learning_rate=0.016, gradient_clip_norm=10.0
  )
  settings = build_optimizer(config, 6400, []).get_config()
  assert settings["name"] == "Adam"
  assert build_optimizer(config, 6400, []).global_clipnorm == 10.0
  assert float(learning_rate_schedule(config, 6400)(800)) == pytest.approx(0.002, rel=1e-2)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_a_weight_with_a_factor_has_that_share_of_the_learning_rate(optimizer, strategy, ema_decay):
  config = TrainingConfig(
    optimizer=optimizer,
    learning_rate=0.1,
    warmup_learning_rate=0.1,
    decay_epochs=(),
    ema_decay=ema_decay,
  )
  strategy = build_strategy(strategy)
  with strategy.scope():
    variables = [tf.Variable([1.0, -2.0], name=name) for name in ("plain", "slow", "still")]
    built = build_optimizer(config, 6400, variables, {"slow": 0.25, "still": 0.0})
    if ema_decay:
      model = tf_keras.Model()
      model.plain, model.slow, model.still = variables
      begin_average(built, model)

  @tf.function
  def step():
    def of_replica():
      gradients = [tf.constant([0.5, 2.0])] * 3
      built.apply_gradients(zip(gradients, variables, strict=True))

    strategy.run(of_replica)

  for _ in range(3):
    step()
  plain, slow, still = (variable.numpy() - [1.0, -2.0] for variable in variables)
  assert np.abs(plain).min() > 0.1
  np.testing.assert_allclose(slow, 0.25 * plain, rtol=1e-5)
  np.testing.assert_array_equal(still, 0.0)
