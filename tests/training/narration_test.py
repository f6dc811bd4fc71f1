"""What a training prints; tests/train_test.py and multi_worker_test.py run real ones."""

import dataclasses

import pytest
import tensorflow as tf

from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.training import narration as narration_lib
from official_nasfpn.training.compilation import Compilation
from official_nasfpn.training.experiment import load_experiment
from official_nasfpn.training.narration import Narration, augmentation, where_and_how
from official_nasfpn.training.runner import make_plain

NOT_COMPILED = Compilation(False, "XLA does not compile")


@pytest.fixture
def clock(monkeypatch):
  """Returns a clock whose `now` a test sets, in seconds."""

  class Clock:
    now = 0.0

    def monotonic(self):
      return self.now

  clock = Clock()
  monkeypatch.setattr(narration_lib, "time", clock)
  return clock


def test_a_training_from_its_begin_to_its_last_evaluation(clock, shapes_data, tmp_path, capsys):
  experiment = load_experiment(["gin/quickstart.gin"])
  narration = Narration(0, 1080, speaks=True)
  strategy = tf.distribute.get_strategy()
  narration.begin(experiment, DatasetInfo.load(shapes_data), strategy, tmp_path, NOT_COMPILED)
  narration.compiling()
  clock.now = 130.0
  narration.step({"total_loss": 1.5}, 1)
  clock.now = 230.0
  narration.step({"total_loss": 1.25}, 541)
  narration.evaluating()
  narration.evaluated({"AP": 0.1234, "AP50": 0.5}, 541)
  narration.evaluated({}, 1080)
  narration.close()
  printed, shown = capsys.readouterr()
  lines = printed.splitlines()
  assert lines == [
    f"trains R-10, 3 @ 32 (nas_fpn) at 128 x 128 pixels, 4 classes, on 38 images of {shapes_data}",
    f"1,080 steps of 8 images (20 epochs), into {tmp_path}",
    f"{where_and_how(experiment, strategy)}; {NOT_COMPILED.sentence}",
    "building the detector and compiling its train step; this can take minutes",
    "the first step is done after 02:10, loss 1.500",
    # 540 steps took 100 s; the estimate of the remaining time leaves the compilation out.
    "evaluation at step 541 of 1,080: AP 0.123, AP50 0.500; 01:39 left",
    "evaluation at step 1,080 of 1,080: AP undefined, AP50 undefined; the last one",
  ]
  for line in lines:
    assert line in shown
  assert "loss 1.250" in shown


def test_an_evaluation_before_the_first_step_takes_no_part_in_its_time(clock, capsys):
  narration = Narration(541, 1080, speaks=True)
  narration.compiling()
  clock.now = 50.0
  narration.evaluating()
  narration.evaluated({"AP": 0.25, "AP50": 0.5}, 541)
  clock.now = 60.0
  narration.step({"total_loss": 1.5}, 542)
  narration.close()
  assert capsys.readouterr().out.splitlines()[1:] == [
    "evaluation at step 541 of 1,080: AP 0.250, AP50 0.500",
    "the first step is done after 00:10, loss 1.500",
  ]


def test_a_training_that_goes_on_says_from_where(shapes_data, tmp_path, capsys):
  narration = Narration(540, 1080, speaks=True)
  experiment = load_experiment(["gin/quickstart.gin"])
  dataset = DatasetInfo.load(shapes_data)
  narration.begin(experiment, dataset, tf.distribute.get_strategy(), tmp_path, NOT_COMPILED)
  assert "(20 epochs) from step 540, into " in capsys.readouterr().out


def test_only_the_chief_of_a_cluster_speaks(shapes_data, tmp_path, capsys):
  narration = Narration(0, 10, speaks=False)
  experiment = load_experiment(["gin/quickstart.gin"])
  dataset = DatasetInfo.load(shapes_data)
  narration.begin(experiment, dataset, tf.distribute.get_strategy(), tmp_path, NOT_COMPILED)
  narration.compiling()
  narration.step({"total_loss": 1.0}, 1)
  narration.step({"total_loss": 1.0}, 10)
  narration.evaluated({"AP": 0.5, "AP50": 0.5}, 10)
  narration.close()
  printed, shown = capsys.readouterr()
  assert printed == ""
  # Only its progress bar.
  assert all("step" in line for line in shown.replace("\r", "\n").split("\n") if line.strip())
  assert "trains" not in shown


def test_figures_are_plain_numbers():
  logs = {"total_loss": tf.constant(1.5), "learning_rate": tf.Variable(0.25), "AP": 0.5}
  make_plain(logs)
  assert repr(logs) == "{'total_loss': 1.5, 'learning_rate': 0.25, 'AP': 0.5}"


def test_augmentations_are_stated_and_a_mosaic_with_too_many_boxes(shapes_data):
  dataset = DatasetInfo.load(shapes_data)
  part = dataset.parts["train"]
  config = InputConfig(str(shapes_data), train_parts=("train",), mosaic=0.5, rand_augment=2)
  assert augmentation(config, dataset) == "augments images: mosaic = 0.5, rand_augment = 2"
  in_mosaic = 4 * part.num_boxes / part.num_images
  assert in_mosaic > 5
  config = dataclasses.replace(config, max_num_boxes=5)
  assert augmentation(config, dataset) == (
    f"augments images: mosaic = 0.5, rand_augment = 2; four images have {in_mosaic:.0f} boxes on "
    "average, and Input.max_num_boxes = 5: of a mosaic with more a random choice is trained on"
  )
