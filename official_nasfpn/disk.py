"""Files written whole or not at all, file locks, and what is wrong with a disk or a path."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from official_nasfpn.errors import UserError

# What figures are drawn as.
FIGURES = (".png", ".svg", ".pdf")
_LOG_LINES = 5
_ERRNOS = (
  errno.ENOSPC,
  errno.EDQUOT,
  errno.EFBIG,
  errno.EROFS,
  errno.EACCES,
  errno.EPERM,
  errno.EIO,
)
# TensorFlow and SQLite report what the disk says as text, under several classes of their own.
_MESSAGES = (
  "No space left on device",
  "Disk quota exceeded",
  "File too large",
  "database or disk is full",
  "attempt to write a readonly database",
  "unable to open database file",
  "disk I/O error",
)


def write_text(path: Path, text: str) -> None:
  """Writes a file, and the folders above it; a process that is killed leaves no half of it."""
  path.parent.mkdir(parents=True, exist_ok=True)
  unfinished = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
  except OSError:
    unfinished.unlink(missing_ok=True)
    raise


def check_picture_path(flag: str, path: str | Path, suffixes: Collection[str] = FIGURES) -> None:
  """Refuses a picture to write that has no place or format, before anything is done for it.

  Args:
    flag: the option that names it, as in "--figure".
    path: the file.
    suffixes: the formats that can be written, in lower case.

  Raises:
    UserError: the name ends in none of them, or there is no such folder.
  """
  path = Path(path)
  if path.suffix.lower() not in suffixes:
    raise UserError(f"{flag} {path}: an image ends in {', '.join(suffixes)}.")
  if not path.absolute().parent.is_dir():
    raise UserError(f"{flag} {path}: there is no folder {path.parent}.")
  if path.is_dir():
    raise UserError(f"{flag} {path} is a folder. Give a file in it.")


def disk_problem(error: BaseException) -> str | None:
  """Returns what is wrong with the disk, if that has caused the error; else None."""
  if isinstance(error, OSError) and error.errno in _ERRNOS:
    return error.strerror or str(error)
  # SQLAlchemy's own text quotes the statement, and with it any text that was to be stored.
  message = str(getattr(error, "orig", error))
  return next((text for text in _MESSAGES if text in message), None)


def end_of_log(path: Path) -> str:
  """Returns the last lines that a process has written to its log, for a message.

  Of a process that found no room for a word there are none.
  """
  lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
  if not lines:
    return f"{path} is empty; if the disk is full, make room, and the same command goes on."
  return f"The end of {path}:\n" + "\n".join(f"  {line}" for line in lines)


@contextlib.contextmanager
def disk_errors(place: Path, advice: str) -> Iterator[None]:
  """Turns what a full, unwritable or missing disk raises within the block into a `UserError`.

  Text that no file can hold is one, too.

  Args:
    place: what is being written.
    advice: one sentence: what became of the work so far, and what to do.
  """
  try:
    yield
  except UnicodeEncodeError as error:
    # Half of a surrogate pair, which is also how Python gives bytes of a name that are not UTF-8.
    text = f"{error.object[:100]!r} is no text that {error.encoding} has"
    raise UserError(f"{str(place)!r} cannot be written: {text}. Mend the name.") from error
  except Exception as error:
    problem = disk_problem(error)
    if problem is None and not isinstance(error, OSError):
      raise
    raise UserError(f"{place} cannot be written: {problem or error}. {advice}") from error


class FileLock:
  """A lock that the system releases when its process ends, even if that is killed."""

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
