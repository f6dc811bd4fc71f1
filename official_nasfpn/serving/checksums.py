"""SHA-256 sums of the files of an export, in a file that `sha256sum -c` reads, too.

They tell a copy that was damaged or cut off. They do not tell who made an export: whoever changes
a file can write its sum anew. `nasfpn export` prints the sum of `SHA256SUMS` itself, which may be
sent by another way.
"""

import hashlib
import re
from pathlib import Path

from official_nasfpn.errors import UserError

SUMS_FILE = "SHA256SUMS"
# What is read with a model. A person or a server may add other files, as in assets.extra.
_LOADED = re.compile(r"saved_model\.|model\.|variables/|assets/")
_LINE = re.compile(r"(?P<sum>[0-9a-f]{64}) [ *](?P<name>[^\\\x00]+)")


def write_checksums(folder: Path) -> None:
  """Writes the sums of all files in the folder of a model, and of those below it."""
  names = sorted(_names(folder))
  lines = [f"{sha256_of(folder / name)}  {name}\n" for name in names]
  (folder / SUMS_FILE).write_text("".join(lines), encoding="utf-8")


def check_files(folder: Path) -> None:
  """Compares the files of a model with their sums; one that has no sums is not compared.

  Args:
    folder: of the model, as `write_checksums` had it.

  Raises:
    UserError: a file differs, is missing, cannot be read or has been added, or the sums are
      damaged.
  """
  if not (folder / SUMS_FILE).is_file():
    return  # An export of an earlier version.
  try:
    problem = _difference(folder)
  except (OSError, UnicodeDecodeError) as error:
    problem = f"a file cannot be read: {getattr(error, 'strerror', None) or error}"
  if problem:
    raise UserError(
      f"The export {folder} is damaged: {problem}. Copy or export it again; if you have changed it "
      f"yourself, delete its {SUMS_FILE}."
    )


def sha256_of(path: Path) -> str:
  """Returns the SHA-256 of a file in hexadecimal digits."""
  digest = hashlib.sha256()
  with path.open("rb") as file:
    while piece := file.read(1 << 20):
      digest.update(piece)
  return digest.hexdigest()


def _difference(folder: Path) -> str | None:
  """Returns what differs from the sums, in words."""
  listed: set[str] = set()
  for line in (folder / SUMS_FILE).read_text(encoding="utf-8").splitlines():
    row = _LINE.fullmatch(line)
    # A stranger's sums have no business with files elsewhere.
    if not row or row["name"].startswith("/") or ".." in row["name"].split("/"):
      return f"{SUMS_FILE} is no list of sums, at {line[:80]!r}"
    name = row["name"]
    listed.add(name)
    if not (folder / name).is_file():
      return f"{name} is missing, which {SUMS_FILE} lists"
    if sha256_of(folder / name) != row["sum"]:
      return f"{name} is not what was exported, by the sums in {SUMS_FILE}"
  added = sorted(name for name in _names(folder) - listed if _LOADED.match(name))
  return f"{added[0]} is not listed in {SUMS_FILE}" if added else None


def _names(folder: Path) -> set[str]:
  paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
  return {path for path in paths if path != SUMS_FILE}
