"""What a person asks first about a search: how far it is, what it found, what it cost and will."""

import collections
import dataclasses
import itertools
import math
import re
import statistics
from collections.abc import Iterable, Sequence

from official_nasfpn.search.report.found import best_trials
from official_nasfpn.search.store.trial_store import DONE, FAILED, QUEUED, REUSED, RUNNING, Trial


@dataclasses.dataclass(frozen=True)
class Summary:
  """A search as it stands.

  Attributes:
    status: `not begun`, `running`, `stopped` before its end, or `finished`.
    num_trials: that shall be sampled.
    sampled: trials so far.
    unique: architectures among them.
    trained: trials whose training gave a reward.
    stopped_early: those of them whose training was stopped before its end.
    reused: trials that repeat an earlier architecture and were not trained.
    failed: trials whose training gave none.
    running: trials in training.
    queued: trials that wait for a worker.
    best: the best trial, None before the first; see `found.best_trials`.
    median_reward: of the trials that were trained to the end, None before the first. What was
      stopped early has the reward of its stop.
    confirmations: confirmations that there are, and those that are still to be proposed.
    confirming: those of them without a result.
    worker_hours: that workers spent on trials and confirmations which ended.
    trials_per_hour: that ended in an hour in which any worker worked; None before the first.
    hours_left: until all trials and confirmations have ended, at this pace; None when nobody can
      tell.
    worker_hours_left: that the trials left will cost, at the mean cost so far; None likewise.
    begun_at: Unix time of the first proposal, None before it.
    active_at: Unix time of what happened last, None before anything has.
  """

  status: str
  num_trials: int
  sampled: int
  unique: int
  trained: int
  stopped_early: int
  reused: int
  failed: int
  running: int
  queued: int
  best: Trial | None
  median_reward: float | None
  confirmations: int
  confirming: int
  worker_hours: float
  trials_per_hour: float | None
  hours_left: float | None
  worker_hours_left: float | None
  begun_at: float | None
  active_at: float | None

  @property
  def by_state(self) -> str:
    """How many trials are in which state, in words; without those in which none is."""
    stopped = f" ({self.stopped_early:,} stopped early)" if self.stopped_early else ""
    counts = (
      (self.trained, f"trained{stopped}"),
      (self.reused, "reused"),
      (self.failed, "failed"),
      (self.running, "in training"),
      (self.queued, "waiting"),
    )
    return ", ".join(f"{count:,} {what}" for count, what in counts if count)


def summarize(
  trials: Sequence[Trial],
  num_trials: int,
  now: float,
  confirmations: Sequence[Trial] = (),
  missing: int = 0,
) -> Summary:
  """Returns how a search stands.

  Args:
    trials: all of it.
    num_trials: that the recipe asks for.
    now: Unix time.
    confirmations: all of the search.
    missing: confirmations that are still to be proposed.
  """
  count = collections.Counter(trial.state for trial in trials)
  finished = sum(trial.is_finished for trial in trials)
  confirmed = sum(trial.is_finished for trial in confirmations)
  confirming = len(confirmations) - confirmed + missing
  everything = (*trials, *confirmations)
  worker_hours = math.fsum(trial.seconds or 0.0 for trial in everything) / 3600
  # Nights in which nothing ran say nothing about the pace.
  busy_hours = _covered(_training_times(everything)) / 3600
  ended = finished + confirmed
  pace = ended / busy_hours if busy_hours > 0 else None
  progress = math.fsum(trial.progress for trial in everything if trial.state == RUNNING)
  left = max(num_trials - finished + confirming - progress, 0.0)
  alive = any(t.state == RUNNING and t.lease_expires and t.lease_expires > now for t in everything)
  times = (_times(trial) for trial in everything)
  ranking = best_trials(trials)
  whole = [trial.reward for trial in ranking if not is_stopped_early(trial)]
  if not trials:
    status = "not begun"
  elif finished >= num_trials and not confirming:
    status = "finished"
  else:
    status = "running" if alive else "stopped"
  return Summary(
    status=status,
    num_trials=num_trials,
    sampled=len(trials),
    unique=len({trial.architecture_hash for trial in trials}),
    trained=count[DONE],
    stopped_early=sum(is_stopped_early(trial) for trial in trials),
    reused=count[REUSED],
    failed=count[FAILED],
    running=count[RUNNING],
    queued=count[QUEUED],
    best=ranking[0] if ranking else None,
    median_reward=statistics.median(whole) if whole else None,
    confirmations=len(confirmations) + missing,
    confirming=confirming,
    worker_hours=worker_hours,
    trials_per_hour=pace,
    hours_left=left / pace if pace else None,
    worker_hours_left=left * worker_hours / ended if ended else None,
    begun_at=min((trial.proposed_at for trial in trials), default=None),
    active_at=max(itertools.chain.from_iterable(times), default=None),
  )


def is_stopped_early(trial: Trial) -> bool:
  """Returns whether the trial's own training was stopped before its end, for want of promise."""
  return trial.state == DONE and trial.metrics.get("stopped_at") is not None


@dataclasses.dataclass(frozen=True)
class FailureGroup:
  """Failures that differ by numbers at most.

  Attributes:
    reason: of the first of them.
    alike: whether the others' reasons differ by a number.
    trials: their numbers.
  """

  reason: str
  alike: bool
  trials: tuple[int, ...]


def group_failures(trials: Iterable[Trial]) -> list[FailureGroup]:
  """Returns the failures by reason, the most frequent first.

  A trial that repeats a failed one counts with it: it has the same failure.
  """
  groups: dict[str, list[Trial]] = {}
  for trial in trials:
    if trial.is_finished and trial.failure and trial.reward is None:
      groups.setdefault(re.sub(r"\d+", "#", trial.failure), []).append(trial)
  return [
    FailureGroup(
      reason=group[0].failure,
      alike=len({trial.failure for trial in group}) > 1,
      trials=tuple(trial.number for trial in group),
    )
    for group in sorted(groups.values(), key=len, reverse=True)
  ]


@dataclasses.dataclass(frozen=True)
class WorkerCost:
  """What one worker did.

  Attributes:
    worker: its name.
    done: trials that it trained.
    failed: trials that failed in its hands.
    hours: that it spent on both.
  """

  worker: str
  done: int
  failed: int
  hours: float


def cost_by_worker(trials: Iterable[Trial]) -> list[WorkerCost]:
  """Returns what each worker did, the most hours first."""
  by_worker: dict[str, list[Trial]] = {}
  for trial in trials:
    has_ended = trial.state in (DONE, FAILED)
    if trial.worker is not None and trial.seconds is not None and has_ended:
      by_worker.setdefault(trial.worker, []).append(trial)
  costs = [
    WorkerCost(
      worker=worker,
      done=sum(trial.state == DONE for trial in theirs),
      failed=sum(trial.state == FAILED for trial in theirs),
      hours=math.fsum(trial.seconds for trial in theirs) / 3600,
    )
    for worker, theirs in by_worker.items()
  ]
  return sorted(costs, key=lambda cost: (-cost.hours, cost.worker))


def _times(trial: Trial) -> tuple[float, ...]:
  times = (trial.proposed_at, trial.started_at, trial.finished_at)
  return tuple(time for time in times if time is not None)


def _training_times(trials: Iterable[Trial]) -> list[tuple[float, float]]:
  """Returns from when to when each trial that ended was trained."""
  return [
    (trial.finished_at - trial.seconds, trial.finished_at)
    for trial in trials
    if trial.seconds is not None and trial.finished_at is not None
  ]


def _covered(spans: Iterable[tuple[float, float]]) -> float:
  """Returns the length of the union of intervals."""
  covered, reached = 0.0, -math.inf
  for begin, end in sorted(spans):
    covered += max(end - max(begin, reached), 0.0)
    reached = max(reached, end)
  return covered
