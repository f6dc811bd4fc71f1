"""What the quickstart refuses before anything is touched, and a whole one, killed on the way."""

import fcntl
import json
import os
import random
import signal
import time

import pytest
from PIL import Image

from official_nasfpn import architecture, quickstart
from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.data.shapes import ShapesConfig, write_shapes_dataset
from official_nasfpn.errors import UserError
from official_nasfpn.installation import ONEDNN_VARIABLE
from official_nasfpn.search.storage import database_path
from official_nasfpn.search.store.trial_store import TrialStore
from tests.program_process import ProgramProcess

PATIENCE_SECONDS = 400
TINY = (
  "Detector.image_size = (128, 128)",
  "Detector.num_filters = 8",
  "Detector.num_repeats = 1",
  "Training.images_per_epoch = 16",
  "Training.epochs = 2.0",
  "Training.checkpoint_epochs = 0.5",
  "Training.steps_per_loop = 2",
  "Search.num_trials = 3",
  "Search.trials_per_update = 3",
  "Proxy.warmup_epochs = 1.0",
  "Proxy.epochs = 1.0",
)
TITLES = [
  "Prepare the data",
  "Search the pyramid",
  "Train and evaluate the architecture that was found",
  "Export",
  "Detect in the validation images",
]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--images=tests"], "--images needs --annotations"),
    (["--annotations=missing.json", "--images=."], "there is no file"),
    (["--annotations=pyproject.toml", "--images=nowhere"], "there is no folder"),
    (
      ["--annotations=LICENSE", "--images=tests"],
      "annotations must be one of COCO JSON, Pascal VOC",
    ),
    (["surplus"], "Unexpected argument 'surplus'"),
    (["--output_dir=runs/a[1]"], "TensorFlow takes [ in a path for a pattern"),
  ],
)
def test_bad_arguments_are_one_clear_line(arguments, message, tmp_path, run_program):
  result = run_program("quickstart", f"--output_dir={tmp_path / 'out'}", *arguments)
  assert result.returncode == 1
  assert message in result.stderr
  assert "Traceback" not in result.stderr
  assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path, run_program):
  (tmp_path / "thesis.tex").write_text("years of work")
  result = run_program("quickstart", f"--output_dir={tmp_path}")
  assert result.returncode == 1
  assert f"{tmp_path} holds files, but no quickstart" in result.stderr
  assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_of_another_request_is_refused(tmp_path, run_program):
  stored = {"annotations": None, "images": None, "seed": 5, "gin_param": []}
  (tmp_path / "quickstart.json").write_text(json.dumps(stored))
  result = run_program("quickstart", f"--output_dir={tmp_path}", "--seed=6")
  assert result.returncode == 1
  assert "--seed=5, not 6" in result.stderr


def test_a_wrong_binding_claims_no_folder(tmp_path, run_program):
  out = tmp_path / "out"
  result = run_program("quickstart", f"--output_dir={out}", "--gin_param=Trainig.epochs = 2")
  assert result.returncode == 1
  assert "Trainig" in result.stderr
  assert not out.exists()


def test_two_at_once_are_refused(tmp_path, run_program):
  (tmp_path / "quickstart.json").write_text(
    json.dumps({"annotations": None, "images": None, "seed": 0, "gin_param": []})
  )
  with (tmp_path / "quickstart.lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    result = run_program("quickstart", f"--output_dir={tmp_path}")
  assert result.returncode == 1
  assert "Another quickstart is at work" in result.stderr


def test_what_cannot_be_prepared_claims_no_folder(tmp_path, run_program):
  (tmp_path / "broken.json").write_text('{"images": []')
  out = tmp_path / "out"
  result = run_program(
    "quickstart",
    f"--output_dir={out}",
    f"--annotations={tmp_path / 'broken.json'}",
    f"--images={tmp_path}",
  )
  assert result.returncode == 1
  assert "broken.json" in result.stderr
  assert not out.exists()


def test_a_failing_step_stops_the_job_and_says_how_to_go_on(tmp_path, run_program):
  out = tmp_path / "out"
  (out / "data").mkdir(parents=True)
  (out / "data" / "thesis.tex").write_text("years of work")
  request = {"annotations": None, "images": None, "seed": 0, "gin_param": []}
  (out / "quickstart.json").write_text(json.dumps(request))
  result = run_program("quickstart", f"--output_dir={out}")
  assert result.returncode == 1
  assert f"{out / 'data'} holds files, but no prepared dataset" in result.stderr
  assert "goes on from there" in result.stderr
  assert not (out / "search").exists()


def test_steps_name_what_shows_that_they_are_done(tmp_path):
  paths = quickstart.Paths(tmp_path)
  steps = quickstart._steps(quickstart.Request(None, None, 0, []), paths)
  assert [step.title for step in steps] == TITLES
  assert len({step.done for step in steps}) == len(steps)


def test_bindings_of_the_search_are_not_given_to_the_training(tmp_path):
  bindings = [
    "Search.num_trials = 20",
    "Training.epochs = 2",
    "Search.algorithm = @Evolution()",
    "Evolution.population_size = 8",
    "SearchSpace.ops = ('global_pool', 'sum')",
    "Detector.head_num_convs = 1",
    "Reward.cost = 'multiply_adds'",
    "Reward.target = 1e9",
  ]
  request = quickstart.Request(None, None, 3, bindings)
  paths = quickstart.Paths(tmp_path)
  recipe = quickstart._search_recipe(request, paths)
  assert recipe.search.num_trials == 20
  assert recipe.search.seed == recipe.experiment.training.seed == 3
  assert recipe.space.ops == ("global_pool", "sum")
  paths.search.mkdir()
  spec = recipe.space.sample(random.Random(0))
  (paths.search / "best_architecture.gin").write_text(architecture.to_gin(spec))
  experiment = quickstart._final_experiment(request, paths)
  assert experiment.training.epochs == recipe.experiment.training.epochs == 2
  assert experiment.detector.architecture == spec
  assert experiment.detector.head_num_convs == 1
  assert experiment.training.start_from == str(paths.search)


def test_a_binding_is_the_trainings_however_it_is_written(tmp_path):
  binding = "# Shorter.\nSearch.num_trials = 4\n  \nTraining.epochs = 3"
  request, paths = quickstart.Request(None, None, 0, [binding]), quickstart.Paths(tmp_path)
  paths.search.mkdir()
  spec = quickstart._search_recipe(request, paths).space.sample(random.Random(0))
  (paths.search / "best_architecture.gin").write_text(architecture.to_gin(spec))
  assert quickstart._final_experiment(request, paths).training.epochs == 3


def test_a_best_metric_that_the_training_would_refuse_is_refused_before_the_search(tmp_path):
  paths = quickstart.Paths(tmp_path)
  prepare_dataset(paths.data, shapes=ShapesConfig(num_images=12, image_size=64), seed=0)
  request = quickstart.Request(None, None, 0, ["Training.best_metric = 'APl'"])
  with pytest.raises(UserError, match=r"Training\.best_metric = 'APl' is undefined.* no annotated"):
    quickstart._search(request, paths)
  assert not paths.search.exists()


def test_weights_are_those_of_the_search_and_of_the_training(tmp_path):
  request = quickstart.Request(None, None, 0, [], "imagenet")
  paths = quickstart.Paths(tmp_path)
  recipe = quickstart._search_recipe(request, paths)
  paths.search.mkdir()
  spec = recipe.space.sample(random.Random(0))
  (paths.search / "best_architecture.gin").write_text(architecture.to_gin(spec))
  for experiment in (recipe.experiment, quickstart._final_experiment(request, paths)):
    assert experiment.training.backbone_weights == "imagenet"
    assert experiment.detector.backbone == "MobileNetV2"
    assert experiment.training.frozen == ("stem", "group_2", "group_3")


def test_weights_that_do_not_fit_claim_no_folder(tmp_path, run_program):
  out = tmp_path / "out"
  result = run_program(
    "quickstart",
    f"--output_dir={out}",
    "--backbone_weights=imagenet",
    "--gin_param=Detector.backbone = 'R-10'",
  )
  assert result.returncode == 1
  assert "no published weights for Detector.backbone = 'R-10'" in result.stderr
  assert not out.exists()


@pytest.mark.parametrize(("annotations", "side"), [(None, 128), ("a.json", 256)])
def test_photographs_are_seen_larger(tmp_path, annotations, side):
  request = quickstart.Request(annotations, annotations and "images", 0, [])
  recipe = quickstart._search_recipe(request, quickstart.Paths(tmp_path))
  assert recipe.experiment.detector.image_size == (side, side)


def test_latency_is_timed_where_tensorflow_computes_as_it_does_when_it_serves(monkeypatch):
  monkeypatch.setenv(ONEDNN_VARIABLE, "1")
  assert quickstart._without_onednn(os.getenv, ONEDNN_VARIABLE) is None
  assert os.getenv(ONEDNN_VARIABLE) == "1"


@pytest.mark.parametrize("reward", [0.0, 0.25])
def test_an_architecture_is_called_the_best_where_something_was_learnt(tmp_path, capsys, reward):
  summary = {
    "best_architecture": "hash",
    "trial": 1,
    "reward": reward,
    "AP": 0.0,
    "AP50": None,
    "parameters": 1,
    "multiply_adds": 1,
    "latency_ms": 1.0,
  }
  quickstart._show(summary, quickstart.Paths(tmp_path))
  printed = capsys.readouterr().out
  assert ("  best architecture " in printed) == (reward > 0)
  assert ("Nothing was learnt: no trial found an object" in printed) == (reward == 0)


class Job:
  """A quickstart in processes of its own, to be killed or waited for."""

  def __init__(self, folder):
    self.out = folder / "out"
    self._arguments = [
      f"--output_dir={self.out}",
      f"--annotations={folder / 'mine' / 'annotations.json'}",
      f"--images={folder / 'mine' / 'images'}",
      *(f"--gin_param={binding}" for binding in TINY),
    ]

  def _start(self):
    return ProgramProcess("official_nasfpn.quickstart", self._arguments, new_session=True)

  def kill_when(self, is_time):
    """Starts the job and kills all of its processes as soon as `is_time()`."""
    process = self._start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_time():
      assert process.poll() is None, process.stderr
      assert time.monotonic() < deadline, process.stderr
      time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE_SECONDS)

  def finish(self):
    """Starts the job, waits for its end and returns what it printed."""
    process = self._start()
    assert process.wait(PATIENCE_SECONDS) == 0, process.stderr
    return process.stdout


def _states(out):
  """Returns the modification times of the files that show what is done."""
  paths = quickstart.Paths(out)
  steps = quickstart._steps(quickstart.Request("a.json", "images", 0, []), paths)
  return {step.title: step.done.stat().st_mtime_ns for step in steps if step.done.is_file()}


@pytest.mark.minutes
@pytest.mark.slow
def test_a_killed_job_goes_on_and_repeats_nothing_that_was_done(tmp_path):
  (tmp_path / "mine").mkdir()
  write_shapes_dataset(tmp_path / "mine", ShapesConfig(num_images=60, image_size=100), seed=0)
  job = Job(tmp_path)
  out = job.out
  trial = out / "search" / "trials" / "000001"

  job.kill_when((trial / "evaluation.json").is_file)
  after_first = _states(out)
  assert list(after_first) == TITLES[:1]

  job.kill_when(lambda: list((out / "run").glob("checkpoints/ckpt-*.index")))
  after_second = _states(out)
  assert list(after_second) == TITLES[:2]
  checkpoints = {path.name for path in (out / "run" / "checkpoints").glob("*.index")}
  assert "ckpt-8.index" not in checkpoints

  printed = job.finish()
  assert "[1/6] Prepare the data: done before" in printed
  assert "[2/6] Search the pyramid: done before" in printed
  assert "Train and evaluate the architecture that was found: done before" not in printed
  finished = _states(out)
  assert list(finished) == TITLES
  assert after_first.items() <= finished.items()
  assert after_second.items() <= finished.items()

  store = TrialStore(database_path(out / "search"), 120.0, 3)
  trials = store.trials()
  store.close()
  assert [t.state for t in trials] == ["done"] * 3
  _check_summary(out)

  before = (out / "summary.json").read_bytes()
  printed = job.finish()
  assert printed.count("done before") == 6
  assert _states(out) == finished
  assert (out / "summary.json").read_bytes() == before


def _check_summary(out):
  summary = json.loads((out / "summary.json").read_text())
  assert summary["search"]["trial"] in (1, 2, 3)
  assert summary["parameters"] > 10_000
  assert summary["multiply_adds"] > 1_000_000
  assert summary["latency_ms"] > 0
  assert 0 <= summary["AP"] <= summary["AP50"] <= 1
  detected = summary["evaluation_of_saved_model"]["metrics"]
  for name, value in summary["evaluation"]["metrics"].items():
    assert detected[name] == pytest.approx(value, abs=1e-3), name
  for name in ("pictures.jpg", "search/best_architecture.png", "search/reward_curve.png"):
    with Image.open(out / name) as picture:
      assert min(picture.size) > 100, name
  assert (out / "search" / "best_architecture.gin").is_file()
