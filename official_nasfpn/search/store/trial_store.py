"""The trial store: every trial, its lease and its result, in one SQL database.

A search keeps no state outside the store, so any of its processes may be killed at any moment.

A trial is `queued` until a worker claims it, `running` until the worker reports, then `done` or
`failed`. Claiming hands out a lease and an attempt number. A worker renews its lease while it
evaluates; when it falls silent, or is known to be dead, the trial is queued again and the next
claim gets the next attempt number. A result is accepted from the latest attempt only: the late
result of a lost attempt counts if nobody has claimed the trial since, and is rejected otherwise.
A trial that repeats an earlier architecture is `reused` from the start and has the result of that
earlier trial, whenever that comes.
"""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa

from official_nasfpn.errors import UserError

QUEUED, RUNNING, DONE, FAILED, REUSED = "queued", "running", "done", "failed", "reused"

SCHEMA_VERSION = 1
# Writers wait for one another this long; each holds the database for a few milliseconds.
_BUSY_SECONDS = 30

_metadata = sa.MetaData()

_schema = sa.Table("schema", _metadata, sa.Column("version", sa.Integer, nullable=False))

_trials = sa.Table(
  "trials",
  _metadata,
  sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
  sa.Column("update_number", sa.Integer, nullable=False, index=True),
  sa.Column("choices", sa.Text, nullable=False),
  sa.Column("log_probs", sa.Text, nullable=False),
  sa.Column("architecture_hash", sa.Text, nullable=False, index=True),
  sa.Column("architecture", sa.Text, nullable=False),
  sa.Column("state", sa.Text, nullable=False, index=True),
  sa.Column("reused_from", sa.ForeignKey("trials.number")),
  sa.Column("attempt", sa.Integer, nullable=False, default=0),
  sa.Column("deaths", sa.Integer, nullable=False, default=0),
  sa.Column("worker", sa.Text),
  sa.Column("lease_expires", sa.Double),
  sa.Column("progress", sa.Double, nullable=False, default=0.0),
  sa.Column("reward", sa.Double),
  sa.Column("failure", sa.Text),
  sa.Column("diverged", sa.Boolean, nullable=False, default=False),
  sa.Column("proposed_at", sa.Double, nullable=False),
  sa.Column("started_at", sa.Double),
  sa.Column("finished_at", sa.Double),
  sa.Column("seconds", sa.Double),
)

_updates = sa.Table(
  "updates",
  _metadata,
  sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
  sa.Column("metrics", sa.Text, nullable=False),
  sa.Column("learnt_at", sa.Double, nullable=False),
  # Only the newest update keeps its snapshot: a megabyte each would grow past the trials.
  sa.Column("snapshot", sa.LargeBinary),
)


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
    update: the controller update that it belongs to, from 1.
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

  @property
  def is_finished(self) -> bool:
    return self.finished_at is not None


class TrialStore:
  """The store of one search. Any number of processes may open it at the same time."""

  def __init__(self, url: str | Path, lease_seconds: float = 120.0, max_attempts: int = 3):
    """Opens the store; it need not exist yet.

    Args:
      url: path of an SQLite file, or a database URL.
      lease_seconds: how long a claim or a renewal lasts.
      max_attempts: a trial fails when so many workers have died of it.
    """
    if isinstance(url, Path):
      url = sa.URL.create("sqlite", database=str(url))
    self.lease_seconds = lease_seconds
    self._max_attempts = max_attempts
    self._engine = sa.create_engine(url)
    if self._engine.dialect.name == "sqlite":
      _prepare_sqlite(self._engine)

  def close(self) -> None:
    self._engine.dispose()

  def create(self) -> None:
    """Creates the tables unless they exist; only the process that proposes trials does this."""
    with self._transaction() as connection:
      _metadata.create_all(connection)
      if connection.scalar(sa.select(_schema.c.version)) is None:
        connection.execute(_schema.insert().values(version=SCHEMA_VERSION))
    self.check_version()

  def check_version(self) -> None:
    """Raises a `UserError` when the store was written by another version of this program."""
    with self._transaction() as connection:
      version = connection.scalar(sa.select(_schema.c.version))
    if version != SCHEMA_VERSION:
      raise UserError(
        f"The trial store {self._engine.url} has version {version}, this program reads version "
        f"{SCHEMA_VERSION}. Continue the search with the program that began it."
      )

  # What the search loop does.

  def propose(self, trials: Sequence[NewTrial]) -> None:
    """Adds trials, all or none; one that repeats an earlier architecture becomes `reused`."""
    with self._transaction() as connection:
      for trial in trials:
        original = connection.scalar(
          sa.select(sa.func.min(_trials.c.number)).where(
            _trials.c.architecture_hash == trial.architecture_hash
          )
        )
        connection.execute(
          _trials.insert().values(
            number=trial.number,
            update_number=trial.update,
            choices=json.dumps(trial.choices),
            log_probs=json.dumps(trial.log_probs),
            architecture_hash=trial.architecture_hash,
            architecture=trial.architecture,
            state=QUEUED if original is None else REUSED,
            reused_from=original,
            proposed_at=_now(),
          )
        )

  def trials(self, update: int | None = None) -> list[Trial]:
    """Returns the trials of one update, or all of them, by number."""
    twin = _trials.alias()
    result = ("attempt", "reward", "failure", "diverged", "finished_at")
    columns = [
      # A trial that is no reuse has no twin, and shows its own columns.
      sa.case((_trials.c.reused_from.is_(None), column), else_=twin.c[column.name]).label(
        column.name
      )
      if column.name in result
      else column
      for column in _trials.c
    ]
    query = (
      sa.select(*columns)
      .select_from(_trials.outerjoin(twin, _trials.c.reused_from == twin.c.number))
      .order_by(_trials.c.number)
    )
    if update is not None:
      query = query.where(_trials.c.update_number == update)
    with self._transaction() as connection:
      return [_to_trial(row) for row in connection.execute(query)]

  def mark_learnt(self, update: int, snapshot: bytes, metrics: Mapping[str, float]) -> None:
    """Records that an update has been learnt from, with the state that the algorithm is in now."""
    with self._transaction() as connection:
      connection.execute(_updates.update().values(snapshot=None))
      connection.execute(
        _updates.insert().values(
          number=update, metrics=json.dumps(dict(metrics)), learnt_at=_now(), snapshot=snapshot
        )
      )

  def latest_snapshot(self) -> tuple[int, bytes | None]:
    """Returns the last update learnt from and the state after it; (0, None) before the first."""
    query = sa.select(_updates.c.number, _updates.c.snapshot).order_by(_updates.c.number.desc())
    with self._transaction() as connection:
      row = connection.execute(query.limit(1)).first()
    return (0, None) if row is None else (row.number, row.snapshot)

  def metrics(self) -> dict[int, dict[str, float]]:
    """Returns what each update's learning measured, by update number."""
    query = sa.select(_updates.c.number, _updates.c.metrics).order_by(_updates.c.number)
    with self._transaction() as connection:
      return {row.number: json.loads(row.metrics) for row in connection.execute(query)}

  # What workers do.

  def claim(self, worker: str) -> Trial | None:
    """Hands the lowest free trial to a worker, or returns None when there is none.

    Free are the queued trials and those whose lease has run out.
    """
    with self._transaction() as connection:
      self._requeue_expired(connection)
      # PostgreSQL needs the row lock; SQLite has locked the database already and ignores it.
      lowest = (
        sa.select(_trials.c.number)
        .where(_trials.c.state == QUEUED)
        .order_by(_trials.c.number)
        .limit(1)
        .with_for_update(skip_locked=True)
      )
      now = _now()
      row = connection.execute(
        _trials.update()
        .where(_trials.c.number == lowest.scalar_subquery())
        .values(
          state=RUNNING,
          attempt=_trials.c.attempt + 1,
          worker=worker,
          lease_expires=now + self.lease_seconds,
          progress=0.0,
          started_at=now,
        )
        .returning(*_trials.c)
      ).first()
    return None if row is None else _to_trial(row)

  def renew(self, number: int, attempt: int, progress: float) -> bool:
    """Extends the lease of an attempt.

    Returns:
      Whether the attempt still owns the trial. One that lost its lease gets it back as long as
      nobody else has claimed the trial.
    """
    with self._transaction() as connection:
      return self._change_attempt(
        connection,
        number,
        attempt,
        state=RUNNING,
        lease_expires=_now() + self.lease_seconds,
        progress=progress,
      )

  def report_reward(self, number: int, attempt: int, reward: float) -> bool:
    """Records a reward. Returns False when the attempt had lost the trial: nothing is changed."""
    if not math.isfinite(reward):
      raise ValueError(f"a reward must be finite, not {reward}; report a failure instead.")
    return self._finish(number, attempt, state=DONE, reward=reward, failure=None, progress=1.0)

  def report_failure(self, number: int, attempt: int, reason: str, diverged: bool = False) -> bool:
    """Records why an attempt failed, for good. Returns False when it had lost the trial.

    Args:
      number: of the trial.
      attempt: that failed.
      reason: for people.
      diverged: the architecture itself is to blame, so that the search may learn from it.
    """
    return self._finish(number, attempt, state=FAILED, failure=reason, diverged=diverged)

  # What launchers do.

  def release(self, worker: str, reason: str, is_death: bool = True) -> int:
    """Takes back what a worker that is known to be gone was running.

    Args:
      worker: its name.
      reason: how it ended, for people.
      is_death: it died by itself, so that the trial may be to blame; False when it was stopped.

    Returns:
      How many trials it was running.
    """
    with self._transaction() as connection:
      return self._requeue(connection, _trials.c.worker == worker, reason, is_death)

  def release_expired(self) -> int:
    """Takes back the trials whose worker has fallen silent, and returns how many there were."""
    with self._transaction() as connection:
      return self._requeue_expired(connection)

  def running_workers(self) -> list[str]:
    """Returns the names of the workers that hold a trial."""
    query = sa.select(_trials.c.worker).where(_trials.c.state == RUNNING).distinct()
    with self._transaction() as connection:
      return sorted(connection.scalars(query))

  # How it is done.

  @contextlib.contextmanager
  def _transaction(self) -> Iterator[sa.Connection]:
    with self._engine.begin() as connection:
      yield connection

  def _requeue_expired(self, connection: sa.Connection) -> int:
    expired = _trials.c.lease_expires < _now()
    reason = f"worker gave no sign of life for {self.lease_seconds:g} s"
    return self._requeue(connection, expired, reason, is_death=True)

  def _requeue(
    self, connection: sa.Connection, which: sa.ColumnElement, reason: str, is_death: bool
  ) -> int:
    running = _trials.update().where(_trials.c.state == RUNNING, which)
    failed = 0
    if is_death:
      attempts = f"{self._max_attempts} attempt{'s' if self._max_attempts > 1 else ''}"
      failed = connection.execute(
        running.where(_trials.c.deaths + 1 >= self._max_attempts).values(
          state=FAILED,
          deaths=_trials.c.deaths + 1,
          lease_expires=None,
          failure=f"{reason}, {attempts}",
          finished_at=_now(),
          seconds=_now() - _trials.c.started_at,
        )
      ).rowcount
    queued = connection.execute(
      running.values(
        state=QUEUED,
        deaths=_trials.c.deaths + int(is_death),
        lease_expires=None,
        failure=reason,
        progress=0.0,
      )
    ).rowcount
    return failed + queued

  def _change_attempt(
    self, connection: sa.Connection, number: int, attempt: int, **values: object
  ) -> bool:
    """Changes an unfinished trial if `attempt` is its latest; the seam where late results end."""
    changed = connection.execute(
      _trials.update()
      .where(
        _trials.c.number == number,
        _trials.c.attempt == attempt,
        _trials.c.state.in_((QUEUED, RUNNING)),
      )
      .values(**values)
    )
    return changed.rowcount == 1

  def _finish(self, number: int, attempt: int, **values: object) -> bool:
    now = _now()
    with self._transaction() as connection:
      return self._change_attempt(
        connection,
        number,
        attempt,
        lease_expires=None,
        finished_at=now,
        seconds=now - _trials.c.started_at,
        **values,
      )


def _now() -> float:
  return time.time()


def _to_trial(row: sa.Row) -> Trial:
  values = dict(row._mapping)
  values["update"] = values.pop("update_number")
  values["choices"] = tuple(json.loads(values["choices"]))
  values["log_probs"] = tuple(json.loads(values["log_probs"]))
  return Trial(**values)


def _prepare_sqlite(engine: sa.Engine) -> None:
  @sa.event.listens_for(engine, "connect")
  def on_connect(connection, _):
    # Transactions are begun by us, below, not by Python's sqlite3.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    connection.execute("PRAGMA journal_mode = WAL")
    # A reported result outlives a power cut.
    connection.execute("PRAGMA synchronous = FULL")

  @sa.event.listens_for(engine, "begin")
  def on_begin(connection):
    # Asks for the right to write at once: a transaction that reads first and writes later would
    # fail, without waiting, when another process has written in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
