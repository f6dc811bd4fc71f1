"""Reads an SQLite file without creating or writing anything.

So a search can be read on a read-only file system, and while it runs. SQLite itself would create
two files beside a database in WAL mode, `-wal` and `-shm`, as soon as a process reads it. All
processes that have the database open share them, and the last one deletes them.
"""

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from official_nasfpn.search.store.engines import decoded

_T = TypeVar("_T")

_BUSY_SECONDS = 30
_PAUSE_SECONDS = 0.05
# SQLite's errors for a reader that may not write, while a writer is just starting.
_NOT_YET = ("attempt to write a readonly database", "database is locked", "unable to open database")


def read(path: Path, operation: Callable[[sa.Connection], _T]) -> _T:
  """Runs a read-only operation as one transaction.

  Args:
    path: path of the database.
    operation: takes a connection; it runs again if another process began to write meanwhile.

  Returns:
    What the operation returned.

  Raises:
    sqlalchemy.exc.DBAPIError: the file cannot be read, or is no database.
    OSError: the file cannot be read.
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
      # Nothing was locked: another process may have begun to write.
      if _state(path) == before and not _may_be_open(path):
        return result
    time.sleep(_PAUSE_SECONDS)


def _read_at_rest(path: Path, operation: Callable[[sa.Connection], _T]) -> _T:
  if not _size(_beside(path, "-wal")):
    return _run(path, "mode=ro&immutable=1", operation)
  # A process was killed. Its last transactions are in `-wal`, and reading them creates `-shm`.
  with tempfile.TemporaryDirectory(prefix="official_nasfpn-store-") as folder:
    copy = Path(folder) / path.name
    shutil.copyfile(path, copy)
    shutil.copyfile(_beside(path, "-wal"), _beside(copy, "-wal"))
    return _run(copy, "mode=rw", operation)


def _run(path: Path, options: str, operation: Callable[[sa.Connection], _T]) -> _T:
  def connect() -> sqlite3.Connection:
    # We begin transactions ourselves, below; Python's sqlite3 must not.
    uri = f"{path.absolute().as_uri()}?{options}"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    connection.text_factory = decoded
    return connection

  engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.NullPool)
  sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
  try:
    with engine.begin() as connection:
      return operation(connection)
  finally:
    engine.dispose()


def _may_be_open(path: Path) -> bool:
  """Returns whether a process may have the database open; one that was killed looks the same."""
  return _beside(path, "-shm").exists() and _beside(path, "-wal").exists()


def _beside(path: Path, suffix: str) -> Path:
  return path.with_name(path.name + suffix)


def _size(path: Path) -> int:
  try:
    return path.stat().st_size
  except FileNotFoundError:
    return 0


def _state(path: Path) -> tuple[object, ...]:
  """Returns figures of the files that change when a process writes, or begins to."""
  status = path.stat()
  return status.st_ino, status.st_size, status.st_mtime_ns, _size(_beside(path, "-wal"))
