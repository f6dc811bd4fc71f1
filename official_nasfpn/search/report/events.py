"""Curves of a search for TensorBoard, one point an update, whatever the algorithm.

The files are written without TensorFlow, whose import would cost a search that learns nothing
seconds and hundreds of megabytes.
"""

import dataclasses
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from official_nasfpn.reporting.event_files import read_events
from official_nasfpn.search.store.trial_store import DONE, FAILED, Trial, TrialStore


class EventLog:
  """The event files of one search; a search that is continued adds a file with what is missing."""

  def __init__(self, events_dir: Path):
    """Reads which updates have their point; nothing is written yet.

    Args:
      events_dir: where TensorBoard looks.
    """
    self._written = {event.step for event in read_events(events_dir)}
    name = f"events.out.tfevents.{time.time_ns():020d}.{socket.gethostname()}.{os.getpid()}"
    self._path = events_dir / name
    self._totals = _Totals()

  def add_missing(self, store: TrialStore) -> None:
    """Adds a point for each update of a search that has none; reads what it has not read before.

    An update whose trials are all tried again (`TrialStore.retry_dead`) gets none.

    Args:
      store: trial store of the search.
    """
    metrics = store.metrics()
    if metrics.keys() - self._written:
      self.write(store.trials(learnt_after=self._totals.update), metrics)

  def write(self, trials: Sequence[Trial], metrics: Mapping[int, Mapping[str, float]]) -> None:
    """Adds a point for each update that has none, also for those that an earlier process learnt.

    Args:
      trials: all trials so far; those that were given before may be left out.
      metrics: what each update's learning measured; updates that are not in it have no point yet.
    """
    if not metrics.keys() - self._written:
      return
    missing = [
      event for event in _points(trials, metrics, self._totals) if event.step not in self._written
    ]
    if not missing:
      # All trials of these updates are tried again; a later update learns from them.
      return
    self._path.parent.mkdir(parents=True, exist_ok=True)
    if not self._path.exists():
      missing.insert(0, Event(wall_time=missing[0].wall_time, file_version="brain.Event:2"))
    with self._path.open("ab") as file:
      writer = RecordWriter(file)
      for event in missing:
        # All curves of an update are one record: a killed process leaves all of them or none.
        writer.write(event.SerializeToString())
    self._written |= {event.step for event in missing}


@dataclasses.dataclass
class _Totals:
  """What is counted over the trials up to an update."""

  update: int = 0
  hashes: set[str] = dataclasses.field(default_factory=set)
  best: float = -math.inf
  sampled: int = 0
  reused: int = 0
  failed: int = 0
  seconds: float = 0.0

  def add(self, update: int, batch: Sequence[Trial]) -> None:
    self.update = update
    self.hashes.update(trial.architecture_hash for trial in batch)
    self.best = max([self.best, *(trial.reward for trial in batch if trial.reward is not None)])
    self.sampled += len(batch)
    self.reused += sum(trial.reused_from is not None for trial in batch)
    self.failed += sum(trial.state == FAILED for trial in batch)
    self.seconds += math.fsum(trial.seconds or 0.0 for trial in batch)


def _points(
  trials: Sequence[Trial], metrics: Mapping[int, Mapping[str, float]], totals: _Totals
) -> Iterator[Event]:
  """Yields the point of every further update in `metrics`, counted over the trials up to it."""
  for update, batch in _by_update(trials).items():
    if update not in metrics or update <= totals.update:
      continue
    totals.add(update, batch)
    rewards = [trial.reward for trial in batch if trial.reward is not None]
    scalars = {f"controller/{name}": value for name, value in metrics[update].items()}
    scalars |= {
      "trials/unique_share": len(totals.hashes) / totals.sampled,
      "trials/reused_share": totals.reused / totals.sampled,
      "trials/failed": totals.failed,
      "cost/worker_hours": totals.seconds / 3600,
    }
    if rewards:
      scalars |= {"reward/mean": math.fsum(rewards) / len(rewards), "reward/best": totals.best}
    ended = max(max(trial.proposed_at, trial.finished_at or 0.0) for trial in batch)
    trained = sum(trial.state in (DONE, FAILED) for trial in batch)
    if trained and ended > batch[0].proposed_at:
      scalars["cost/trials_per_hour"] = trained / (ended - batch[0].proposed_at) * 3600
    values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
    yield Event(wall_time=ended, step=update, summary=Summary(value=values))


def _by_update(trials: Sequence[Trial]) -> dict[int, list[Trial]]:
  """Returns the trials that were learnt from, by the update in which they were."""
  batches: dict[int, list[Trial]] = {}
  for trial in trials:
    if trial.learnt_in is not None:
      batches.setdefault(trial.learnt_in, []).append(trial)
  return dict(sorted(batches.items()))
