"""Who owns a trial within a transaction, for how long, and when it is free again.

A lease is what a claim gives a worker: the trial is its own until the lease expires. See
`trial_store` for what that means to a search.
"""

import sqlalchemy as sa

from official_nasfpn.search.store.database import Database
from official_nasfpn.search.store.lease_watch import LONGEST_LEASES, LeaseWatch
from official_nasfpn.search.store.schema import trials as _trials
from official_nasfpn.search.store.trial import FAILED, QUEUED, RUNNING

# What the reason of every death begins with, and that of no evaluation.
_DEATH = "worker "


class Leases:
  """The leases of one store, as one process sees them."""

  def __init__(self, database: Database, seconds: float, max_attempts: int):
    """Has seen none yet.

    Args:
      database: of the store; it says what time it is.
      seconds: how long a lease lasts after a claim or a renewal.
      max_attempts: a trial fails when this many workers have died while they ran it.
    """
    self._database = database
    self._seconds = seconds
    self._max_attempts = max_attempts
    self._watch = LeaseWatch(seconds)

  def take(
    self, connection: sa.Connection, which: sa.Select, worker: str, **values: object
  ) -> sa.Row | None:
    """Gives a worker the trial with the lowest number that a query selects."""
    # PostgreSQL needs the row lock; SQLite has locked the database already and ignores it.
    lowest = (
      which.order_by(_trials.c.number).limit(1).with_for_update(skip_locked=True, key_share=True)
    )
    return connection.execute(
      _trials.update()
      .where(_trials.c.number == lowest.scalar_subquery())
      .values(
        state=RUNNING,
        worker=worker,
        lease_expires=self._database.now() + self._seconds,
        progress=0.0,
        **values,
      )
      .returning(*_trials.c)
    ).first()

  def requeue_expired(self, connection: sa.Connection) -> int:
    """Queues the trials whose lease has expired, and returns their number."""
    # A worker could not renew its lease while the database was down; it gets the time to do so now.
    if self._database.seconds_since_outage() < self._seconds:
      return 0
    if self._database.has_machine_clock:
      running = sa.select(_trials.c.number, _trials.c.attempt, _trials.c.lease_expires)
      rows = connection.execute(running.where(_trials.c.state == RUNNING))
      time = self._database.now()
      assert isinstance(time, float)
      numbers = self._watch.expired(
        (row.number, (row.attempt, row.lease_expires), _left(row.lease_expires, time))
        for row in rows
      )
      if not numbers:
        return 0
      expired = _trials.c.number.in_(numbers)
    else:
      now = self._database.now()
      expired = _trials.c.lease_expires < now
      if (server_started_at := self._database.server_started_at()) is not None:
        expired &= server_started_at + self._seconds < now
        if self._watch.has_jumped(connection.scalar(sa.select(now))):
          return 0
        # Left over from before the clock was set back. Not cut further: it may be the lease of a
        # worker whose own is far longer, and that renews it in a quarter of it.
        far = now + LONGEST_LEASES * self._seconds
        connection.execute(
          _trials.update()
          .where(_trials.c.state == RUNNING, _trials.c.lease_expires > far)
          .values(lease_expires=far)
        )
    reason = f"worker sent no heartbeat for {self._seconds:g} s"
    return self.requeue(connection, expired, reason, is_death=True, skip_locked=True)

  def requeue(
    self,
    connection: sa.Connection,
    which: sa.ColumnElement,
    reason: str,
    is_death: bool,
    skip_locked: bool = False,
  ) -> int:
    """Takes running trials from their workers: they are queued, or fail after the last attempt.

    Args:
      connection: of the transaction.
      which: condition on the table of trials.
      reason: how the worker ended, for people; that of a death begins with `worker`.
      is_death: whether the worker died, so that the trial may be to blame.
      skip_locked: whether to leave out a trial that another transaction is changing.

    Returns:
      The number of trials.

    Raises:
      ValueError: `failed_by_deaths` could not tell such a death from an evaluation that failed.
    """
    if is_death and not reason.startswith(_DEATH):
      raise ValueError(f"the reason of a death begins with {_DEATH!r}, unlike {reason!r}.")
    # Rows are locked in the order of their numbers, so that two processes cannot deadlock.
    numbers = connection.scalars(
      sa.select(_trials.c.number)
      .where(_trials.c.state == RUNNING, which)
      .order_by(_trials.c.number)
      .with_for_update(skip_locked=skip_locked, key_share=True)
    ).all()
    if not numbers:
      return 0
    running = _trials.update().where(_trials.c.state == RUNNING, _trials.c.number.in_(numbers))
    now = self._database.now()
    if is_death:
      attempts = f"{self._max_attempts} attempt{'s' if self._max_attempts > 1 else ''}"
      connection.execute(
        running.where(_trials.c.deaths + 1 >= self._max_attempts).values(
          state=FAILED,
          deaths=_trials.c.deaths + 1,
          lease_expires=None,
          failure=f"{reason}, {attempts}",
          finished_at=now,
          seconds=since_start(now),
        )
      )
    connection.execute(
      running.values(
        state=QUEUED,
        deaths=_trials.c.deaths + int(is_death),
        lease_expires=None,
        failure=reason,
        progress=0.0,
      )
    )
    return len(numbers)


def failed_by_deaths() -> sa.ColumnElement[bool]:
  """Returns the condition on the table of trials that only dead workers have failed a trial."""
  return (
    (_trials.c.state == FAILED)
    & ~_trials.c.diverged
    & (_trials.c.deaths > 0)
    # As `Leases.requeue` writes it.
    & (
      _trials.c.failure.like(f"{_DEATH}%, % attempt")
      | _trials.c.failure.like(f"{_DEATH}%, % attempts")
    )
  )


def change_attempt(connection: sa.Connection, number: int, attempt: int, **values: object) -> bool:
  """Changes a trial if it is unfinished and `attempt` is its latest; rejects late results."""
  changed = connection.execute(
    _trials.update().where(*unfinished(number, attempt)).values(**values)
  )
  return changed.rowcount == 1


def _left(lease_expires: object, now: float) -> float:
  """Returns the seconds that are left of a lease; 0 where a damaged row has none."""
  return lease_expires - now if isinstance(lease_expires, int | float) else 0.0


def unfinished(number: int, attempt: int) -> tuple[sa.ColumnElement, ...]:
  return (
    _trials.c.number == number,
    _trials.c.attempt == attempt,
    _trials.c.state.in_((QUEUED, RUNNING)),
  )


def since_start(now: sa.ColumnElement | float) -> sa.ColumnElement:
  """Returns the seconds since a trial was claimed; 0 if the clock was set back meanwhile."""
  return sa.case((_trials.c.started_at < now, now - _trials.c.started_at), else_=0.0)
