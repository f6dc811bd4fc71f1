"""The train program: what it says to bad input, and to a full disk."""

import subprocess
import sys

import pytest

from official_nasfpn.data.preparation import Settings, prepare_dataset
from official_nasfpn.data.shapes import ShapesConfig

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


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  directory = tmp_path_factory.mktemp("shapes") / "data"
  prepare_dataset(ShapesConfig(num_images=24), directory, Settings(), num_threads=2)
  return directory


def train(*arguments, launcher=()):
  return subprocess.run(
    [*launcher, sys.executable, "-m", "official_nasfpn.train", *map(str, arguments)],
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "Give a recipe with --gin_file"),
    (["--gin_file=missing.gin"], "There is no gin file 'missing.gin'"),
    (["--gin_file=gin/quickstart.gin"], "No data: give --data_dir"),
    (["--gin_file=gin/quickstart.gin", "--data_dir=tests"], "dataset.json"),
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
  ],
)
def test_bad_input_is_one_clear_line(arguments, message, tmp_path):
  result = train(f"--model_dir={tmp_path / 'run'}", *arguments)
  assert result.returncode == 1
  assert message in result.stderr
  assert "Traceback" not in result.stderr
  assert not (tmp_path / "run").exists()


def test_evaluating_without_a_checkpoint_says_so(data_dir, tmp_path):
  recipe = tmp_path / "tiny.gin"
  recipe.write_text(TINY)
  run = tmp_path / "run"
  result = train(f"--gin_file={recipe}", f"--data_dir={data_dir}", f"--model_dir={run}",
                 "--mode=evaluate")  # fmt: skip
  assert result.returncode == 1
  assert "has no checkpoint yet" in result.stderr


@pytest.mark.slow
def test_a_full_disk_is_a_clear_error_and_the_same_command_goes_on(data_dir, tmp_path):
  recipe = tmp_path / "tiny.gin"
  recipe.write_text(TINY)
  command = [f"--gin_file={recipe}", f"--data_dir={data_dir}", f"--model_dir={tmp_path / 'run'}"]
  # No file above 1 MiB; a checkpoint of R-10 takes 40.
  result = train(*command, launcher=("bash", "-c", 'ulimit -f 1024; exec "$@"', "bash"))
  assert result.returncode == 1
  assert "cannot be written: " in result.stderr
  assert "Traceback" not in result.stderr

  result = train(*command)
  assert result.returncode == 0, result.stderr
  assert (tmp_path / "run" / "evaluation.json").is_file()
  assert "AP by class" in result.stdout
