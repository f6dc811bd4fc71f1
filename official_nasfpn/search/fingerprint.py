"""Which code a process runs, so that machines of one search can tell whether they agree."""

import functools
import hashlib
from pathlib import Path


@functools.cache
def code_fingerprint() -> str:
  """Returns a short name of this package's Python files, by their contents; git is not needed.

  Files may be edited while a process runs: it names those of the first call, so make that early.
  """
  package = Path(__file__).resolve().parents[1]
  digest = hashlib.sha256()
  for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix()):
    digest.update(f"{path.relative_to(package).as_posix()}\n".encode())
    digest.update(hashlib.sha256(path.read_bytes()).digest())
  return digest.hexdigest()[:12]
