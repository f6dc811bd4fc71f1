"""Which code has made a result."""

import subprocess
from pathlib import Path

from official_nasfpn import __version__


def code_version() -> str:
  """Returns the version of this package, with the commit where it runs from a clone."""
  clone = Path(__file__).resolve().parents[2]
  # An environment within somebody else's repository is none of our commits.
  if _git(clone, "rev-parse", "--show-prefix") != "":
    return __version__
  commit = _git(clone, "describe", "--always", "--dirty", "--match", "")
  return f"{__version__}, commit {commit}" if commit else __version__


def _git(folder: Path, *arguments: str) -> str | None:
  """Returns what git prints of a folder; None where it fails, or is not here."""
  try:
    process = subprocess.run(
      ["git", "-C", folder, *arguments], capture_output=True, text=True, check=False
    )
  except OSError:
    return None
  return process.stdout.strip() if process.returncode == 0 else None
