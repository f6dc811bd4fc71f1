"""The database of a trial store: SQLite in a file, or PostgreSQL for many machines.

An operation is one transaction. When the connection is lost or the server is away, the operation is
repeated until the database answers; it may then have happened twice, and the store sees to it that
this does no harm.
"""

import contextlib
import logging
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from tqdm import tqdm

from official_nasfpn.errors import UserError

_T = TypeVar("_T")

# SQLite's writers wait for one another this long; each holds the file for a few milliseconds.
_BUSY_SECONDS = 30
# No statement of a store takes nearly so long: a server that is silent for so long is away.
_SILENCE_SECONDS = 60
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
# How long the server may take to notice that an earlier controller is dead.
_LOCK_SECONDS = 5.0
_LOCK_CLASS = 0x4E415346  # "NASF": among the advisory locks of a database, those of trial stores.

# SQLSTATEs of a server that is there again soon: class 08 are lost connections, class 57P0 servers
# that stop, crash or start, 53300 one that has too many connections.
_OUTAGE_STATES = ("08", "57P01", "57P02", "57P03", "53300")


def parse_url(url: str | Path | sa.URL) -> sa.URL:
  """Returns the address of a database.

  Args:
    url: path of an SQLite file, or a URL: `sqlite:///search.db`, `postgresql://user@host/database`.
      The password of a PostgreSQL URL without one is that of the variable PGPASSWORD.

  Raises:
    UserError: it is no address of a database that can hold a store.
  """
  if isinstance(url, Path):
    return sa.URL.create("sqlite", database=str(url))
  try:
    url = sa.make_url(url)
  except (sa.exc.ArgumentError, ValueError):
    # Not quoted: there may be a password in it.
    raise UserError(
      "--store: that is no URL of a database; write postgresql://user@host:5432/database."
    ) from None
  backend = url.drivername.partition("+")[0]
  if backend == "sqlite":
    return url
  if backend not in ("postgresql", "postgres"):
    raise UserError(f"--store: a trial store is in SQLite or PostgreSQL, not in {backend}.")
  url = url.set(drivername="postgresql+pg8000")
  if url.password is None and (password := os.environ.get("PGPASSWORD")):
    url = url.set(password=password)
  return url


def without_password(url: sa.URL) -> str:
  """Returns a URL as it may be shown and written down."""
  # `URL.set` would keep the password: None stands for "as it is" there.
  return url._replace(password=None).render_as_string(hide_password=False)


class Database:
  """One database, asked again when it does not answer."""

  def __init__(
    self,
    url: str | Path | sa.URL,
    outage_seconds: float = 600.0,
    clock: Callable[[], float] | None = None,
    keeps_connection: bool = True,
  ):
    """Prepares connections; the first operation makes one.

    Args:
      url: see `parse_url`.
      outage_seconds: how long to ask a database that does not answer.
      clock: the time in seconds; default: the server's clock, or with SQLite this machine's.
      keeps_connection: False for one connection per operation, for hundreds of processes that each
        ask once a minute: a server has room for a limited number of connections.
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
    self._exclusive: _ExclusiveLock | None = None
    if is_sqlite:
      self._engine = sa.create_engine(self.url)
      _prepare_sqlite(self._engine)
    else:
      self._engine = sa.create_engine(
        self.url,
        connect_args={"timeout": _SILENCE_SECONDS, "application_name": _process_name()},
        **(
          {"pool_size": 1, "max_overflow": 9, "pool_pre_ping": True}
          if keeps_connection
          else {"poolclass": sa.NullPool}
        ),
      )
      sa.event.listen(self._engine, "handle_error", _classify_error)
      # It would show how closing a lost connection fails, one traceback each.
      logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
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
    self._exclusive = _ExclusiveLock(self._engine, self.name)
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
        if not self._is_outage(error):
          raise
        reason = _reason(error)
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

  def _is_outage(self, error: Exception) -> bool:
    if not self.is_shared:
      return False
    # pg8000 lets some errors of the socket through as they are.
    return isinstance(error, OSError) or error.connection_invalidated

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


class _ExclusiveLock:
  """An advisory lock of PostgreSQL, which the server frees when its holder's connection ends."""

  def __init__(self, engine: sa.Engine, name: str):
    # A connection of its own, and in no transaction: it is idle for as long as the search runs.
    self._engine = sa.create_engine(
      engine.url,
      poolclass=sa.NullPool,
      isolation_level="AUTOCOMMIT",
      connect_args={"timeout": _SILENCE_SECONDS, "application_name": _process_name()},
    )
    sa.event.listen(self._engine, "handle_error", _classify_error)
    self._name = name
    self._connection: sa.Connection | None = None

  def ensure(self) -> None:
    """Takes the lock unless it is held.

    Raises:
      UserError: another process holds it.
    """
    if self._connection is not None:
      try:
        self._connection.exec_driver_sql("SELECT 1")
        return
      except (sa.exc.DBAPIError, OSError):
        self.release()
    connection = self._engine.connect()
    try:
      # A controller whose machine lost its power is noticed within a minute, not within two hours.
      for setting in ("idle = 30", "interval = 10", "count = 3"):
        connection.exec_driver_sql(f"SET tcp_keepalives_{setting}")
      self._take(connection)
    except BaseException:
      connection.close()
      raise
    self._connection = connection

  def _take(self, connection: sa.Connection) -> None:
    which = {"class": _LOCK_CLASS}
    deadline = time.monotonic() + _LOCK_SECONDS
    while not connection.scalar(
      sa.text("SELECT pg_try_advisory_lock(:class, hashtext(current_schema()))"), which
    ):
      if time.monotonic() > deadline:
        holder = connection.scalar(
          sa.text(
            "SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid) "
            "WHERE locktype = 'advisory' AND classid = :class AND granted "
            "AND pg_locks.database = (SELECT oid FROM pg_database "
            "WHERE datname = current_database()) LIMIT 1"
          ),
          which,
        )
        raise UserError(
          f"Another search, {holder or 'of another user'}, is running on {self._name}. Wait for "
          "it, stop it, or choose another --store."
        )
      time.sleep(0.1)

  def release(self) -> None:
    if self._connection is not None:
      with contextlib.suppress(sa.exc.DBAPIError, OSError):
        self._connection.close()
      self._connection = None


# Of its own: the program's random numbers follow from its seed.
_jitter = random.Random()


def _say(line: str) -> None:
  # Through tqdm, so that it does not run into a progress bar.
  tqdm.write(line, file=sys.stderr)
  sys.stderr.flush()


def _process_name() -> str:
  return f"process {os.getpid()} on {socket.gethostname()}"


def _classify_error(context: sa.engine.ExceptionContext) -> None:
  """Tells SQLAlchemy what it does not know of pg8000's errors, by their SQLSTATE or their cause."""
  error = context.original_exception
  state = _sqlstate(error)
  lost = isinstance(error, OSError) or isinstance(error.__cause__, OSError)
  if lost or state.startswith(_OUTAGE_STATES):
    context.is_disconnect = True


def _sqlstate(error: BaseException) -> str:
  details = error.args[0] if error.args else None
  return str(details.get("C", "")) if isinstance(details, dict) else ""


def _reason(error: Exception) -> str:
  """Returns what a person should know of an error: not the statement, which may be long."""
  original = getattr(error, "orig", None) or error
  if isinstance(cause := original.__cause__, OSError):
    return cause.strerror or str(cause)
  details = original.args[0] if original.args else ""
  return str(details.get("M", details)) if isinstance(details, dict) else str(original)


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
    reads_only = connection.get_execution_options().get("read_only")
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
