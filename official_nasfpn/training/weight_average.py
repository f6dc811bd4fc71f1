"""The average of a detector's weights over its training, which detects better than the last ones.

Model Garden's optimizer keeps it beside the weights (`Training.ema_decay`). Evaluations and exports
use the average, the training itself goes on from its own weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf
import tf_keras
from official.modeling import optimization

from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.optimizer import build_optimizer

_SLOT = "/average/.ATTRIBUTES/VARIABLE_VALUE"


def begin_average(optimizer: tf_keras.optimizers.Optimizer, model: tf_keras.Model) -> None:
  """Makes the average, of all weights as they are now; does nothing without `Training.ema_decay`.

  Args:
    optimizer: of `build_optimizer`.
    model: whose weights it updates; statistics of batch norms are averaged, too.
  """
  average = _average_of(optimizer)
  if average is None:
    return
  if not average.has_shadow_copy:
    average.shadow_copy(model)
  for mean, variable in _pairs(average):
    mean.assign(variable)


@contextmanager
def averaged_weights(optimizer: tf_keras.optimizers.Optimizer) -> Iterator[None]:
  """Gives the model its average while the block runs, if it has one.

  Args:
    optimizer: of a model for which `begin_average` was called.
  """
  average = _average_of(optimizer)
  if average is None:
    yield
    return
  # Model Garden's own exchange adds and subtracts, after which the weights are rounded.
  kept = [tf.identity(variable) for _, variable in _pairs(average)]
  for mean, variable in _pairs(average):
    variable.assign(mean)
  try:
    yield
  finally:
    for (_, variable), value in zip(_pairs(average), kept, strict=True):
      variable.assign(value)


def take_average(model: tf_keras.Model, config: TrainingConfig, checkpoint: str) -> None:
  """Overwrites the weights of a model with their average in a checkpoint of a training.

  Args:
    model: a built model.
    config: the training's.
    checkpoint: path prefix. A best checkpoint has nothing but the average, and is left alone.
  """
  if not any(name.endswith(_SLOT) for name, _ in tf.train.list_variables(checkpoint)):
    return
  # Only for its slots; the schedule does not matter.
  optimizer = build_optimizer(config, 1, model.trainable_variables)
  begin_average(optimizer, model)
  tf.train.Checkpoint(model=model, optimizer=optimizer).read(checkpoint).expect_partial()
  average = _average_of(optimizer)
  for mean, variable in _pairs(average):
    variable.assign(mean)


def _average_of(
  optimizer: tf_keras.optimizers.Optimizer,
) -> optimization.ExponentialMovingAverage | None:
  if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
    optimizer = optimizer.inner_optimizer
  return optimizer if isinstance(optimizer, optimization.ExponentialMovingAverage) else None


def _pairs(
  average: optimization.ExponentialMovingAverage,
) -> Iterator[tuple[tf.Variable, tf.Variable]]:
  """Yields the average and the variable, for every weight."""
  return zip(average._average_weights, average._model_weights, strict=True)
