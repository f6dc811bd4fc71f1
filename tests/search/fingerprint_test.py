"""The fingerprint of the code that a process runs."""

import shutil
import subprocess
import sys
from pathlib import Path

from official_nasfpn.search.fingerprint import code_fingerprint

PACKAGE = Path(__file__).parents[2] / "official_nasfpn"


def _fingerprint_of(root: Path) -> str:
  code = (
    "from official_nasfpn.search.fingerprint import code_fingerprint; print(code_fingerprint())"
  )
  return subprocess.run(
    [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
  ).stdout.strip()


def test_it_depends_on_the_code_alone(tmp_path):
  copy = tmp_path / "elsewhere" / "official_nasfpn"
  shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
  (copy / "notes.txt").write_text("not code")
  assert _fingerprint_of(copy.parent) == code_fingerprint()
  module = copy / "worker.py"
  module.write_text(module.read_text() + "\n# Another line.\n")
  assert _fingerprint_of(copy.parent) != code_fingerprint()
  module.unlink()
  assert _fingerprint_of(copy.parent) != code_fingerprint()
