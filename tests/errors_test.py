"""How programs end: with one line, whatever happened."""

import os
import signal
import subprocess
import sys

import pytest

from tests.program_process import REPOSITORY

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


@pytest.mark.parametrize(
  "arguments",
  [
    ["search", "--gin_file=gin/bccd_search.gin", "--search_dir=LONG"],
    ["train", "--gin_file=gin/finetune.gin", "--data_dir=LONG", "--model_dir=run"],
    ["train", "--gin_file=LONG", "--data_dir=data", "--model_dir=run"],
    ["export", "--model_dir=LONG", "--output_dir=export"],
    ["report", "LONG"],
    ["prepare_data", "--annotations=LONG", "--output_dir=data"],
    ["describe", "--architecture=LONG.gin"],
    ["worker", "--search_dir=LONG"],
  ],
  ids=lambda arguments: " ".join(arguments),
)
def test_a_path_that_the_system_refuses_is_one_line(arguments, tmp_path):
  (tmp_path / "file").write_text("")
  long = str(tmp_path / ("a" * 300))
  done = subprocess.run(
    [sys.executable, "-m", "official_nasfpn", *(each.replace("LONG", long) for each in arguments)],
    cwd=tmp_path,
    env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  assert done.stderr.startswith("error: ")
  assert len(done.stderr.splitlines()) == 1
  assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_no_number_is_refused(run_program):
  done = run_program("detect", "--export_dir=x", "--output_dir=y", "--budget_ms=nan", "a.jpg")
  assert done.returncode == 1
  assert done.stderr == "error: --budget_ms is not a number: give one.\n"


@pytest.mark.parametrize(
  "arguments",
  [
    ["-m", "official_nasfpn", "train", "--help"],
    ["-m", "official_nasfpn", "train", "--list_settings"],
    ["-c", PROGRAM.format(statement="print('few words')")],
  ],
  ids=["help", "many words", "few words"],
)
def test_a_reader_that_has_seen_enough_is_no_fault(arguments):
  command = [sys.executable, *arguments]
  with subprocess.Popen(
    command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  ) as process:
    process.stdout.close()
    assert process.stderr.read() == ""
  assert process.returncode == 128 + signal.SIGPIPE
