"""The learning rate range test: rates rise, the loss falls, then diverges; the advice is before."""

import dataclasses

import numpy as np
import pytest
import tf_keras
from PIL import Image

from official_nasfpn.data.config import InputConfig
from official_nasfpn.errors import UserError
from official_nasfpn.training import learning_rate_range
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.learning_rate_range import (
  LearningRateRange,
  _suggested,
  find_learning_rate,
)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_rate_rises_until_the_loss_diverges(tiny_detector, shapes_data, optimizer, tmp_path):
  experiment = Experiment(
    dataclasses.replace(tiny_detector, anchor_size=2.0),
    InputConfig(data_dir=str(shapes_data)),
    TrainingConfig(batch_size=4, optimizer=optimizer, ema_decay=0.9),
  )
  found = find_learning_rate(experiment, num_steps=40)
  rates, losses = np.array(found.rates), np.array(found.losses)
  np.testing.assert_allclose(rates[1:] / rates[:-1], 1e6 ** (1 / 39), rtol=1e-6)
  assert rates[0] == pytest.approx(1e-5)
  lowest = losses.argmin()
  assert 0 < lowest < len(losses) - 1
  assert losses[lowest] < 0.95 * losses[0]
  assert found.suggestion == pytest.approx(0.1 * rates[lowest])
  assert f"Training.learning_rate = {found.suggestion:.2g}" in found.as_text()

  found.draw(tmp_path / "curve.png")
  pixels = np.asarray(Image.open(tmp_path / "curve.png").convert("RGB"))
  # The curve has the first colour of matplotlib's cycle.
  assert (np.abs(pixels.astype(int) - [31, 119, 180]).sum(axis=-1) < 30).sum() > 100


def test_the_precision_policy_of_the_caller_is_kept(tiny_detector, shapes_data, monkeypatch):
  def rising(experiment, dataset, num_steps):
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield from zip((0.1, 0.2, 0.3), (2.0, 1.0, 9.0), strict=True)

  monkeypatch.setattr(learning_rate_range, "_rising", rising)
  detector = dataclasses.replace(tiny_detector, anchor_size=2.0)
  data = InputConfig(data_dir=str(shapes_data))
  try:
    find_learning_rate(Experiment(detector, data, TrainingConfig()))
    assert tf_keras.mixed_precision.global_policy().name == "float32"
  finally:
    tf_keras.mixed_precision.set_global_policy("float32")


def test_where_nothing_is_learnt_there_is_no_suggestion():
  with pytest.raises(UserError, match="does not fall at any learning rate"):
    _suggested([1e-5, 1e-4], [1.0, 1.1])
  with pytest.raises(UserError, match="does not fall at any learning rate"):
    _suggested([], [])


def test_a_long_course_is_shortened():
  rates = tuple(float(number) for number in range(1, 101))
  text = LearningRateRange(rates, rates, 3.0).as_text()
  assert len(text.splitlines()) < 20
