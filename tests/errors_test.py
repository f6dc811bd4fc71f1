"""How programs end: with one line, whatever happened."""

import subprocess
import sys

import pytest

PROGRAM = """
from official_nasfpn.errors import run_program
def main(argv):
  {statement}
run_program(main)
"""


@pytest.mark.parametrize(
  ("statement", "said"),
  [
    ("bytearray(1 << 62)", "error: This machine has not enough memory left. What was saved is"),
    ("raise MemoryError('5 GiB')", "error: This machine has not enough memory left (5 GiB). What"),
  ],
)
def test_want_of_memory_is_one_line(statement, said):
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM.format(statement=statement)],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  assert done.stderr.startswith(said)
  assert len(done.stderr.splitlines()) == 1
