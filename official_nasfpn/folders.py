"""Folders that belong to one job: claimed before it starts, or written whole; never overwritten.

A file of the folder, the marker, shows which job it belongs to. What two jobs have to have in
common differs from job to job, so callers compare the marker's content themselves.
"""

import contextlib
import errno
import fcntl
import glob
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from official_nasfpn.disk import disk_errors, write_text
from official_nasfpn.errors import UserError

# At the root of every new volume.
_OF_FILE_SYSTEM = "lost+found"


def content(folder: Path) -> list[Path]:
  """Returns what a folder holds, in no order.

  Hidden files do not count: they are locks, or were left by a process that was killed. Nor does
  what a file system has at its root.
  """
  return [path for path in folder.iterdir() if path.name[0] != "." and path.name != _OF_FILE_SYSTEM]


def is_claimed(folder: Path, marker: str, kind: str, flag: str) -> bool:
  """Returns whether a folder holds its marker already; writes nothing.

  Args:
    folder: need not exist.
    marker: name of the file that shows what the folder belongs to.
    kind: what the folder should hold, as in "search".
    flag: the option that names the folder, as in "--search_dir".

  Raises:
    UserError: the folder holds other files only, is a file, or cannot be read.
  """
  with disk_errors(folder, f"Mend its permissions or give {flag} a new folder."):
    if folder.exists() and not folder.is_dir():
      raise UserError(f"{folder} is a file. Give {flag} a new folder.")
    # Looked at first: another process may be writing the marker.
    holds_files = folder.is_dir() and bool(content(folder))
    if (folder / marker).is_file():
      return True
    if holds_files:
      raise UserError(f"{folder} holds files, but no {kind}. Give {flag} a new folder.")
    return False


def claim(folder: Path, marker: str, text: str, kind: str, flag: str) -> bool:
  """Claims a folder by writing its marker, unless it is claimed already.

  Of several processes that claim a folder at the same time one succeeds. A process that is killed
  leaves the marker whole or none.

  Args:
    folder: need not exist.
    marker: name of the file that shows what the folder belongs to.
    text: its content.
    kind: what the folder will hold, as in "search".
    flag: the option that names the folder, as in "--search_dir".

  Returns:
    False if the folder was claimed before; whether by the same job is for the caller to compare.

  Raises:
    UserError: the folder holds other files only, is a file, or cannot be written.
  """
  if is_claimed(folder, marker, kind, flag):
    return False
  with disk_errors(folder, f"Make room, mend its permissions or give {flag} another folder."):
    folder.resolve().mkdir(parents=True, exist_ok=True)
    with _lock(folder, wait=True):
      # Another process may have been faster.
      if is_claimed(folder, marker, kind, flag):
        return False
      write_text(folder / marker, text)
  return True


@contextlib.contextmanager
def whole_folder(
  folder: Path, flag: str, beside: Path | None = None, resume_key: str | None = None
) -> Iterator[Path]:
  """Yields a folder to fill, which becomes `folder` in one move when the block ends.

  It is empty, unless `resume_key` says otherwise. It is removed if the block fails. If the process
  is killed, the next call for the same folder removes it; no other process does while it is being
  filled.

  A folder that a disk is mounted at cannot be replaced, nor can anything be moved into it from
  another disk. What is below it is made on its disk; into the folder itself each file is moved for
  itself when the block ends, in the order in which they were written.

  Args:
    folder: what to make; must not exist, or be empty.
    flag: the option that names the folder, as in "--output_dir".
    beside: the unfinished folder lies beside this one, unless that is on another disk than
      `folder`; default: `folder`.
    resume_key: letters and digits that say what is being made. What a block of the same key has
      left, interrupted or killed, is yielded again. None keeps nothing of an interrupted block.

  Raises:
    UserError: `folder` holds files, at the start or at the end, or the disk is full or cannot be
      written.
  """
  # A link to an empty folder could not be replaced by a folder.
  target = folder.resolve()
  beside = beside.resolve() if beside else target
  advice = f"Nothing was kept. Make room, mend its permissions or give {flag} another folder."
  not_empty = UserError(
    f"{folder} is not an empty folder; hidden files count, too. Give {flag} a new folder."
  )
  with disk_errors(folder, advice), contextlib.ExitStack() as stack:
    prefix = f".{beside.name}.partial-"
    if target.is_file() or (target.is_dir() and not _is_empty(target, prefix)):
      raise not_empty
    place = _place(target, beside)
    place.mkdir(parents=True, exist_ok=True)
    with _lock(place, wait=True):
      resumed = f"{prefix}{resume_key}-" if resume_key else None
      unfinished = _take_abandoned(place, prefix, resumed, stack)
      if unfinished is None:
        unfinished = place / ((resumed or prefix) + secrets.token_hex(4))
        unfinished.mkdir()
        stack.enter_context(_lock(unfinished, wait=False))
    try:
      yield unfinished
      if place == target:
        with _lock(target, wait=True):
          if not _is_empty(target, prefix):
            raise not_empty
          _move_content(unfinished, target)
      else:
        target.parent.mkdir(exist_ok=True)
        try:
          unfinished.rename(target)
        except OSError as error:
          if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise not_empty from error
          raise
    except BaseException as error:
      if isinstance(error, Exception) or not resume_key:
        shutil.rmtree(unfinished, ignore_errors=True)
      raise


def _is_empty(folder: Path, prefix: str) -> bool:
  """Returns whether a folder holds nothing, but for unfinished folders, whose names begin so."""
  return all(
    path.name.startswith(prefix) or path.name == _OF_FILE_SYSTEM for path in folder.iterdir()
  )


def _place(target: Path, beside: Path) -> Path:
  """Returns the folder for an unfinished folder: on the disk on which it will stay."""
  disk = _mount_point(target)
  if disk == target:
    return target
  return beside.parent if _mount_point(beside.parent) == disk else target.parent


def _mount_point(path: Path) -> Path:
  """Returns the folder at which the disk of a path, which need not exist, is mounted."""
  mounted = _listed_mounts()
  return next(
    folder for folder in (path, *path.parents) if str(folder) in mounted or os.path.ismount(folder)
  )


def _listed_mounts() -> set[str]:
  """Returns the mount points that Linux lists; elsewhere none.

  Of a folder that is mounted at another folder of the same disk, as containers do it, nothing else
  tells.
  """
  try:
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
  except OSError:
    return set()
  # A space in a name is `\040`.
  names = (re.sub(rb"\\([0-7]{3})", _octal, line.split(b" ")[4]) for line in lines)
  return {os.fsdecode(name) for name in names}


def _octal(digits: re.Match[bytes]) -> bytes:
  return bytes([int(digits[1], 8)])


def _move_content(source: Path, target: Path) -> None:
  # What says that a folder is whole is written last; who is killed here has left it out.
  for path in sorted(source.iterdir(), key=lambda path: path.stat().st_mtime_ns):
    path.rename(target / path.name)
  source.rmdir()


def _take_abandoned(
  parent: Path, prefix: str, resumed: str | None, stack: contextlib.ExitStack
) -> Path | None:
  """Removes unfinished folders that no process has locked: theirs was killed.

  Args:
    parent: where they lie.
    prefix: of their names.
    resumed: one whose name starts so is kept.
    stack: gets the lock of the one that is kept.

  Returns:
    The folder that is kept, if there is one.
  """
  kept = None
  for path in sorted(parent.glob(glob.escape(prefix) + "*")):
    # One that has just been finished is not there any more.
    with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as lock:
      if not lock.enter_context(_lock(path, wait=False)):
        continue
      if resumed and kept is None and path.name.startswith(resumed):
        kept = path
        stack.push(lock.pop_all())
      else:
        shutil.rmtree(path, ignore_errors=True)
  return kept


@contextlib.contextmanager
def _lock(folder: Path, wait: bool) -> Iterator[bool]:
  """Locks a folder itself, so that no lock file stays in it.

  Yields False if another process has the lock, or the file system has none for folders.
  """
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    locked = True
  except OSError:
    locked = False
  try:
    yield locked
  finally:
    os.close(descriptor)
