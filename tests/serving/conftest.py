"""Run folders and exports that several tests read: never written to."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from PIL import Image

from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detector import build_detector
from official_nasfpn.serving.saved_detector import SavedDetector
from official_nasfpn.serving.saved_model import export_run
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.run_folder import RunFolder

# Ids with gaps, not in order of the names: indices and ids cannot be mistaken for one another.
LABELS = LabelMap((Category(4, "ant"), Category(9, "bee"), Category(70, "cat")))
DETECTOR = DetectorConfig(
  backbone="R-10",
  architecture="fpn",
  num_filters=16,
  num_repeats=2,
  head_num_convs=1,
  num_classes=3,
  image_size=(128, 256),
  # Far below the score of untrained heads, 0.01: every image has detections.
  score_threshold=0.001,
  max_detections=20,
)


def _make_run(path, config):
  """Returns a run folder with initial weights at step 7, whose data is gone."""
  folder = RunFolder(path)
  data = InputConfig(data_dir="/gone")
  folder.claim(Experiment(config, data, TrainingConfig(compute_dtype="float32")), LABELS)
  tf_keras.utils.set_random_seed(0)
  detector = build_detector(config, LABELS.num_classes)
  # Scores that differ from one another, as those of a trained detector.
  for head in (*detector.early_heads, detector.head):
    kernel = head._classifier.kernel
    kernel.assign(500 * kernel)
  checkpoint = tf.train.Checkpoint(model=detector)
  manager = tf.train.CheckpointManager(checkpoint, str(folder.checkpoints), max_to_keep=1)
  manager.save(checkpoint_number=7)
  return folder


@pytest.fixture(scope="session")
def untrained_run(tmp_path_factory):
  """A run folder with initial weights at step 7, whose data is gone."""
  return _make_run(tmp_path_factory.mktemp("run") / "run", DETECTOR)


@pytest.fixture(scope="session")
def anytime_run(tmp_path_factory):
  """The same of an anytime detector with three exits."""
  config = dataclasses.replace(DETECTOR, num_repeats=3, exit_heads="separate")
  return _make_run(tmp_path_factory.mktemp("anytime") / "run", config)


@pytest.fixture(scope="session")
def anytime_export_dir(anytime_run, tmp_path_factory):
  """The export of `anytime_run`."""
  path = tmp_path_factory.mktemp("anytime_export") / "model"
  export_run(anytime_run, path)
  return path


@pytest.fixture(scope="session")
def export_dir(untrained_run, tmp_path_factory):
  """The export of `untrained_run`."""
  path = tmp_path_factory.mktemp("export") / "with space"
  assert export_run(untrained_run, path).is_new
  return path


@pytest.fixture(scope="session")
def saved_detector(export_dir):
  """The export, loaded."""
  return SavedDetector(export_dir)


@pytest.fixture
def run_copy(untrained_run, tmp_path):
  """A copy of `untrained_run` to do damage to."""
  return RunFolder(shutil.copytree(untrained_run.path, tmp_path / "run"))


@pytest.fixture
def change_detector():
  """Returns a function that rewrites a run's config.gin with other settings of the detector."""

  def change(folder: RunFolder, **settings):
    experiment, _ = folder.load()
    detector = dataclasses.replace(experiment.detector, **settings)
    text = dataclasses.replace(experiment, detector=detector).to_gin()
    folder.config_file.write_text(text)

  return change


@pytest.fixture
def photo():
  """Returns a function that makes a smooth colourful picture."""

  def make(width: int, height: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, [5, 6, 3], np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)

  return make
