"""The train program: what it says to bad input, on its way, and to a full disk."""

import json
import shlex

import pytest
from PIL import Image

from tests.program_process import REPOSITORY

TINY = """
Detector.backbone = 'R-10'
Detector.architecture = 'fpn'
Detector.num_filters = 16
Detector.num_repeats = 1
Detector.head_num_convs = 1
Detector.image_size = (128, 128)
Training.batch_size = 2
Training.epochs = 0.1
"""


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "Give a recipe with --gin_file"),
    (["--gin_file=missing.gin"], "There is no gin file 'missing.gin'"),
    (["--gin_file=gin/quickstart.gin"], "No data: give --data_dir"),
    (["--gin_file=gin/quickstart.gin", "--data_dir=tests"], "tests' holds no prepared dataset"),
    (
      ["--gin_file=gin/quickstart.gin", "--data_dir=missing"],
      "missing' holds no prepared dataset (no such folder). Make it with `nasfpn prepare ",
    ),
    (
      ["--gin_file=gin/quickstart.gin", "--gin_param=Detector.num_filter = 3"],
      "Did you mean Detector.num_filters?",
    ),
    (
      ["--gin_file=gin/quickstart.gin", "--gin_param=Trainig.epochs = 3"],
      "Did you mean Training?",
    ),
    (["--gin_file=gin/quickstart.gin", "--gin_param=Training.epochs = "], "Training.epochs"),
    (["--gin_file=gin/quickstart.gin", "--gin_param=import os"], "cannot import"),
    (
      ["--gin_file=gin/quickstart.gin", "--gin_param=Detector.image_size = (300, 300)"],
      "256 and 384",
    ),
    (
      ["--gin_file=gin/quickstart.gin", "--gin_param=Detector.architecture = 'nasfpn'"],
      "nas_fpn",
    ),
    (["--gin_file=gin/quickstart.gin", "surplus"], "Unexpected argument 'surplus'"),
    (["--mode=evaluate", "--gin_file=gin/quickstart.gin"], "No data"),
    (["--find_learning_rate", "--figure=lr.xyz"], "lr.xyz: an image ends in .png, .svg, .pdf"),
    (["--find_learning_rate", "--figure=nowhere/lr.png"], "there is no folder nowhere"),
    (["--figure=lr.png"], "--figure is the curve of --find_learning_rate: give both"),
    (["--find_learning_rate", "--distribution_strategy=mirrored"], "leave --distribution_strategy"),
    (["--find_learning_rate", "--tpu=local"], "runs on one device: leave --tpu out"),
    (["--preview=a.jpg", "--distribution_strategy=mirrored"], "--preview runs on one device"),
    (["--find_learning_rate", "--dry_run"], "--dry_run and --find_learning_rate are two jobs"),
    (["--store=sqlite:///a.db"], "--store is where the trials of --architecture SEARCH_DIR are"),
  ],
)
def test_bad_input_is_one_clear_line(arguments, message, tmp_path, run_program):
  result = run_program("train", f"--model_dir={tmp_path / 'run'}", *arguments)
  assert result.returncode == 1
  assert message in result.stderr
  assert "Traceback" not in result.stderr
  assert not (tmp_path / "run").exists()


@pytest.fixture
def arguments(shapes_data, tmp_path):
  """Returns the flags of a tiny training into tmp_path/run."""
  recipe = tmp_path / "tiny.gin"
  recipe.write_text(TINY)
  return [f"--gin_file={recipe}", f"--data_dir={shapes_data}", f"--model_dir={tmp_path / 'run'}"]


def test_a_dry_run_prints_the_plan_and_writes_nothing(arguments, tmp_path, run_program):
  result = run_program("train", *arguments[:2], "--dry_run", "--gin_param=Training.epochs = 50")
  assert result.returncode == 0, result.stderr
  lines = dict(line.split("  ", 1) for line in result.stdout.splitlines()[:6] if "  " in line)
  assert lines["model"].strip() == "R-10, 1 @ 16 at 128 x 128 pixels, 4 classes"
  assert lines["data"].strip() == "38 images to train on, 10 to evaluate on"
  # 38 images 50 times, 2 at a time; rates are stated for batches of 64.
  assert lines["steps"].strip() == "950 of 2 images, 50 epochs"
  rates = [line.split()[2::3] for line in result.stdout.splitlines() if "learning rate" in line]
  assert rates == [
    ["0.000209", "0"], ["0.0025", "19"], ["0.00025", "571"], ["2.5e-05", "761"], ["2.5e-05", "949"]
  ]  # fmt: skip
  assert "nothing was trained and nothing written" in result.stdout
  assert [path.name for path in tmp_path.iterdir()] == ["tiny.gin"]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--dry_run"], "Give a recipe with --gin_file"),
    (["--gin_file=gin/quickstart.gin"], "--model_dir is needed, unless with --dry_run"),
    (
      ["--gin_file=gin/quickstart.gin", "--gin_param=Training.drop_block_rate = 1", "--dry_run"],
      "Training.drop_block_rate = 1: input should be less than 1",
    ),
  ],
)
def test_what_a_dry_run_needs(arguments, message, run_program):
  result = run_program("train", *arguments)
  assert result.returncode == 1
  assert message in result.stderr
  assert "Traceback" not in result.stderr


def test_a_dry_run_without_data_assumes_that_of_coco(tmp_path, run_program):
  recipe = tmp_path / "tiny.gin"
  recipe.write_text(TINY)
  result = run_program("train", f"--gin_file={recipe}", "--dry_run", "--data_dir=data/missing")
  assert result.returncode == 0, result.stderr
  lines = [line.split(None, 1) for line in result.stdout.splitlines()]
  printed = {line[0]: line[1] for line in lines if len(line) == 2}
  assert printed["model"] == "R-10, 1 @ 16 at 128 x 128 pixels, 80 classes"
  assert printed["data"] == "118,287 images to train on, 5,000 to evaluate on"
  # A tenth of an epoch, 2 images at a time, rounded up: 118,287 / 20.
  assert printed["steps"] == "5,915 of 2 images, 0.1 epochs"
  assert "118,287 images (as COCO train2017 has) and 80 classes" in result.stdout
  assert "nasfpn prepare --annotations instances_train2017.json" in result.stdout
  missing = shlex.quote(str(REPOSITORY / "data" / "missing"))
  assert result.stdout.splitlines()[-2].endswith(f"--output_dir {missing}")
  assert "estimate its memory" in result.stderr


def test_a_preview_draws_what_would_be_trained_on_and_trains_nothing(
  arguments, tmp_path, run_program
):
  picture = tmp_path / "preview.jpg"
  options = ["--gin_param=Input.mosaic = 0.5", "--gin_param=Input.color_jitter = 0.4"]
  result = run_program("train", *arguments[:2], *options, f"--preview={picture}")
  assert result.returncode == 0, result.stderr
  assert result.stdout.startswith(f"{picture}: the first 64 training images have ")
  with Image.open(picture) as image:
    assert image.width == 1500
  assert sorted(path.name for path in tmp_path.iterdir()) == ["preview.jpg", "tiny.gin"]


@pytest.mark.parametrize(
  ("file", "message"),
  [
    ("preview.gif", "preview.gif: an image ends in .jpg, .jpeg, .png"),
    ("nowhere/preview.jpg", "there is no folder"),
  ],
)
def test_a_preview_that_cannot_be_written_is_refused_at_once(
  file, message, arguments, tmp_path, run_program
):
  result = run_program("train", *arguments[:2], f"--preview={tmp_path / file}")
  assert result.returncode == 1
  assert message in result.stderr
  assert "Traceback" not in result.stderr


def test_evaluating_without_a_checkpoint_says_so(arguments, run_program):
  result = run_program("train", *arguments, "--mode=evaluate")
  assert result.returncode == 1
  assert "has no checkpoint yet" in result.stderr


@pytest.mark.slow
def test_a_full_disk_is_a_clear_error_and_the_same_command_goes_on(
  arguments, tmp_path, run_program
):
  # No file above 1 MiB; a checkpoint of R-10 takes 40.
  limited = ("bash", "-c", 'ulimit -f 1024; exec "$@"', "bash")
  result = run_program("train", *arguments, launcher=limited)
  assert result.returncode == 1
  assert "cannot be written: " in result.stderr
  assert "Traceback" not in result.stderr

  result = run_program("train", *arguments)
  assert result.returncode == 0, result.stderr
  assert (tmp_path / "run" / "evaluation.json").is_file()
  assert "AP by class" in result.stdout

  # What it said on the way, on the terminal and in the log, in plain numbers.
  run = tmp_path / "run"
  log = (run / "train.log").read_text()
  for said in (
    "trains R-10, 1 @ 16 (fpn) at 128 x 128 pixels, 4 classes, on 38 images of ",
    f"2 steps of 2 images (0.1 epochs), into {run}",
    "; computes in float32: as Training.compute_dtype = 'float32' says",
    "compiling its train step",
    "the first step is done after ",
    "evaluation at step 2 of 2: AP 0.",
  ):
    assert said in result.stderr
    assert said in log
  assert "np.float" not in log
  assert json.loads((run / "evaluation.json").read_text())["compute_dtype"] == "float32"
  assert result.stdout.splitlines()[-4:] == [
    f"{run} holds checkpoints, curves and evaluation.json. Next:",
    f"  nasfpn report {run}",
    f"  nasfpn export --model_dir {run} --output_dir {run}_export --check",
    f"  tensorboard --logdir {run}",
  ]
