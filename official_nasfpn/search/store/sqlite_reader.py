"""A file of SQLite that is read and left as it is: nothing is created or written.

So a search can be read where nobody may write, and while it runs. SQLite itself would create two
files beside a database in WAL mode, `-wal` and `-shm`, as soon as anybody reads it; every process
that has the database open has them, and the last one takes them away.
"""

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

_T = TypeVar("_T")

_BUSY_SECONDS = 30
_PAUSE_SECONDS = 0.05
# What SQLite says to a reader that may not write while a process that may is just starting.
_NOT_YET = ("attempt to write a readonly database", "database is locked", "unable to open database")


def read(path: Path, operation: Callable[[sa.Connection], _T]) -> _T:
  """Runs an operation that changes nothing, as one transaction.

  Args:
    path: of the database.
    operation: is run again when somebody has begun to write meanwhile.

  Raises:
    sqlalchemy.exc.DBAPIError: the file cannot be read, or is no database.
    OSError: likewise.
  """
  deadline = time.monotonic() + _BUSY_SECONDS
  while True:
    before, may_be_open = _state(path), _may_be_open(path)
    try:
      if may_be_open:
        return _run(path, "mode=ro&readonly_shm=1", operation)
      result = _read_at_rest(path, operation)
    except (sa.exc.DBAPIError, OSError) as error:
      not_yet = may_be_open and any(text in str(error) for text in _NOT_YET)
      if not (not_yet or _state(path) != before) or time.monotonic() > deadline:
        raise
    else:
      # Nothing was locked: somebody may have begun to write.
      if _state(path) == before and not _may_be_open(path):
        return result
    time.sleep(_PAUSE_SECONDS)


def _read_at_rest(path: Path, operation: Callable[[sa.Connection], _T]) -> _T:
  if not _size(_beside(path, "-wal")):
    return _run(path, "mode=ro&immutable=1", operation)
  # A process was killed, and its last transactions are in a file that takes a third to be read.
  with tempfile.TemporaryDirectory(prefix="official_nasfpn-store-") as folder:
    copy = Path(folder) / path.name
    shutil.copyfile(path, copy)
    shutil.copyfile(_beside(path, "-wal"), _beside(copy, "-wal"))
    return _run(copy, "mode=rw", operation)


def _run(path: Path, options: str, operation: Callable[[sa.Connection], _T]) -> _T:
  def connect() -> sqlite3.Connection:
    # Transactions are begun by us, below, not by Python's sqlite3.
    uri = f"{path.absolute().as_uri()}?{options}"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)

  engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.NullPool)
  sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
  try:
    with engine.begin() as connection:
      return operation(connection)
  finally:
    engine.dispose()


def _may_be_open(path: Path) -> bool:
  """Returns whether somebody may have the database open; who was killed has left it so, too."""
  return _beside(path, "-shm").exists() and _beside(path, "-wal").exists()


def _beside(path: Path, suffix: str) -> Path:
  return path.with_name(path.name + suffix)


def _size(path: Path) -> int:
  try:
    return path.stat().st_size
  except FileNotFoundError:
    return 0


def _state(path: Path) -> tuple[object, ...]:
  """Returns what changes when somebody writes, or begins to."""
  there = path.stat()
  return there.st_ino, there.st_size, there.st_mtime_ns, _size(_beside(path, "-wal"))
