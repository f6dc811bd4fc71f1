"""Every block of the README, and of pages that go on from it, is run on tiny data and detectors.

Blocks build on one another, as a reader goes through them. A command is what the README says, with
flags behind it that make it small; what is another program's, or needs what tests do not have, has
its own line in `run_command`.
"""

import contextlib
import functools
import io
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from official_nasfpn.architecture import from_gin
from official_nasfpn.data.shapes import ShapesConfig, write_shapes_dataset
from tests.program_process import REPOSITORY, ProgramProcess
from tests.quickstart_test import TINY as TINY_QUICKSTART
from tests.search.store.postgres_server import PostgresServer

PATIENCE = 400
# Its two workers; each imports TensorFlow, which takes seconds.
PROCESSES_OF_THE_QUICKSTART = 2
CONTINUED = ("export_and_serve", "stop_early", "papers_models")


def blocks_of(page: Path) -> list[tuple[str, str]]:
  """Returns the language and the text of each block of code on a page."""
  text = page.read_text(encoding="utf-8")
  return re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


# The pages of docs/ begin with what the README's commands have made.
PAGES = ("README.md", *(f"docs/tutorials/{name}.md" for name in CONTINUED))
BLOCKS = [block for page in PAGES for block in blocks_of(REPOSITORY / page)]

_DETECTOR = (
  "Detector.backbone = 'R-10'",
  "Detector.backbone_width = 0.25",
  "Detector.num_filters = 8",
  "Detector.head_num_convs = 0",
  "Detector.image_size = (128, 128)",
  "Detector.norm_momentum = 0.9",
  # After so little training scores are low.
  "Detector.score_threshold = 0.0001",
  "Training.images_per_epoch = 8",
  "Training.batch_size = 4",
  "Training.epochs = 1.0",
  "Training.warmup_epochs = 0.1",
  "Training.evaluation_batch_size = 4",
)
_TINY = {
  "search": (
    *_DETECTOR,
    "Detector.num_repeats = 1",
    "Search.num_trials = 2",
    "Search.trials_per_update = 2",
    "Proxy.warmup_epochs = 1.0",
    "Proxy.epochs = 1.0",
  ),
  "train": (*_DETECTOR, "Detector.num_repeats = 2"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  """A folder with what the README's reader has: annotated images, and photos."""
  folder = tmp_path_factory.mktemp("a reader's home")
  for name, number in (("train", 16), ("val", 6)):
    (folder / "made" / name).mkdir(parents=True)
    write_shapes_dataset(folder / "made" / name, ShapesConfig(number, 96), seed=number)
    (folder / "made" / name / "images").rename(folder / name)
    (folder / "made" / name / "annotations.json").rename(folder / f"{name}.json")
  shutil.copytree(folder / "val", folder / "photos")
  shutil.copy(min((folder / "val").iterdir()), folder / "photo.jpg")
  shutil.copy(folder / "val.json", folder / "instances_train.json")
  return folder


@pytest.fixture(scope="module")
def running():
  """Programs that go on until the end of these tests, by name."""
  processes = {}
  yield processes
  for process in processes.values():
    process.kill()


@pytest.fixture(scope="module")
def store_url():
  """The URL of an empty database."""
  server = PostgresServer()
  yield server.new_database()
  server.close()


def commands_of(block: str) -> list[list[str]]:
  """Returns the words of each command line, lines that go on with a backslash joined."""
  lines = block.replace("\\\n", " ").splitlines()
  return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.mark.slow
@pytest.mark.parametrize(
  ("language", "block"),
  BLOCKS,
  ids=[f"{number:02}-{block.split(chr(10))[0][:40]}" for number, (_, block) in enumerate(BLOCKS)],
)
def test_a_block_does_what_it_is_there_for(language, block, home, running, request, monkeypatch):
  monkeypatch.chdir(home)
  if language == "python":
    # Workers find the package there when it is not installed.
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    _run_python(block, running)
    return
  assert language == "bash", f"say here how a block of {language} is run"
  for words in commands_of(block):
    run_command(words, home, running, request)


def run_command(words, home, running, request):
  """Runs one command line as far as it can be run here, and checks what it leaves."""
  match words:
    case ["./scripts/quickstart.sh"]:
      bindings = (*TINY_QUICKSTART, "Search.num_trials = 2", "Search.trials_per_update = 2")
      arguments = [*_bindings(bindings), "--output_dir=quickstart"]
      process = _start("quickstart", arguments, home)
      started = _children_until_its_end(process)
      assert "Done in" in _finish(process)
      assert (home / "quickstart" / "pictures.jpg").is_file()
      record_property = request.getfixturevalue("record_property")
      record_property("counted: processes that the quickstart starts", len(started))
      assert len(started) == PROCESSES_OF_THE_QUICKSTART, started
    case ["./scripts/quickstart.sh", *flags]:
      # What it does then stands in quickstart_test.py; here it begins.
      process = _start("quickstart", flags, home)
      _wait_for((home / "runs" / "mine" / "data" / "dataset.json").is_file, process)
      os.killpg(process.pid, 9)
    case ["nasfpn", "quickstart", *flags]:
      # As the first one does, which was run to its end.
      process = _start("quickstart", flags or ["--output_dir=installed"], home)
      _wait_for(lambda: "[1/6] Prepare the data" in process.stdout, process)
      os.killpg(process.pid, 9)
    case ["./scripts/test.sh"]:
      command = [sys.executable, "-m", "pytest", "-q", "tests/progress_test.py"]
      subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    case ["pip", "install", "."]:
      # wheel_test.py does it, and uses what was installed.
      assert (REPOSITORY / "pyproject.toml").is_file()
    case ["tensorboard", *flags]:
      _check_tensorboard(flags, home)
    case ["docker", "run", *_]:
      _check_docker(words, home)
    case ["nasfpn", "serve", *flags]:
      running["serve"] = _start("serve", [*flags, "--port=0"], home)
      _wait_for(lambda: _served_at(running), running["serve"])
    case ["nasfpn", "search" | "worker" as name, *flags] if "--store" in flags:
      _run_elsewhere(name, flags, home, running, request)
    case ["nasfpn", name, *flags]:
      _finish(_start(name, [*flags, *_bindings(_TINY.get(name, ()))], home))
      _check_files(flags, home)
    case _:
      pytest.fail(f"say here how {shlex.join(words)!r} is run")


def _bindings(settings):
  return [f"--gin_param={binding}" for binding in settings]


def _start(name, arguments, home):
  # Nested programs find the package there when it is not installed.
  environment = {"PYTHONPATH": str(REPOSITORY)}
  return ProgramProcess("official_nasfpn", [name, *arguments], home, environment, new_session=True)


def _finish(process):
  assert process.wait(PATIENCE) == 0, process.stderr
  return process.stdout


def _children_until_its_end(process):
  """Waits for the end of a program; returns the command lines of programs that it has started."""
  started = {}
  while process.poll() is None:
    for child in _children(process.pid):
      with contextlib.suppress(OSError):
        command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        # A fork has its parent's command line before it has its own, and none when it has ended.
        started[child] = command or started.get(child, "")
    time.sleep(0.1)
  return [command for command in started.values() if " -m official_nasfpn." in command]


def _children(pid):
  """Returns the processes that a process has started and that still run, with their own."""
  children = []
  with contextlib.suppress(OSError):
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
      children += file.read_text().split()
  return [*children, *(each for child in children for each in _children(child))]


def _wait_for(is_time, process):
  deadline = time.monotonic() + PATIENCE
  while not is_time():
    assert process.poll() is None, process.stderr
    assert time.monotonic() < deadline, process.stderr
    time.sleep(0.1)


def _check_files(flags, home):
  """Checks that what a program was told to write is there."""
  for flag, value in itertools.pairwise(flags):
    if flag in ("--output_dir", "--model_dir", "--search_dir"):
      assert any((home / value).iterdir()), value
    elif flag in ("--output", "--diagram", "--preview"):
      assert (home / value).is_file(), value


def _run_elsewhere(name, flags, home, running, request):
  """Runs a search that waits for workers, or a worker of it: with another database and recipe."""
  url = request.getfixturevalue("store_url")
  flags = [{"RECIPE": "gin/quickstart_search.gin"}.get(flag, flag) for flag in flags]
  flags[flags.index("--store") + 1] = url
  if name == "search":
    settings = (*_TINY["search"], "Search.num_trials = 1", "Input.data_dir = 'data/cells'")
    flags[flags.index("--search_dir") + 1] = "runs elsewhere"
    running["search"] = _start(name, [*flags, *_bindings(settings)], home)
    _wait_for(lambda: "nasfpn worker" in running["search"].stderr, running["search"])
    return
  running["worker"] = _start(name, flags, home)
  _finish(running.pop("search"))
  # The search might get more trials.
  assert running["worker"].poll() is None
  running.pop("worker").kill()
  assert (home / "runs elsewhere" / "best_architecture.gin").is_file()


def _check_tensorboard(flags, home):
  command = [sys.executable, "-m", "tensorboard.main", *flags, "--port=0"]
  with subprocess.Popen(command, cwd=home, stderr=subprocess.PIPE, text=True) as process:
    try:
      lines = iter(process.stderr.readline, "")
      address = next(found[1] for line in lines if (found := re.search(r"(http://\S+/) \(", line)))
      read = functools.partial(urllib.request.urlopen, timeout=60)
      runs = []
      while not {"train", "validation"} <= set(runs):
        runs = json.load(read(f"{address}data/runs"))
        time.sleep(0.1)
    finally:
      process.kill()


def _check_docker(words, home):
  """Checks that what is given to TensorFlow Serving is there; Docker itself is not, in tests."""
  folder, _, name = words[words.index("-v") + 1].partition(":/models/")
  assert (Path(folder.replace("$PWD", str(home))) / "1" / "saved_model.pb").is_file()
  assert words[words.index("-e") + 1] == f"MODEL_NAME={name}"


def _served_at(running):
  """Returns the URL of the model that `nasfpn serve` has printed, or None."""
  found = re.search(r"http://\S+/v1/models/\w+", running["serve"].stdout)
  return found and found[0]


def _run_python(block, running):
  """Runs an example, small: on tiny detectors, or on features of small images."""
  levels = {
    f"c{level}": np.zeros([1, 2 ** (7 - level), 2 ** (7 - level), 8], np.float32)
    for level in (3, 4, 5)
  }
  block = re.sub(r"http://localhost:8501/v1/models/\w+", lambda _: _served_at(running), block)
  for name in ("search", "train"):
    recipe = {"search": "quickstart_search", "train": "quickstart"}[name]
    files = f'"gin/{recipe}.gin", photographs], '
    block = block.replace(f"{files}data", f"{files}[*data, *{_TINY[name]}]")
  names = {"__name__": "__main__", **levels}
  with contextlib.redirect_stdout(io.StringIO()) as printed:
    exec(compile(block, "a page", "exec"), names)
  if "DetectionClient" in block:
    found = [line for line in printed.getvalue().splitlines() if line.startswith("photos/")]
    assert len(found) == len(os.listdir("photos"))
  elif "Search(" in block:
    assert names["run"].evaluation.num_images == names["dataset"].num_images["val"]
    assert names["experiment"].detector.architecture in [
      from_gin(trial.architecture) for trial in names["search"].trials()
    ]
    assert len(printed.getvalue().splitlines()) >= 1
  elif "Detector(" in block:
    assert len(printed.getvalue().splitlines()) == len(names["detections"])
    assert Path("photo_with_boxes.png").is_file()
  else:
    assert [sorted(levels) for levels in names["exits"]] == [["3", "4", "5", "6", "7"]] * 7
