"""A trial as data: as the search loop proposes it, and as the store shows it."""

import dataclasses
from collections.abc import Mapping

QUEUED, RUNNING, DONE, FAILED, REUSED = "queued", "running", "done", "failed", "reused"


@dataclasses.dataclass(frozen=True)
class NewTrial:
  """A trial as the search loop proposes it; the store adds what happens to it."""

  number: int
  update: int
  choices: tuple[int, ...]
  log_probs: tuple[float, ...]
  architecture_hash: str
  architecture: str


@dataclasses.dataclass(frozen=True)
class Trial:
  """One trial as it stands. A reused trial shows the result of the trial that it reuses.

  Attributes:
    number: 1 for the first trial of the search.
    update: the update that it was proposed in, from 1.
    choices: one per decision of the search space.
    log_probs: of the choices when they were made.
    architecture_hash: equal for architectures that compute the same.
    architecture: gin text.
    state: one of `queued`, `running`, `done`, `failed`, `reused`.
    reused_from: for a reused trial, the number of the earlier one.
    attempt: how often it has been claimed.
    deaths: how many workers died of it.
    worker: who claimed it last.
    lease_expires: Unix time, while it runs.
    progress: of the running attempt, 0..1.
    reward: when it is done.
    failure: the reason, when it failed; while it is queued again, how the last attempt was lost.
    diverged: the failure is the architecture's own (its training diverged).
    proposed_at: Unix time.
    started_at: Unix time of the latest claim.
    finished_at: Unix time.
    seconds: that the successful or failed attempt took.
    metrics: what its evaluation measured beside the reward; empty where nothing is known.
    learnt_in: the update in which the controller learnt from it; None before.
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
  """What curves need of a trial: see `Trial` for the attributes."""

  number: int
  update: int
  state: str
  reward: float | None
  architecture_hash: str
  finished_at: float | None


@dataclasses.dataclass(frozen=True)
class Counts:
  """How many trials a store holds.

  Attributes:
    sampled: all of them.
    finished: that have a result; a reused one has it with the trial that it reuses.
    done: that gave a reward themselves.
    failed: that failed themselves.
    reused: that repeat an earlier architecture.
    unique: different architectures.
    running: that a worker holds.
    queued: that wait for a worker.
    learnt: that the controller has learnt from.
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
