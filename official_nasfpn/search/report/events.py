"""Curves of a search for TensorBoard, one point an update."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from official_nasfpn.search.store.trial_store import FAILED, Trial


def write_events(
  events_dir: Path, update: int, metrics: Mapping[str, float], trials: Sequence[Trial]
) -> None:
  """Adds one point to each curve.

  Args:
    events_dir: where TensorBoard looks.
    update: the step of the point.
    metrics: what the algorithm measured as it learnt.
    trials: all trials up to this update.
  """
  rewards = [trial.reward for trial in trials if trial.reward is not None]
  batch = [t.reward for t in trials if t.update == update and t.reward is not None]
  scalars = {f"controller/{name}": value for name, value in metrics.items()}
  scalars["trials/unique_share"] = len({t.architecture_hash for t in trials}) / len(trials)
  scalars["trials/failed"] = sum(trial.state == FAILED for trial in trials)
  if batch:
    scalars |= {"reward/mean": np.mean(batch), "reward/best": max(rewards)}
  writer = _writer(events_dir)
  with writer.as_default(step=update):
    for name, value in scalars.items():
      tf.summary.scalar(name, value)
  writer.flush()


@functools.cache
def _writer(events_dir: Path) -> tf.summary.SummaryWriter:
  return tf.summary.create_file_writer(str(events_dir))
