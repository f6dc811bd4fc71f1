"""Keeps a second controller out of a PostgreSQL store."""

import contextlib
import time

import sqlalchemy as sa

from official_nasfpn.errors import UserError
from official_nasfpn.search.store import engines

# How long the server may take to notice that an earlier controller is dead.
_LOCK_SECONDS = 5.0
_LOCK_CLASS = 0x4E415346  # "NASF": tells our advisory locks from others in the database.


class ExclusiveLock:
  """An advisory lock of PostgreSQL. The server frees it when its holder's connection ends."""

  def __init__(self, url: sa.URL, name: str):
    """Prepares the lock; `ensure` takes it.

    Args:
      url: address of the database.
      name: name of the database in error messages.
    """
    # A connection of its own, outside transactions: it is idle for as long as the search runs.
    self._engine = engines.postgres_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    self._name = name
    self._connection: sa.Connection | None = None

  def ensure(self) -> None:
    """Takes the lock unless this object holds it already.

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
      # The server notices within a minute, not two hours, that this machine has lost its power.
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
