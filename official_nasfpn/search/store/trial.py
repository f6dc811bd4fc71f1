"""A trial as data: as the search loop proposes it, and as the store returns it."""

import dataclasses
import math
import statistics
from collections.abc import Mapping

QUEUED, RUNNING, DONE, FAILED, REUSED = "queued", "running", "done", "failed", "reused"


@dataclasses.dataclass(frozen=True)
class NewTrial:
  """A trial as the search loop proposes it; see `Trial` for the attributes."""

  number: int
  update: int
  choices: tuple[int, ...]
  log_probs: tuple[float, ...]
  architecture_hash: str
  architecture: str
  confirms: int | None = None
  seed_offset: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
  """The present state of a trial. A reused trial has the result of the trial that it repeats.

  A confirmation trains the architecture of an earlier trial again, with another seed. Nothing
  learns from it; its reward is one more of that trial.

  Attributes:
    number: number of the trial, from 1.
    update: number of the update in which the trial was proposed, from 1.
    choices: one choice per decision of the search space.
    log_probs: log-probability of each choice when it was sampled, in nats.
    architecture_hash: `canonical_hash` of the architecture.
    architecture: gin text of the architecture.
    state: one of `queued`, `running`, `done`, `failed`, `reused`.
    reused_from: number of the earlier trial that a reused trial repeats.
    attempt: number of times that workers have claimed the trial.
    deaths: number of workers that died while they ran the trial.
    worker: name of the worker that claimed the trial last.
    lease_expires: Unix time at which the lease of a running trial ends.
    progress: fraction of the running attempt that is done, in [0, 1].
    reward: reward of a trial that is done.
    failure: why the trial failed; if it is queued again, why its last attempt was lost.
    diverged: whether the trial failed because its training diverged.
    proposed_at: Unix time of the proposal.
    started_at: Unix time of the latest claim.
    finished_at: Unix time of the result.
    seconds: duration of the attempt that gave the result.
    metrics: other measurements of the evaluation; empty if there are none.
    learnt_in: number of the update in which the algorithm learnt from the trial; None before.
    confirms: number of the trial that this one, a confirmation, trains again; None of all others.
    seed_offset: what a confirmation adds to `Training.seed`; 0 of all others.
    further_rewards: the rewards of the trial's own confirmations, by seed offset.
  """

  number: int
  update: int
  choices: tuple[int, ...]
  log_probs: tuple[float, ...]
  architecture_hash: str
  architecture: str
  state: str
  reused_from: int | None
  attempt: int
  deaths: int
  worker: str | None
  lease_expires: float | None
  progress: float
  reward: float | None
  failure: str | None
  diverged: bool
  proposed_at: float
  started_at: float | None
  finished_at: float | None
  seconds: float | None
  metrics: Mapping[str, object]
  learnt_in: int | None
  confirms: int | None = None
  seed_offset: int = 0
  further_rewards: tuple[float, ...] = ()

  @property
  def is_finished(self) -> bool:
    return self.finished_at is not None

  @property
  def rewards(self) -> tuple[float, ...]:
    """The trial's own reward and those of its confirmations; empty without a reward."""
    return () if self.reward is None else (self.reward, *self.further_rewards)

  @property
  def mean_reward(self) -> float | None:
    """The mean over all seeds with which the architecture was trained."""
    if self.reward is None or not self.further_rewards:
      return self.reward
    # Divided first: damaged rows may hold numbers whose sum is too large.
    return math.fsum(reward / len(self.rewards) for reward in self.rewards)

  @property
  def deviation(self) -> float | None:
    """The standard deviation over these seeds; None of fewer than two."""
    return statistics.stdev(self.rewards) if len(self.rewards) > 1 else None


def rank_key(trial: Trial) -> tuple[bool, float, int]:
  """Returns what trials with a reward are sorted by, the best first.

  Confirmed ones come before all others: the greatest of many single rewards is partly luck.
  """
  assert trial.mean_reward is not None
  return (not trial.further_rewards, -trial.mean_reward, trial.number)


@dataclasses.dataclass(frozen=True)
class TimelineRow:
  """The part of a trial that curves need; see `Trial` for the attributes."""

  number: int
  update: int
  state: str
  reward: float | None
  architecture_hash: str
  finished_at: float | None


@dataclasses.dataclass(frozen=True)
class Counts:
  """Numbers of trials in a store.

  Attributes:
    sampled: all trials; confirmations are not among them, nor in the five numbers that follow.
    finished: trials with a result, including reused ones whose original has a result.
    done: trials that gave a reward, without reused ones.
    failed: trials that failed, without reused ones.
    reused: trials that repeat an earlier architecture.
    unique: different architectures.
    running: trials and confirmations that a worker runs.
    queued: trials and confirmations that wait for a worker.
    learnt: trials from which the algorithm has learnt.
    confirmations: all confirmations.
    confirming: confirmations without a result.
  """

  sampled: int
  finished: int
  done: int
  failed: int
  reused: int
  unique: int
  running: int
  queued: int
  learnt: int
  confirmations: int = 0
  confirming: int = 0


@dataclasses.dataclass(frozen=True)
class Overview:
  """What a person asks first about a search, without all of its trials.

  Attributes:
    sampled: all trials; confirmations are not among these numbers.
    unique: different architectures.
    trained: trials that gave a reward, without reused ones.
    failed: trials that failed, without reused ones.
    unfinished: trials without a result.
    worker_hours: hours that workers spent on trials and confirmations that ended.
    best: the best trials, best first; see `rank_key`.
    damaged: trials that would be among the best, and confirmations, but their rows are damaged.
    confirming: confirmations without a result.
    failed_confirmations: confirmations that failed.
  """

  sampled: int
  unique: int
  trained: int
  failed: int
  unfinished: int
  worker_hours: float
  best: tuple[Trial, ...]
  damaged: tuple[Trial, ...] = ()
  confirming: int = 0
  failed_confirmations: tuple[Trial, ...] = ()
