"""The trial store: every trial, its lease and its result, in one SQL database.

A search keeps no state outside the store, so any of its processes may be killed at any moment.

A trial is `queued` until a worker claims it, `running` until the worker reports, then `done` or
`failed`. A claim gives the worker a lease and an attempt number. The worker renews its lease while
it evaluates. If the lease expires, or the worker is known to be dead, the trial is queued again and
the next claim gets the next attempt number. A result is accepted from the latest attempt only: the
late result of a lost attempt counts if no worker has claimed the trial since, and is rejected
otherwise. A worker that is stopped hands its trial back; only one that vanishes counts as dead. A
trial that repeats an earlier architecture is `reused` from the start and gets the result of that
earlier trial, its original, as soon as there is one. A confirmation is a trial that trains the
architecture of an earlier one with another seed: workers treat it like any trial, nothing learns
from it, and `trials` shows its reward with the trial that it confirms.

Every operation is one transaction and may be repeated. If its answer was lost, the second run
changes nothing and gives the same answer. So an operation can wait until a database that is down is
back.
"""

import contextlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa

from official_nasfpn.errors import UserError
from official_nasfpn.search.store import measurements, schema, standing
from official_nasfpn.search.store.database import Database
from official_nasfpn.search.store.leases import (
  Leases,
  change_attempt,
  failed_by_deaths,
  since_start,
)
from official_nasfpn.search.store.originals import originals, result_state, with_originals
from official_nasfpn.search.store.rows import is_damaged, to_metrics, to_trial
from official_nasfpn.search.store.schema import search as _search
from official_nasfpn.search.store.schema import trials as _trials
from official_nasfpn.search.store.schema import updates as _updates
from official_nasfpn.search.store.trial import (
  DONE,
  FAILED,
  QUEUED,
  REUSED,
  RUNNING,
  Counts,
  NewTrial,
  Overview,
  TimelineRow,
  Trial,
)


class TrialStore:
  """The store of one search. Any number of processes may open it at the same time."""

  def __init__(
    self,
    url: str | Path | sa.URL,
    lease_seconds: float = 120.0,
    max_attempts: int = 3,
    *,
    outage_seconds: float = 600.0,
    clock: Callable[[], float] | None = None,
    keeps_connection: bool = True,
    reads_only: bool = False,
  ):
    """Opens the store; it need not exist yet.

    Args:
      url: path of an SQLite file, or URL of an SQLite or PostgreSQL database.
      lease_seconds: how long a lease lasts after a claim or a renewal.
      max_attempts: a trial fails when this many workers have died while they ran it.
      outage_seconds: how long operations wait for a database that is down before they raise a
        `UserError`.
      clock: returns the time in seconds, for a search in virtual time. Default: the clock of the
        database server, because the clocks of many machines differ; with SQLite, this machine's.
      keeps_connection: whether connections stay open between operations; False for workers, which
        are many and ask seldom.
      reads_only: whether nothing is ever written, so that an SQLite file may be read-only.
    """
    self.lease_seconds = lease_seconds
    self._max_attempts = max_attempts
    self._database = Database(url, outage_seconds, clock, keeps_connection, reads_only)
    self._joined: tuple[str, str, str] | None = None
    self._leases = Leases(self._database, lease_seconds, max_attempts)

  @property
  def name(self) -> str:
    """The name of the store for people: its file, or its URL without the password."""
    return self._database.name

  @property
  def environment(self) -> dict[str, str]:
    """The environment variables that another process needs to open the store by its `name`."""
    return self._database.environment()

  def close(self) -> None:
    self._database.close()

  # For a controller that starts.

  def exclusive(self) -> contextlib.AbstractContextManager[None]:
    """Locks a PostgreSQL store against other controllers; a search directory has its own lock.

    The server frees the lock when its holder dies in any way.

    Raises:
      UserError: another controller is running. `propose` and `mark_learnt` raise it later, if
        another controller took over while the server was down.
    """
    return self._database.exclusive()

  def create(self) -> None:
    """Creates the tables, or migrates those of an earlier version and keeps every trial.

    Only the controller calls this.

    Raises:
      UserError: the store was written by a later version of this program.
    """
    self._database.write(lambda connection: schema.create_or_migrate(connection, self.name))

  def check_version(self) -> None:
    """Raises a `UserError` if the store was written by another version of this program."""
    self._database.read(lambda connection: schema.check_version(connection, self.name))

  def begin(self, recipe: str, recipe_version: str, code_fingerprint: str) -> None:
    """Records what workers evaluate, and with which code; the controller calls it at each start.

    Args:
      recipe: gin text for the workers; the store does not read it.
      recipe_version: version of the recipe, `SearchRecipe.version`.
      code_fingerprint: fingerprint of this process's code.
    """

    def transaction(connection: sa.Connection) -> None:
      is_new = connection.scalar(sa.select(_search.c.id)) is None
      statement = _search.insert().values(id=1) if is_new else _search.update()
      connection.execute(
        statement.values(
          recipe=recipe,
          recipe_version=recipe_version,
          code_version=code_fingerprint,
          begun_at=self._database.now(),
        )
      )

    self._database.write(transaction)

  def retry_dead(self) -> int:
    """Queues trials again that failed because their workers died, if they have attempts left.

    So a raised `max_attempts` gives back the trials that preemptions or a lack of memory have cost.
    The algorithm learns from them in a later update.

    Returns:
      The number of trials that are queued again.
    """
    dead = failed_by_deaths() & (_trials.c.deaths < self._max_attempts)

    def transaction(connection: sa.Connection) -> int:
      numbers = sa.select(_trials.c.number).where(dead)
      connection.execute(
        _trials.update().where(_trials.c.reused_from.in_(numbers)).values(learnt_in=None)
      )
      queued = {"state": QUEUED, "finished_at": None, "seconds": None, "learnt_in": None}
      return connection.execute(
        _trials.update().where(dead).values(progress=0.0, **queued)
      ).rowcount

    return self._database.write(transaction)

  def begun_recipe(self) -> str | None:
    """Returns the recipe that the last controller recorded; None before the first one."""
    return self._database.read(lambda connection: connection.scalar(sa.select(_search.c.recipe)))

  def recipe(self) -> str:
    """Returns the recipe of the search.

    Raises:
      UserError: no controller has begun a search here.
    """
    return self._database.read(self._begun).recipe

  # For the search loop.

  def propose(self, trials: Sequence[NewTrial]) -> None:
    """Adds all trials or none; one that repeats an earlier architecture becomes `reused`.

    A confirmation is no such repetition: it is trained, with another seed.
    """

    def transaction(connection: sa.Connection) -> None:
      if self._are_there(connection, trials):
        return
      for trial in trials:
        same = _trials.c.architecture_hash == trial.architecture_hash
        original = None
        if trial.confirms is None:
          original = connection.scalar(
            sa.select(sa.func.min(_trials.c.number)).where(same, ~standing.IS_CONFIRMATION)
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
            proposed_at=self._database.now(),
            confirms=trial.confirms,
            seed_offset=trial.seed_offset,
          )
        )

    self._database.check_exclusive()
    self._database.write(transaction)

  def mark_learnt(
    self, update: int, numbers: Sequence[int], snapshot: bytes, metrics: Mapping[str, float]
  ) -> None:
    """Records that the algorithm has learnt from an update.

    Args:
      update: number of the update, one more than that of the last.
      numbers: numbers of its trials.
      snapshot: state of the algorithm after it has learnt.
      metrics: measurements of the learning step.
    """
    text = json.dumps(dict(metrics))

    def transaction(connection: sa.Connection) -> None:
      row = connection.execute(sa.select(_updates).where(_updates.c.number == update)).first()
      if row is not None and (row.snapshot, row.metrics) == (snapshot, text):
        return
      older = _updates.update().where(_updates.c.snapshot.is_not(None))
      connection.execute(older.values(snapshot=None))
      connection.execute(
        _updates.insert().values(
          number=update, metrics=text, learnt_at=self._database.now(), snapshot=snapshot
        )
      )
      connection.execute(
        _trials.update().where(_trials.c.number.in_(numbers)).values(learnt_in=update)
      )

    self._database.check_exclusive()
    self._database.write(transaction)

  def finished_and_not_learnt(self, limit: int) -> list[Trial]:
    """Returns finished trials that were not learnt from yet, in the order of their results."""
    query = (
      with_originals(*_trials.c)
      .where(_trials.c.learnt_in.is_(None), result_state().in_((DONE, FAILED)))
      .where(~standing.IS_CONFIRMATION)
      .order_by(sa.func.coalesce(originals.c.finished_at, _trials.c.finished_at), _trials.c.number)
      .limit(limit)
    )
    return [to_trial(row) for row in self._rows(query)]

  def latest_update(self) -> int:
    """Returns the number of the last update that was proposed; 0 before the first."""
    return (
      self._rows(sa.select(sa.func.max(_trials.c.update_number).label("update")))[0].update or 0
    )

  def latest_snapshot(self) -> tuple[int, bytes | None]:
    """Returns the last update that was learnt from and its snapshot; (0, None) before the first."""
    query = sa.select(_updates.c.number, _updates.c.snapshot).order_by(_updates.c.number.desc())
    rows = self._rows(query.limit(1))
    return (rows[0].number, rows[0].snapshot) if rows else (0, None)

  def metrics(self) -> dict[int, dict[str, float]]:
    """Returns the metrics of each learning step by the number of its update.

    Damaged rows, and what is no finite number, are left out.
    """
    query = sa.select(_updates.c.number, _updates.c.metrics).order_by(_updates.c.number)
    metrics = ((row.number, to_metrics(row.metrics)) for row in self._rows(query))
    return {number: values for number, values in metrics if values is not None}

  # For readers.

  def trials(self, update: int | None = None, learnt_after: int | None = None) -> list[Trial]:
    """Returns all trials, by number; of one update, or learnt from after one, where it is given.

    One whose row is damaged is a failed trial, see `rows.is_damaged`. Confirmations are not among
    them; the rewards of confirmations are `further_rewards` of the trials that they confirm.
    """
    is_trial = ~standing.IS_CONFIRMATION
    query = with_originals(*_trials.c).where(is_trial).order_by(_trials.c.number)
    if update is not None:
      query = query.where(_trials.c.update_number == update)
    if learnt_after is not None:
      query = query.where(_trials.c.learnt_in > learnt_after)

    def transaction(connection: sa.Connection) -> list[Trial]:
      further = standing.further_rewards(connection)
      # Rows are larger than trials, and those of a long search would not be small together.
      return [
        standing.with_further_rewards(to_trial(row), further) for row in connection.execute(query)
      ]

    return self._database.read(transaction)

  def counts(self) -> Counts:
    """Returns the numbers of trials by state."""
    return self._database.read(standing.count_trials)

  def running_progress(self) -> float:
    """Returns the sum of the progress of all running trials, each in [0, 1]."""
    progress = sa.func.sum(_trials.c.progress).label("sum")
    return self._rows(sa.select(progress).where(_trials.c.state == RUNNING))[0].sum or 0.0

  def best(self, limit: int) -> list[Trial]:
    """Returns the best trials, best first, without reused or damaged ones; see `rank_key`."""
    return self._database.read(lambda connection: standing.best(connection, limit))[0]

  def greatest_rewards(self, limit: int, fits: Callable[[Trial], bool]) -> list[Trial]:
    """Returns the trials with the greatest rewards of their own, whatever confirmations say.

    Args:
      limit: how many trials.
      fits: leaves out the trials for which it returns False.
    """
    return self._database.read(
      lambda connection: standing.greatest_rewards(connection, limit, fits)
    )

  def confirmations(self) -> list[Trial]:
    """Returns all confirmations, by number."""
    return self._database.read(standing.confirmations)

  def overview(self, num_best: int) -> Overview:
    """Returns how the search stands, with its best trials; reads no others."""
    return self._database.read(lambda connection: standing.overview(connection, num_best))

  def timeline(self) -> list[TimelineRow]:
    """Returns the part of each trial that curves need, by number."""
    names = ("number", "update_number", "state", "reward", "architecture_hash", "finished_at")
    query = with_originals(*(_trials.c[name] for name in names)).where(~standing.IS_CONFIRMATION)
    query = query.order_by(_trials.c.number)
    return [TimelineRow(*row) for row in self._rows(query)]

  # For workers.

  def join(self, worker: str, recipe_version: str, code_fingerprint: str) -> None:
    """Registers a worker process and checks that it has the recipe and the code of the search.

    `claim` checks the same from now on: a controller with other code may have taken over. A trial
    that an earlier process of this name was running is queued again.

    Args:
      worker: name of the worker, which no other running process has.
      recipe_version: version of the worker's recipe, `SearchRecipe.version`.
      code_fingerprint: fingerprint of this process's code.

    Raises:
      UserError: the recipe or the code is not that of the search.
    """
    joined = (worker, recipe_version, code_fingerprint)

    def transaction(connection: sa.Connection) -> None:
      self._check_joined(connection, joined)
      reason = "worker died (another process with its name has started)"
      self._leases.requeue(connection, _trials.c.worker == worker, reason, is_death=True)

    self._database.write(transaction)
    self._joined = joined

  def claim(self, worker: str) -> Trial | None:
    """Gives a worker the free trial with the lowest number; returns None if there is none.

    A trial is free if it is queued or its lease has expired. A worker that already runs a trial
    gets the same attempt of that trial again: the answer to its first claim was lost.

    Raises:
      UserError: the search no longer has this worker's recipe or code.
    """
    free = sa.select(_trials.c.number).where(_trials.c.state == QUEUED)
    held = sa.select(_trials.c.number).where(_trials.c.state == RUNNING, _trials.c.worker == worker)

    def transaction(connection: sa.Connection) -> sa.Row | None:
      if self._joined is not None:
        self._check_joined(connection, self._joined)
      if row := self._leases.take(connection, held, worker):
        return row
      self._leases.requeue_expired(connection)
      return self._leases.take(
        connection, free, worker, attempt=_trials.c.attempt + 1, started_at=self._database.now()
      )

    while (row := self._database.write(transaction)) is not None:
      trial = to_trial(row)
      if not is_damaged(trial):
        return trial
      self.report_failure(row.number, row.attempt, str(trial.failure))
    return None

  def renew(self, number: int, attempt: int, progress: float) -> bool:
    """Extends the lease of an attempt.

    Returns:
      Whether the attempt still owns the trial. An attempt whose lease has expired gets it back
      unless another worker has claimed the trial.
    """
    return self._database.write(
      lambda connection: change_attempt(
        connection,
        number,
        attempt,
        state=RUNNING,
        lease_expires=self._database.now() + self.lease_seconds,
        progress=progress,
      )
    )

  def measure(self, number: int, attempt: int, share: float, value: float) -> list[float]:
    """Records an intermediate reward of a running trial, unless the attempt has lost the trial.

    Args:
      number: number of the trial.
      attempt: the attempt that measured.
      share: fraction of the training that is done, in (0, 1).
      value: reward that the trial would get now.

    Returns:
      The values of all other trials at the same share, each from its latest attempt.

    Raises:
      ValueError: the share is not in (0, 1), or the value is not finite.
    """
    if not 0 < share < 1:
      raise ValueError(f"a share must be between 0 and 1, not {share}.")
    if not math.isfinite(value):
      raise ValueError(f"a measurement must be finite, not {value}.")
    return self._database.write(
      lambda connection: measurements.record(
        connection, number, attempt, share, value, self._database.now()
      )
    )

  def reward_curves(self) -> dict[int, list[tuple[float, float]]]:
    """Returns the intermediate rewards of the trials that have any, by number.

    Each is a list of (share of the training, reward that the trial would have got), by share, from
    the trial's latest attempt.
    """
    return self._database.read(measurements.curves)

  def report_reward(
    self, number: int, attempt: int, reward: float, metrics: Mapping[str, object] | None = None
  ) -> bool:
    """Records a reward.

    Args:
      number: number of the trial.
      attempt: the attempt that succeeded.
      reward: finite reward.
      metrics: other measurements, as JSON values.

    Returns:
      Whether the reward counts. If the attempt had lost the trial, nothing is changed.

    Raises:
      ValueError: the reward is not finite.
    """
    if not math.isfinite(reward):
      raise ValueError(f"a reward must be finite, not {reward}; report a failure instead.")
    result = {"state": DONE, "reward": reward, "metrics": json.dumps(dict(metrics or {}))}
    return self._finish(number, attempt, result, failure=None, progress=1.0)

  def report_failure(self, number: int, attempt: int, reason: str, diverged: bool = False) -> bool:
    """Records that a trial has failed for good.

    Args:
      number: number of the trial.
      attempt: the attempt that failed.
      reason: the reason, for people.
      diverged: whether the architecture is to blame, so that the search can learn from it.

    Returns:
      Whether the failure counts. If the attempt had lost the trial, nothing is changed.
    """
    # PostgreSQL stores no NUL in texts, and no database stores half of a surrogate pair.
    reason = reason.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    return self._finish(number, attempt, {"state": FAILED, "failure": reason, "diverged": diverged})

  def hand_back(self, number: int, attempt: int, reason: str) -> bool:
    """Queues the trial of a worker that is being stopped; it does not count as a death.

    Args:
      number: number of the trial.
      attempt: the worker's attempt.
      reason: why it does not go on, for people.

    Returns:
      Whether the trial is queued; False if the attempt had lost it or is done.
    """

    def transaction(connection: sa.Connection) -> bool:
      this = (_trials.c.number == number, _trials.c.attempt == attempt)
      connection.execute(
        _trials.update()
        .where(*this, _trials.c.state == RUNNING)
        .values(state=QUEUED, lease_expires=None, failure=reason, progress=0.0)
      )
      return connection.scalar(sa.select(_trials.c.state).where(*this)) == QUEUED

    return self._database.write(transaction)

  # For launchers.

  def release(self, worker: str, reason: str, is_death: bool = True) -> int:
    """Queues the trial of a worker that is known to be gone.

    Args:
      worker: name of the worker.
      reason: how the worker ended, for people; that of a death begins with `worker`.
      is_death: whether the worker died, so that the trial may be to blame; False if it was stopped.

    Returns:
      The number of trials that the worker was running.
    """
    return self._database.write(
      lambda connection: self._leases.requeue(
        connection, _trials.c.worker == worker, reason, is_death
      )
    )

  def release_expired(self) -> int:
    """Queues the trials whose lease has expired, and returns their number."""
    return self._database.write(self._leases.requeue_expired)

  def has_worked(self, worker: str) -> bool:
    """Returns whether a worker of this name was the last to claim some trial."""
    query = sa.select(_trials.c.number).where(_trials.c.worker == worker).limit(1)
    return bool(self._rows(query))

  def running_workers(self) -> list[str]:
    """Returns the names of the workers that run a trial."""
    query = sa.select(_trials.c.worker).where(_trials.c.state == RUNNING).distinct()
    # A damaged row may have another kind of value, or none.
    return sorted(row.worker for row in self._rows(query) if isinstance(row.worker, str))

  # Details.

  def _rows(self, query: sa.Select) -> Sequence[sa.Row]:
    return self._database.read(lambda connection: connection.execute(query).all())

  def _begun(self, connection: sa.Connection) -> sa.Row:
    schema.check_version(connection, self.name)
    row = connection.execute(sa.select(_search)).first()
    if row is None:
      raise schema.NoSearchYet(f"{self.name} holds no search yet; start the search first.")
    return row

  def _check_joined(self, connection: sa.Connection, joined: tuple[str, str, str]) -> None:
    worker, recipe, code = joined
    search = self._begun(connection)
    for what, here, there in (
      ("code", code, search.code_version),
      ("recipe", recipe, search.recipe_version),
    ):
      if here != there:
        raise UserError(
          f"{worker} does not have the {what} of the search in {self.name}: version {here} here, "
          f"{there} there. Give both the same, then start the worker again."
        )

  def _are_there(self, connection: sa.Connection, trials: Sequence[NewTrial]) -> bool:
    """Returns whether exactly these trials have been proposed already."""
    for trial in trials:
      row = connection.execute(sa.select(_trials).where(_trials.c.number == trial.number)).first()
      if row is None or trial != NewTrial(
        number=row.number,
        update=row.update_number,
        choices=tuple(json.loads(row.choices)),
        log_probs=tuple(json.loads(row.log_probs)),
        architecture_hash=row.architecture_hash,
        architecture=row.architecture,
        confirms=row.confirms,
        seed_offset=row.seed_offset,
      ):
        return False
    return True

  def _finish(
    self, number: int, attempt: int, result: Mapping[str, object], **values: object
  ) -> bool:
    """Records a result; returns whether this result counts, recorded now or before."""
    now = self._database.now()

    def transaction(connection: sa.Connection) -> bool:
      if change_attempt(
        connection,
        number,
        attempt,
        lease_expires=None,
        finished_at=now,
        seconds=since_start(now),
        **result,
        **values,
      ):
        return True
      same = [_trials.c[name] == value for name, value in result.items()]
      return bool(
        connection.scalar(
          sa.select(sa.func.count())
          .select_from(_trials)
          .where(_trials.c.number == number, _trials.c.attempt == attempt, *same)
        )
      )

    return self._database.write(transaction)
