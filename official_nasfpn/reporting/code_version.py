"""Which code has made a result."""

import subprocess
from pathlib import Path

from official_nasfpn import __version__


def code_version() -> str:
  """Returns the version of this package, with the commit where it runs from a clone."""
  package = Path(__file__).resolve().parents[1]
  try:
    process = subprocess.run(
      ["git", "-C", package, "describe", "--always", "--dirty", "--match", ""],
      capture_output=True,
      text=True,
      check=False,
    )
  except OSError:  # No git here.
    return __version__
  commit = process.stdout.strip()
  return f"{__version__}, commit {commit}" if process.returncode == 0 and commit else __version__
