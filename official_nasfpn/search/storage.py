"""The files of a search directory: where they are, how they are written, and who may use them."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from official_nasfpn.errors import UserError

_FATAL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_FATAL_MESSAGES = (
  "No space left on device",
  "database or disk is full",
  "attempt to write a readonly database",
  "unable to open database file",
  "disk I/O error",
)


def database_path(search_dir: Path) -> Path:
  return search_dir / "search.db"


def recipe_path(search_dir: Path) -> Path:
  return search_dir / "recipe.gin"


def trial_dir(search_dir: Path, number: int) -> Path:
  return search_dir / "trials" / f"{number:06d}"


def worker_log(search_dir: Path, worker: str) -> Path:
  return search_dir / "workers" / f"{worker}.log"


def worker_lock(search_dir: Path, worker: str) -> Path:
  return search_dir / "workers" / f".{worker}.lock"


def write_text(path: Path, text: str) -> None:
  """Writes a file whole or not at all, whenever the process dies."""
  path.parent.mkdir(parents=True, exist_ok=True)
  unfinished = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
  except OSError:
    unfinished.unlink(missing_ok=True)
    raise


def storage_problem(error: BaseException) -> str | None:
  """Returns what is wrong with the disk when that is what an error is about, else None.

  Such an error says nothing about a trial: nobody's trials can be recorded until it is mended.
  """
  if isinstance(error, OSError) and error.errno in _FATAL_ERRNOS:
    return str(error)
  cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
  # TensorFlow reports a full disk in the message of several classes of its own.
  return next((text for text in _FATAL_MESSAGES if text in str(cause)), None)


@contextlib.contextmanager
def storage_errors(search_dir: Path) -> Iterator[None]:
  """Turns a full, unwritable or missing disk into a `UserError` that names the directory."""
  try:
    yield
  except (OSError, sa.exc.DBAPIError) as error:
    problem = storage_problem(error)
    if problem is None and isinstance(error, OSError):
      problem = str(error)
    if problem is None:
      raise
    raise UserError(
      f"The search directory {search_dir} cannot be written: {problem}. Nothing that was recorded "
      "is lost: make room or mend its permissions, then start the same command again."
    ) from error


@contextlib.contextmanager
def exclusive(search_dir: Path) -> Iterator[None]:
  """Creates a search directory if need be, and keeps other controllers out of it.

  Raises:
    UserError: another controller is in it, or it cannot be written.
  """
  with storage_errors(search_dir):
    search_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(search_dir / ".controller.lock")
    if not lock.acquire():
      raise UserError(
        f"Another search, process {lock.holder()}, is running in {search_dir}. Wait for it, stop "
        "it, or choose another --search_dir."
      )
    try:
      yield
    finally:
      lock.release()


class FileLock:
  """A lock that the system frees when its process ends, however it ends."""

  def __init__(self, path: Path):
    self._path = path
    self._file: int | None = None

  def acquire(self) -> bool:
    """Takes the lock, unless another process has it; returns whether it was taken."""
    file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      os.close(file)
      return False
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()}\n".encode())
    self._file = file
    return True

  def release(self) -> None:
    if self._file is not None:
      os.close(self._file)
      self._file = None

  def holder(self) -> str:
    """Returns the id of the process that took the lock last."""
    return self._path.read_text(encoding="utf-8").strip()
