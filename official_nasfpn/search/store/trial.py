"""A trial as data: as the search loop proposes it, and as the store returns it."""

import dataclasses
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


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
  """The present state of a trial. A reused trial has the result of the trial that it repeats.

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

  @property
  def is_finished(self) -> bool:
    return self.finished_at is not None


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
    sampled: all trials.
    finished: trials with a result, including reused ones whose original has a result.
    done: trials that gave a reward, without reused ones.
    failed: trials that failed, without reused ones.
    reused: trials that repeat an earlier architecture.
    unique: different architectures.
    running: trials that a worker runs.
    queued: trials that wait for a worker.
    learnt: trials from which the algorithm has learnt.
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


@dataclasses.dataclass(frozen=True)
class Overview:
  """What a person asks first about a search, without all of its trials.

  Attributes:
    sampled: all trials.
    unique: different architectures.
    trained: trials that gave a reward, without reused ones.
    failed: trials that failed, without reused ones.
    unfinished: trials without a result.
    worker_hours: hours that workers spent on trials that ended.
    best: the trials with the greatest rewards, best first.
    damaged: trials that would be among the best, but their rows are damaged.
  """

  sampled: int
  unique: int
  trained: int
  failed: int
  unfinished: int
  worker_hours: float
  best: tuple[Trial, ...]
  damaged: tuple[Trial, ...] = ()
