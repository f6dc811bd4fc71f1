"""The weights of the best evaluation of a training, and when to stop looking for better ones.

RUN/evaluations.jsonl     the metrics of every evaluation, by train step
RUN/best/ckpt-STEP        the weights of the best one, their average with `Training.ema_decay`
RUN/best/evaluation.json  what it found
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from official_nasfpn.disk import write_text
from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json
from official_nasfpn.training.checkpoint_files import (
  checkpoints_in,
  files_of,
  step_of,
  tell_tensorflow,
)
from official_nasfpn.training.coco_evaluation import EvaluationResult, undefined_best
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.run_folder import RunFolder


class BestCheckpoint:
  """Keeps the best weights of a training by `Training.best_metric`.

  Model Garden's `BestCheckpointExporter` is not used: it writes down a new best before the weights
  are saved, so that a process killed in between has none.
  """

  def __init__(
    self,
    folder: RunFolder,
    model: tf_keras.Model,
    config: TrainingConfig,
    first_step: int,
    written: RunFolder | None = None,
  ):
    """Reads what was found before.

    A best evaluation of a step after the first one stays: its weights are whole, and the training
    may not come to a better one again. The other evaluations of such steps count no more, since
    they are done again.

    Args:
      folder: the run.
      model: the detector, whose weights are saved.
      config: the training's.
      first_step: the train step that training goes on from.
      written: where to write; default: the run. All workers of a cluster read what its chief has
        written, so that they decide alike.

    Raises:
      UserError: a file of the run is damaged.
    """
    self._folder, self._config = written or folder, config
    self._checkpoint = tf.train.Checkpoint(model=model)
    self._history = read_history(folder, first_step)
    self._evaluation = _stored_best(folder)
    # A process that was killed may have left weights whose evaluation was not written down.
    self._delete_others()

  @property
  def evaluation(self) -> EvaluationResult | None:
    """What the best evaluation found; without a `best_metric`, the last one."""
    return self._evaluation

  def offer(self, evaluation: EvaluationResult) -> bool:
    """Notes an evaluation, and saves the model's weights if it is the best so far.

    All workers of a cluster must call it.

    Args:
      evaluation: of the weights that the model has now; says their step.

    Returns:
      Whether it is the best so far.

    Raises:
      UserError: `Training.best_metric` is undefined in it.
    """
    is_best = self._config.best_metric is None or self._value(evaluation) > self._best_value()
    if is_best:
      self._evaluation = evaluation
      if self._config.best_metric:
        # In this order, a process killed in between leaves a best evaluation with its weights.
        self._checkpoint.write(str(self._folder.best / f"ckpt-{evaluation.step}"))
        write_text(self._folder.best_evaluation_file, evaluation.to_json())
        self._delete_others()
    self._history.append({"step": evaluation.step, **evaluation.metrics})
    lines = "".join(json.dumps(row) + "\n" for row in self._history)
    write_text(self._folder.evaluations_file, lines)
    return is_best

  def is_over(self) -> bool:
    """Returns whether the training is `out_of_patience`."""
    return out_of_patience(self._history, self._config)

  def _delete_others(self) -> None:
    """Deletes all weights but those of the best evaluation."""
    if self._evaluation is None:
      return
    for checkpoint in checkpoints_in(self._folder.best):
      if step_of(checkpoint) != self._evaluation.step:
        for file in files_of(checkpoint):
          file.unlink(missing_ok=True)
    tell_tensorflow(self._folder.best)

  def _best_value(self) -> float:
    return -1.0 if self._evaluation is None else self._value(self._evaluation)

  def _value(self, evaluation: EvaluationResult) -> float:
    metric = self._config.best_metric
    assert metric
    if (value := evaluation.metrics[metric]) is None:
      raise undefined_best(metric, "the images have no such annotated box")
    return value


def _stored_best(folder: RunFolder) -> EvaluationResult | None:
  """Returns the best evaluation of a run; None where there is none, or its weights are gone."""
  file = folder.best_evaluation_file
  if not file.is_file():
    return None
  with _damage_named(file):
    evaluation = EvaluationResult.from_json(file.read_text(encoding="utf-8"))
  there = any(step_of(path) == evaluation.step for path in checkpoints_in(folder.best))
  return evaluation if there else None


def read_history(folder: RunFolder, last_step: int) -> list[dict[str, Any]]:
  """Returns the evaluations of a run up to a train step, oldest first: `step` and the metrics."""
  file = folder.evaluations_file
  if not file.is_file():
    return []
  with _damage_named(file):
    rows = [parse_json(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["step"] <= last_step]


@contextlib.contextmanager
def _damage_named(file: Path) -> Iterator[None]:
  try:
    yield
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(
      f"{file} is damaged ({error!r}). Delete it, and the training goes on without what it says."
    ) from error


def evaluation_is_due(
  history: Sequence[Mapping[str, Any]], step: int, interval: int, total: int
) -> bool:
  """Returns whether a training that goes on has to be evaluated first.

  So it is if it was killed during an evaluation and its weights had been saved before.

  Args:
    history: the evaluations up to the train step, as `read_history` returns them.
    step: the train step that it goes on from.
    interval: train steps from one evaluation to the next.
    total: the last train step, which is evaluated in any case.
  """
  last = history[-1]["step"] if history else 0
  return last < step and (step - last >= interval or step >= total)


def out_of_patience(history: Sequence[Mapping[str, Any]], config: TrainingConfig) -> bool:
  """Returns whether the last `Training.patience` evaluations have brought nothing better."""
  if config.patience is None:
    return False
  # Where there was nothing to find, a metric is undefined.
  values = [row.get(config.best_metric) or 0.0 for row in history]
  recent, before = values[-config.patience :], values[: -config.patience]
  return bool(before) and max(recent) <= max(before)
