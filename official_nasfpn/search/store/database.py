"""The database of a trial store: SQLite in a file, or PostgreSQL for many machines.

Each operation is one transaction. It is repeated while the server is down, the connection is lost
or another process holds the file. It may then have run twice, and the store makes sure that this
does no harm.
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

from official_nasfpn.disk import disk_problem
from official_nasfpn.errors import UserError
from official_nasfpn.search.store import engines, sqlite_reader
from official_nasfpn.search.store.address import parse_url, without_password
from official_nasfpn.search.store.exclusive_lock import ExclusiveLock

_T = TypeVar("_T")

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class Database:
  """One database. Operations are repeated while it does not answer."""

  def __init__(
    self,
    url: str | Path | sa.URL,
    outage_seconds: float = 600.0,
    clock: Callable[[], float] | None = None,
    keeps_connection: bool = True,
    reads_only: bool = False,
  ):
    """Prepares connections; the first operation opens one.

    Args:
      url: path or URL of the database, as `address.parse_url` takes it.
      outage_seconds: how long an operation is repeated before it raises a `UserError`.
      clock: returns the time in seconds. Default: the server's clock; with SQLite, this machine's.
      keeps_connection: whether connections stay open between operations. False suits hundreds of
        processes that each ask once a minute: a server limits the number of connections.
      reads_only: whether nothing is ever written. An SQLite file may then be read-only, and is left
        unchanged.
    """
    self.url = parse_url(url)
    is_sqlite = self.url.get_backend_name() == "sqlite"
    self.name = str(self.url.database) if is_sqlite else without_password(self.url)
    self.is_shared = not is_sqlite
    # Whoever may set the clock of this machine may set it at any time.
    self.has_machine_clock = is_sqlite and clock is None
    self._clock = time.time if self.has_machine_clock else clock
    self._outage_seconds = outage_seconds
    self._lock = threading.Lock()
    self._is_down = False
    self._back_at: float | None = None
    self._exclusive: ExclusiveLock | None = None
    self._file = Path(self.name) if is_sqlite else None
    self._reads_only = reads_only
    # Device and inode of the file, once it was used.
    self._identity: tuple[int, int] | None = None
    if is_sqlite:
      self._engine = engines.sqlite_engine(self.url)
    elif keeps_connection:
      self._engine = engines.postgres_engine(
        self.url, pool_size=1, max_overflow=9, pool_pre_ping=True
      )
    else:
      self._engine = engines.postgres_engine(self.url, poolclass=sa.NullPool)
    # Readers need no permission to write, and do not wait for writers.
    self._reading_engine = self._engine.execution_options(read_only=True)

  def close(self) -> None:
    self._engine.dispose()

  def now(self) -> sa.ColumnElement | float:
    """Returns the current Unix time in seconds, for use in a statement."""
    if self._clock is not None:
      return self._clock()
    # Not now(), the time at which the transaction began: it may have waited for a lock since.
    return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)

  def server_started_at(self) -> sa.ColumnElement | None:
    """Returns the Unix time at which the server started, for use in a statement.

    None if the clock is not the server's.
    """
    if self._clock is not None:
      return None
    return sa.cast(sa.extract("epoch", sa.func.pg_postmaster_start_time()), sa.Double)

  def seconds_since_outage(self) -> float:
    """Returns the seconds since this process last saw an outage end.

    0 during an outage, infinity if there was none.
    """
    with self._lock:
      if self._is_down:
        return 0.0
      return float("inf") if self._back_at is None else time.monotonic() - self._back_at

  def environment(self) -> dict[str, str]:
    """Returns the environment variables that a process needs to open the database by its `name`."""
    return {} if self.url.password is None else {"PGPASSWORD": str(self.url.password)}

  def write(self, operation: Callable[[sa.Connection], _T]) -> _T:
    """Runs an operation as one transaction, and repeats it until the database answers."""
    return self._until_it_answers(self._engine, operation)

  def read(self, operation: Callable[[sa.Connection], _T]) -> _T:
    """Like `write`, for operations that change nothing."""
    if self._file is not None and self._reads_only:
      return sqlite_reader.read(self._file, operation)
    return self._until_it_answers(self._reading_engine, operation)

  @contextlib.contextmanager
  def exclusive(self) -> Iterator[None]:
    """Holds a lock on the database; with SQLite, the search directory has a lock instead.

    Raises:
      UserError: another process holds the lock.
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
      self._check_file()
      with engine.begin() as connection:
        result = operation(connection)
      self._check_file(was_used=True)
      return result

    return self._repeat(transaction)

  def _check_file(self, was_used: bool = False) -> None:
    """Raises a `UserError` if an SQLite file is not the one that this process has used before.

    SQLite itself would go on in the deleted file, and all would be lost with the last process.
    """
    if self._file is None or (self._identity is None and not was_used):
      return
    try:
      status = self._file.stat()
      identity = (status.st_dev, status.st_ino)
    except FileNotFoundError:
      identity = None
    self._identity = self._identity or identity
    if identity is None or identity != self._identity:
      raise UserError(
        f"{self.name} was deleted or replaced while it was in use. What it held is lost with it: "
        "put a copy of it back, or search in a new --search_dir."
      )

  def _repeat(self, operation: Callable[[], _T]) -> _T:
    deadline = time.monotonic() + self._outage_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
      try:
        result = operation()
      except (sa.exc.DBAPIError, OSError) as error:
        if isinstance(error, sa.exc.IntegrityError) or (not self.is_shared and disk_problem(error)):
          raise
        reason = engines.reason(error)
        is_conflict = self.is_shared and engines.is_conflict(error)
        if self.is_shared and engines.is_refusal(error):
          raise UserError(f"The trial store {self.name} cannot be opened: {reason}.") from error
        is_outage = engines.is_outage(error) if self.is_shared else engines.is_busy(error)
        if not is_conflict and not is_outage:
          raise UserError(
            f"The trial store {self.name} cannot be used: {reason}. If it was damaged or changed "
            "by others, put a copy of it back, or search in a new place."
          ) from error
        if time.monotonic() >= deadline:
          raise UserError(
            f"The trial store {self.name} has not answered for {self._outage_seconds:g} s "
            f"({reason}). Nothing that was recorded is lost: make sure that it runs, then start "
            "the same command again."
          ) from error
        if not is_conflict:
          self._note_outage(reason)
        # Random pauses, so that a hundred workers do not come back at the same moment.
        time.sleep(min(pause * _jitter.uniform(0.5, 1.0), max(deadline - time.monotonic(), 0.0)))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
      else:
        self._note_end_of_outage()
        return result

  def _note_outage(self, reason: str) -> None:
    with self._lock:
      if not self._is_down:
        self._is_down = True
        _print(
          f"The trial store {self.name} does not answer ({reason}); trying again for up to "
          f"{self._outage_seconds:g} s."
        )

  def _note_end_of_outage(self) -> None:
    if self._is_down:
      with self._lock:
        if self._is_down:
          self._back_at = time.monotonic()
          self._is_down = False
          _print(f"The trial store {self.name} answers again.")


# A generator of its own: the program's random numbers must depend on its seed alone.
_jitter = random.Random()


def _print(line: str) -> None:
  # Through tqdm, so that the line does not run into a progress bar.
  tqdm.write(line, file=sys.stderr)
  sys.stderr.flush()
