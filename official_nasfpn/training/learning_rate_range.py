"""The learning rate range test (Smith 2017): the loss while the learning rate rises.

One short training in which every step has a larger rate than the one before. The loss falls, falls
fastest, and then grows beyond all bounds; a good largest rate lies a good way before that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from official_nasfpn.disk import disk_errors
from official_nasfpn.errors import UserError
from official_nasfpn.progress import progress_bar
from official_nasfpn.training.experiment import Experiment, open_dataset

if TYPE_CHECKING:
  from official_nasfpn.data.dataset_info import DatasetInfo

_LOWEST, _HIGHEST = 1e-5, 10.0
# What the smoothed loss keeps of itself at every step.
_SMOOTHING = 0.9
_DIVERGED = 3.0
# Of the rate with the lowest loss: there it is about to diverge.
_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class LearningRateRange:
  """What a range test found.

  Attributes:
    rates: values of `Training.learning_rate`, one for each step.
    losses: the smoothed total loss at each.
    suggestion: a value for `Training.learning_rate`.
  """

  rates: tuple[float, ...]
  losses: tuple[float, ...]
  suggestion: float

  def as_text(self) -> str:
    """Returns the course of the loss and the suggestion, for people."""
    lines = ["learning rate   loss"]
    every = max(len(self.rates) // 12, 1)
    for rate, loss in list(zip(self.rates, self.losses, strict=True))[::every]:
      lines.append(f"  {rate:11.3g}   {loss:.3f}")
    return "\n".join([*lines, "", f"Training.learning_rate = {self.suggestion:.2g}"])

  def draw(self, path: Path) -> None:
    """Draws the loss over the learning rate into an image file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogx(self.rates, self.losses)
    axes.axvline(self.suggestion, color="grey", linestyle="--", label=f"{self.suggestion:.2g}")
    low = min(self.losses)
    axes.set_ylim(0.8 * low, 1.3 * max(self.losses[0], low))
    axes.set_xlabel("Training.learning_rate")
    axes.set_ylabel("total loss, smoothed")
    axes.legend(title="suggestion")
    axes.grid(alpha=0.3)
    with disk_errors(path, "Choose another --figure."):
      figure.savefig(path, dpi=120)


def find_learning_rate(experiment: Experiment, num_steps: int = 100) -> LearningRateRange:
  """Trains for some steps with a rising learning rate, from the weights that the training has.

  Nothing is written.

  Args:
    experiment: all settings, `Input.data_dir` among them.
    num_steps: steps from the lowest to the highest rate.

  Raises:
    UserError: the data or what the training starts from is missing, or no rate lets it learn.
  """
  experiment, dataset = open_dataset(experiment)
  rates, losses = [], []
  smoothed = 0.0
  from official_nasfpn.data.damaged_data import damage_named
  from official_nasfpn.training.number_format import keras_policy_kept

  with (
    progress_bar(num_steps, "learning rate", "step") as bar,
    damage_named(dataset),
    keras_policy_kept(),
  ):
    for number, (rate, loss) in enumerate(_rising(experiment, dataset, num_steps), start=1):
      bar.update()
      if not math.isfinite(loss):
        break
      smoothed = _SMOOTHING * smoothed + (1 - _SMOOTHING) * loss
      rates.append(rate)
      losses.append(smoothed / (1 - _SMOOTHING**number))
      if losses[-1] > _DIVERGED * min(losses):
        break
  return LearningRateRange(tuple(rates), tuple(losses), _suggested(rates, losses))


def _suggested(rates: Sequence[float], losses: Sequence[float]) -> float:
  if not losses or min(losses) == losses[0]:
    raise UserError(
      "The loss does not fall at any learning rate. Look at the data and at what the training "
      "starts from."
    )
  return rates[losses.index(min(losses))] * _SHARE


def _rising(experiment: Experiment, dataset: DatasetInfo, num_steps: int):
  """Yields the learning rate and the loss of every step."""
  import tensorflow as tf

  from official_nasfpn.training.runner import build_trainer

  # Of a constant rate without a warm-up, which is then set at every step.
  training = dataclasses.replace(
    experiment.training, schedule="step", decay_epochs=(), warmup_epochs=0.0
  )
  experiment = dataclasses.replace(experiment, training=training)
  strategy = tf.distribute.get_strategy()
  trainer = build_trainer(experiment, dataset, strategy, first_step=0, jit_compile=False)
  task = trainer.task
  task.initialize(trainer.model)
  scale = training.batch_size / training.base_batch_size
  current = tf.Variable(_LOWEST * scale, trainable=False)
  trainer.optimizer.learning_rate = current
  metrics = task.build_metrics()
  step = tf.function(
    lambda batch: task.train_step(batch, trainer.model, trainer.optimizer, metrics)
  )
  factor = (_HIGHEST / _LOWEST) ** (1 / (num_steps - 1))
  for number, batch in enumerate(trainer.train_dataset.take(num_steps)):
    rate = _LOWEST * factor**number
    current.assign(rate * scale)
    yield rate, float(step(batch)[task.loss])
