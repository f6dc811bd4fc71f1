"""What the quickstart refuses, before anything is started or touched."""

import fcntl
import json
import subprocess
import sys

import pytest

from official_nasfpn import quickstart


def run(*arguments, cwd=None):
  return subprocess.run(
    [sys.executable, "-m", "official_nasfpn.quickstart", *map(str, arguments)],
    capture_output=True,
    text=True,
    check=False,
    cwd=cwd,
  )


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--annotations=a.json"], "--annotations and --images belong together"),
    (["--annotations=missing.json", "--images=."], "there is no file"),
    (["--annotations=pyproject.toml", "--images=nowhere"], "there is no folder"),
    (["surplus"], "Unexpected argument 'surplus'"),
  ],
)
def test_bad_arguments_are_one_clear_line(arguments, message, tmp_path):
  result = run(f"--output_dir={tmp_path / 'out'}", *arguments)
  assert result.returncode == 1
  assert message in result.stderr
  assert "Traceback" not in result.stderr
  assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
  (tmp_path / "thesis.tex").write_text("years of work")
  result = run(f"--output_dir={tmp_path}")
  assert result.returncode == 1
  assert "was not made by the quickstart" in result.stderr
  assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_of_another_request_is_refused(tmp_path):
  stored = {"annotations": None, "images": None, "seed": 5}
  (tmp_path / "quickstart.json").write_text(json.dumps(stored))
  result = run(f"--output_dir={tmp_path}", "--seed=6")
  assert result.returncode == 1
  assert "--seed=5, not 6" in result.stderr


def test_two_at_once_are_refused(tmp_path):
  (tmp_path / "quickstart.json").write_text(
    json.dumps({"annotations": None, "images": None, "seed": 0})
  )
  with (tmp_path / "quickstart.lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    result = run(f"--output_dir={tmp_path}")
  assert result.returncode == 1
  assert "Another quickstart is at work" in result.stderr


def test_a_failing_step_stops_the_job_and_says_how_to_go_on(tmp_path):
  (tmp_path / "broken.json").write_text('{"images": []')
  out = tmp_path / "out"
  result = run(
    f"--output_dir={out}", f"--annotations={tmp_path / 'broken.json'}", f"--images={tmp_path}"
  )
  assert result.returncode == 1
  assert "broken.json" in result.stderr
  assert "goes on from there" in result.stderr
  assert not (out / "search").exists()


def test_steps_name_what_shows_that_they_are_done(tmp_path):
  paths = quickstart.Paths(tmp_path)
  steps = quickstart._steps(quickstart.Request(None, None, 0), paths)
  assert [step.program for step in steps] == ["prepare_data", "search", "train", "export", "detect"]
  assert len({step.done for step in steps}) == len(steps)
