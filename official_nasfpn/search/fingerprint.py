"""The fingerprint of a process's code, by which the machines of a search check that they agree."""

import functools
import hashlib
from pathlib import Path


@functools.cache
def code_fingerprint() -> str:
  """Returns a hash of this package's Python files, paths and contents, as 12 hex digits.

  The files are read at the first call. They may be edited while a process runs, so call it early.
  """
  package = Path(__file__).resolve().parents[1]
  hasher = hashlib.sha256()
  for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix()):
    hasher.update(f"{path.relative_to(package).as_posix()}\n".encode())
    hasher.update(hashlib.sha256(path.read_bytes()).digest())
  return hasher.hexdigest()[:12]
