"""Stops a training whose loss is no longer a finite number, before anything is saved."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from official_nasfpn.errors import UserError

_NEVER = -1


class TrainingDiverged(UserError):
  """The loss became NaN or infinite.

  Attributes:
    step: the first such train step.
    terms: its losses by name.
  """

  def __init__(self, step: int, terms: Mapping[str, float]):
    self.step = step
    self.terms = dict(terms)
    listed = ", ".join(f"{name} {value:g}" for name, value in terms.items())
    super().__init__(
      f"The loss became NaN or infinite at train step {step} ({listed}); the last checkpoint is "
      "from before. Lower Training.learning_rate or lengthen Training.warmup_epochs, set "
      "Training.gradient_clip_norm, or look for broken boxes in the data; with a small batch also "
      "lower Detector.norm_momentum."
    )


class NanGuard:
  """Remembers, inside the train loop, the first step with a loss that is not finite.

  A loop of many steps runs in one graph call, so the step must be noted where it happens. Each
  replica notes its own.

  Args:
    names: the loss terms to report.
  """

  def __init__(self, names: tuple[str, ...]):
    self._names = names

    def per_replica(name: str, value, dtype):
      return tf.Variable(
        value,
        name=f"nan_guard/{name}",
        dtype=dtype,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
      )

    self._step = per_replica("step", _NEVER, tf.int64)
    self._terms = per_replica("terms", [0.0] * len(names), tf.float32)

  def reset(self) -> None:
    """Forgets what was noted, for another training in the same graph."""
    self._step.assign(_NEVER)
    self._terms.assign(tf.zeros_like(self._terms))

  def watch(self, losses: Mapping[str, tf.Tensor], step: tf.Tensor) -> None:
    """Notes `step` if any of `losses` is not finite and none was noted before.

    Args:
      losses: float32 scalars by the names given to the constructor.
      step: int64, the number of this train step, from 1.
    """
    terms = tf.stack([losses[name] for name in self._names])
    # The sum would hide nothing: NaN and infinity both survive addition.
    first = (self._step.read_value() == _NEVER) & ~tf.reduce_all(tf.math.is_finite(terms))
    self._terms.assign(tf.where(first, terms, self._terms.read_value()))
    self._step.assign(tf.where(first, tf.cast(step, tf.int64), self._step.read_value()))

  def check(self, strategy: tf.distribute.Strategy) -> None:
    """Raises `TrainingDiverged` with the earliest step that any replica has noted.

    All hosts must call it: one that went on alone would only learn that another is gone.
    """
    rows = self._noted(strategy)
    rows = rows[rows[:, 0] != _NEVER]
    if len(rows):
      step, *terms = rows[rows[:, 0].argmin()].tolist()
      raise TrainingDiverged(int(step), dict(zip(self._names, terms, strict=True)))

  def _noted(self, strategy: tf.distribute.Strategy) -> np.ndarray:
    """Returns the step and the terms that each replica has noted, [replicas, 1 + terms]."""

    def row(step: tf.Tensor, terms: tf.Tensor) -> tf.Tensor:
      return tf.concat([tf.cast(step, tf.float64)[None], tf.cast(terms, tf.float64)], 0)[None]

    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
      noted = strategy.run(lambda: row(self._step.read_value(), self._terms.read_value()))
      return strategy.gather(noted, axis=0).numpy()
    local = strategy.experimental_local_results
    return np.concatenate(
      [row(*pair) for pair in zip(local(self._step), local(self._terms), strict=True)]
    )
