"""The database of a trial store: SQLite in a file, or PostgreSQL for many machines.

An operation is one transaction. When the connection is lost or the server is away, the operation is
repeated until the database answers; it may then have happened twice, and the store sees to it that
this does no harm.
"""

import contextlib
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from tqdm import tqdm

from official_nasfpn.errors import UserError
from official_nasfpn.search.store import engines, sqlite_reader
from official_nasfpn.search.store.address import parse_url, without_password
from official_nasfpn.search.store.exclusive_lock import ExclusiveLock

_T = TypeVar("_T")

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class Database:
  """One database, asked again when it does not answer."""

  def __init__(
    self,
    url: str | Path | sa.URL,
    outage_seconds: float = 600.0,
    clock: Callable[[], float] | None = None,
    keeps_connection: bool = True,
    reads_only: bool = False,
  ):
    """Prepares connections; the first operation makes one.

    Args:
      url: see `address.parse_url`.
      outage_seconds: how long to ask a database that does not answer.
      clock: the time in seconds; default: the server's clock, or with SQLite this machine's.
      keeps_connection: False for one connection per operation, for hundreds of processes that each
        ask once a minute: a server has room for a limited number of connections.
      reads_only: whether nothing is ever written. A file of SQLite may then be one that cannot be
        written, and is left as it is.
    """
    self.url = parse_url(url)
    is_sqlite = self.url.get_backend_name() == "sqlite"
    self.name = str(self.url.database) if is_sqlite else without_password(self.url)
    self.is_shared = not is_sqlite
    self._clock = time.time if is_sqlite and clock is None else clock
    self._outage_seconds = outage_seconds
    self._lock = threading.Lock()
    self._away = False
    self._back_at: float | None = None
    self._exclusive: ExclusiveLock | None = None
    self._file = Path(self.name) if is_sqlite and reads_only else None
    if is_sqlite:
      self._engine = engines.sqlite_engine(self.url)
    elif keeps_connection:
      self._engine = engines.postgres_engine(
        self.url, pool_size=1, max_overflow=9, pool_pre_ping=True
      )
    else:
      self._engine = engines.postgres_engine(self.url, poolclass=sa.NullPool)
    # Readers need no right to write, and do not wait for writers.
    self._reading_engine = self._engine.execution_options(read_only=True)

  def close(self) -> None:
    self._engine.dispose()

  def now(self) -> sa.ColumnElement | float:
    """Returns the time, for use in a statement, in seconds since 1970."""
    if self._clock is not None:
      return self._clock()
    # Not now(): that is when the transaction began, maybe before it waited for a lock.
    return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)

  def awake_since(self) -> sa.ColumnElement | None:
    """Returns since when the server runs, for use in a statement; None where that says nothing."""
    if self._clock is not None:
      return None
    return sa.cast(sa.extract("epoch", sa.func.pg_postmaster_start_time()), sa.Double)

  def seconds_since_outage(self) -> float:
    """Returns for how long the database has answered this process; infinity without any outage."""
    with self._lock:
      if self._away:
        return 0.0
      return float("inf") if self._back_at is None else time.monotonic() - self._back_at

  def environment(self) -> dict[str, str]:
    """Returns the variables that a process needs to open the database by its `name`."""
    return {} if self.url.password is None else {"PGPASSWORD": str(self.url.password)}

  def write(self, operation: Callable[[sa.Connection], _T]) -> _T:
    """Runs an operation as one transaction, again and again until the database has answered."""
    return self._until_it_answers(self._engine, operation)

  def read(self, operation: Callable[[sa.Connection], _T]) -> _T:
    """Like `write`, for operations that change nothing."""
    if self._file is not None:
      return sqlite_reader.read(self._file, operation)
    return self._until_it_answers(self._reading_engine, operation)

  @contextlib.contextmanager
  def exclusive(self) -> Iterator[None]:
    """Keeps others out who ask for the same; SQLite files have their directory's lock instead.

    Raises:
      UserError: another process has the lock.
    """
    if not self.is_shared:
      yield
      return
    self._exclusive = ExclusiveLock(self.url, self.name)
    try:
      self.check_exclusive()
      yield
    finally:
      self._exclusive.release()
      self._exclusive = None

  def check_exclusive(self) -> None:
    """Within `exclusive`, takes the lock again if the server has lost it.

    Raises:
      UserError: another process has taken it.
    """
    if self._exclusive is not None:
      self._repeat(self._exclusive.ensure)

  def _until_it_answers(self, engine: sa.Engine, operation: Callable[[sa.Connection], _T]) -> _T:
    def transaction() -> _T:
      with engine.begin() as connection:
        return operation(connection)

    return self._repeat(transaction)

  def _repeat(self, operation: Callable[[], _T]) -> _T:
    deadline = time.monotonic() + self._outage_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
      try:
        result = operation()
      except (sa.exc.DBAPIError, OSError) as error:
        if not self.is_shared:
          raise
        reason = engines.reason(error)
        if engines.is_refusal(error):
          raise UserError(f"The trial store {self.name} cannot be opened: {reason}.") from error
        if not engines.is_outage(error):
          raise
        if time.monotonic() >= deadline:
          raise UserError(
            f"The trial store {self.name} has not answered for {self._outage_seconds:g} s "
            f"({reason}). Nothing that was recorded is lost: see that it runs, then start the same "
            "command again."
          ) from error
        self._say_that_it_is_away(reason)
        # A little at random, so that a hundred workers do not come back at the same moment.
        time.sleep(min(pause * _jitter.uniform(0.5, 1.0), max(deadline - time.monotonic(), 0.0)))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
      else:
        self._say_that_it_is_back()
        return result

  def _say_that_it_is_away(self, reason: str) -> None:
    with self._lock:
      if not self._away:
        self._away = True
        _say(
          f"The trial store {self.name} does not answer ({reason}); asking again for up to "
          f"{self._outage_seconds:g} s."
        )

  def _say_that_it_is_back(self) -> None:
    if self._away:
      with self._lock:
        if self._away:
          self._back_at = time.monotonic()
          self._away = False
          _say(f"The trial store {self.name} answers again.")


# Of its own: the program's random numbers follow from its seed.
_jitter = random.Random()


def _say(line: str) -> None:
  # Through tqdm, so that it does not run into a progress bar.
  tqdm.write(line, file=sys.stderr)
  sys.stderr.flush()
