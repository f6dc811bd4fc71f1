"""`python -m benchmarks.run` on its cheapest row, and the README's table."""

import json
import os
import pickle
import signal
import time
from pathlib import Path

import pytest

from benchmarks.peer_comparison import results
from benchmarks.peer_comparison.measuring import Round, Settings, Side
from benchmarks.peer_comparison.rows import ROWS
from benchmarks.run import with_table
from official_nasfpn.errors import UserError
from tests.program_process import REPOSITORY, ProgramProcess

SMALL = ("--metric_images=10", "--pairs=2", "--cores=1")
PATIENCE = 200


def places(work_dir):
  files = {"output": "measured.json", "history": "history.jsonl"}
  return (
    f"--work_dir={work_dir}",
    *(f"--{flag}={work_dir / file}" for flag, file in files.items()),
  )


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory):
  return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture(scope="module")
def measured(work_dir, run_program):
  finished = run_program("run", "--only=metrics", *SMALL, *places(work_dir), package="benchmarks")
  assert finished.returncode == 0, finished.stderr
  return finished, json.loads((work_dir / "measured.json").read_text())


def test_a_row_has_both_sides_and_the_ratio_of_every_pair(measured):
  row = measured[1]["rows"]["metrics"]
  ours, peer = row["ours"]["values"], row["peer"]["values"]
  assert len(ours) == len(peer) == 2
  assert min(ours + peer) > 0
  ratios = [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
  assert row["ratio"]["values"] == pytest.approx(ratios)
  low, high = row["ratio"]["quartiles"]
  assert row["ratio"]["min"] <= low <= row["ratio"]["median"] <= high
  # Both sides have measured the same thing.
  assert row["ours"]["also"]["AP"] == pytest.approx(row["peer"]["also"]["AP"], abs=1e-12)


def test_the_run_says_machine_versions_and_settings(measured, work_dir):
  entry = measured[1]
  assert entry["machine"]["cores"] == 1
  assert entry["machine"]["versions"]["tensorflow"].startswith("2.20")
  assert entry["settings"] == {"pairs": 2, "train_steps": 800, "metric_images": 10}
  # Two pairs are a first look.
  assert not (work_dir / "history.jsonl").exists()


def test_the_table_is_printed(measured):
  finished, entry = measured
  assert results.table(entry) in finished.stdout
  assert "| COCO metrics of 10 images x 100 detections, against pycocotools |" in finished.stdout


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["--only=metric"], "there is no such row. Did you mean metrics?"),
    (["--only=metrics", *SMALL, "--pairs=3"], "holds rows of another settings"),
    (["--only=metrics", "--cores=100000"], "may use"),
  ],
)
def test_what_cannot_be_done_is_said(arguments, said, measured, work_dir, run_program):
  finished = run_program("run", *arguments, *places(work_dir), package="benchmarks")
  assert finished.returncode == 1
  assert said in finished.stderr
  assert finished.stderr.startswith("error: ")


def test_an_interrupt_leaves_what_was_measured_and_no_process(measured, work_dir):
  before = (work_dir / "measured.json").read_text()
  process = ProgramProcess("benchmarks.run", [*SMALL, *places(work_dir)])
  deadline = time.monotonic() + PATIENCE
  while not _processes_in(work_dir / "data"):
    assert process.poll() is None, process.stderr
    assert time.monotonic() < deadline, process.stderr
    time.sleep(0.1)
  os.kill(process.pid, signal.SIGINT)
  assert process.wait(PATIENCE) == 1
  assert "The same command goes on" in process.stderr
  assert results.table(measured[1]) in process.stdout
  assert (work_dir / "measured.json").read_text() == before
  assert not _processes_in(work_dir)


def _processes_in(folder):
  """Returns the processes that have a path in a folder on their command line."""
  found = []
  for file in Path("/proc").glob("[0-9]*/cmdline"):
    try:
      if f"={folder}".encode() in file.read_bytes():
        found.append(file)
    except OSError:  # It has ended.
      continue
  return found


def test_a_side_that_fails_is_named_with_its_log(tmp_path):
  log = tmp_path / "side.txt"
  # Anything that raises.
  with pytest.raises(UserError, match=r"TypeError.*All that it said is in") as raised:
    Side(json.loads, Settings(tmp_path, 1, 1), log)
  assert str(log) in str(raised.value)
  assert "Traceback" in log.read_text()


def test_rows_can_be_sent_to_processes_and_have_a_name_each():
  names = [row.name for row in ROWS]
  assert len(set(names)) == len(names)
  settings = Settings(Path("work"), 1, 1)
  for row in ROWS:
    pickle.dumps((row.ours, row.peer))
    assert "{" not in row.title.format(**vars(settings))


def test_runs_are_kept_and_the_last_measurement_of_every_row_is_shown(tmp_path):
  row = next(row for row in ROWS if row.name == "memory")
  settings = Settings(tmp_path, 1, 1)
  entry = results.new_entry("model_garden", settings, 3)
  rounds = [[Round(value * 1e6) for value in values] for values in ((1, 2, 6), (4, 4, 8))]
  entry["rows"]["memory"] = results.row_entry(row, settings, "abc", *rounds)
  elsewhere = {**entry, "machine": {**entry["machine"], "cores": 64}}
  export = {**entry["rows"]["memory"], "title": "export", "commit": "def"}
  older = {**entry, "rows": {"memory": {**export, "title": "older"}, "export": export}}
  history = tmp_path / "history.jsonl"
  for each in (elsewhere, older, entry):
    results.add_to_history(history, each)
  assert results.read_history(history) == [elsewhere, older, entry]
  page = "a\n<!-- benchmarks -->\nold\n<!-- end of benchmarks -->\nb\n"
  shown = with_table(page, results.read_history(history))
  assert "| peak memory of training | 2 MB | 4 MB | 0.50 | 0.38 to 0.62 | 0.6 |" in shown
  assert "old" not in shown
  assert shown.index("| export |") < shown.index("| peak memory of training |")
  assert "Measured at def, abc." in shown
  assert shown == with_table(shown, results.read_history(history))


def test_the_readme_shows_the_last_run():
  text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
  history = results.read_history(REPOSITORY / "benchmarks" / "history.jsonl")
  assert text.count("<!-- benchmarks -->\n") == text.count("<!-- end of benchmarks -->\n") == 1
  assert with_table(text, history) == text
