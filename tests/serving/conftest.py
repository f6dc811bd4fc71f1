"""Fixtures for tests of serving: run folders and exports, which tests must not write to."""

import contextlib
import dataclasses
import fcntl
import functools
import json
import resource
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from PIL import Image

from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.data.shapes import ShapesConfig
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detector import build_detector
from official_nasfpn.serving.detectors.detector import Detector
from official_nasfpn.serving.export.export_detector import export_detector
from official_nasfpn.training import runner
from official_nasfpn.training.coco_evaluation import EvaluationResult
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, open_dataset
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.strategies import build_strategy

# Ids with gaps and not in the order of the names, so that a mix-up with indices shows.
LABELS = LabelMap((Category(4, "ant"), Category(9, "bee"), Category(70, "cat")))
DETECTOR = DetectorConfig(
  # Few variables and operations, so that it is quickly traced, saved and loaded.
  backbone="R-10",
  backbone_width=0.25,
  architecture="fpn",
  num_filters=16,
  num_repeats=2,
  head_num_convs=0,
  num_classes=3,
  image_size=(128, 256),
  # Far below 0.01, the score of untrained heads: every image has detections.
  score_threshold=0.001,
  max_detections=20,
)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory, worker_id):
  """Returns a function that makes a folder once for all test processes.

  It takes the name of the folder and a function that fills it, and returns the path.
  """
  base = tmp_path_factory.getbasetemp()
  shared = base if worker_id == "master" else base.parent

  def once(name, make):
    root = shared / "made_once" / name
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      if not (root / "done").exists():
        shutil.rmtree(root / "folder", ignore_errors=True)
        (root / "folder").mkdir()
        make(root / "folder")
        (root / "done").touch()
    return root / "folder"

  return once


def _make_run(path, config):
  """Makes a run folder with initial weights at step 7, whose data is missing."""
  folder = RunFolder(path)
  data = InputConfig(data_dir="/gone")
  folder.claim(Experiment(config, data, TrainingConfig(compute_dtype="float32")), LABELS)
  tf_keras.utils.set_random_seed(0)
  detector = build_detector(config, LABELS.num_classes)
  # Different scores, like those of a trained detector.
  for head in (*detector.early_heads, detector.head):
    kernel = head._classifier.trainable_weights[-2]  # The last is the bias.
    kernel.assign(500 * kernel)
  checkpoint = tf.train.Checkpoint(model=detector)
  manager = tf.train.CheckpointManager(checkpoint, str(folder.checkpoints), max_to_keep=1)
  manager.save(checkpoint_number=7)
  return folder


@pytest.fixture(scope="session")
def untrained_run(made_once):
  """Returns a run folder with initial weights at step 7, whose data is missing."""
  return RunFolder(made_once("run", lambda path: _make_run(path / "run", DETECTOR)) / "run")


@pytest.fixture(scope="session")
def anytime_run(made_once):
  """Returns such a run folder of an anytime detector with three exits."""
  config = dataclasses.replace(DETECTOR, num_repeats=3, exit_heads="separate")
  return RunFolder(made_once("anytime", lambda path: _make_run(path / "run", config)) / "run")


@pytest.fixture(scope="session")
def anytime_export_dir(anytime_run, made_once):
  """Returns the export of `anytime_run`."""
  export = made_once(
    "anytime_export", lambda path: export_detector(anytime_run.path, path / "model")
  )
  return export / "model"


@pytest.fixture(scope="session")
def export_dir(untrained_run, made_once):
  """Returns the export of `untrained_run`."""

  def make(path):
    assert export_detector(untrained_run.path, path / "with space").is_new

  return made_once("export", make) / "with space"


@pytest.fixture(scope="session")
def exported_file(untrained_run, made_once):
  """Returns a function from format and precision to that export of `untrained_run`."""

  def exported(format_, precision="float32"):
    def make(path):
      assert export_detector(untrained_run.path, path / "model", format_, precision).is_new

    return made_once(f"export_{format_}_{precision}", make) / "model"

  return exported


@pytest.fixture(scope="session")
def saved_detector(export_dir):
  """Returns the loaded export."""
  return Detector(export_dir)


@pytest.fixture(scope="session")
def anytime_detector(anytime_export_dir):
  """Returns the loaded export with exits."""
  return Detector(anytime_export_dir)


_SMALL = DetectorConfig(
  backbone="R-10",
  backbone_width=0.5,
  num_filters=32,
  num_repeats=1,
  head_num_convs=1,
  image_size=(128, 128),
  anchor_size=2.0,
  norm_momentum=0.9,
)
# Detectors that learn drawn shapes in half a minute.
_TRAINABLE = {
  "R-10": _SMALL,
  "NAS-FPNLite": dataclasses.replace(
    _SMALL,
    backbone="MobileNetV2",
    architecture="nas_fpnlite_ours",
    separable_convolutions=True,
    top_levels="convolution",
  ),
}


def _train(name: str, root: Path) -> None:
  """Makes `root`/data, 16 drawn images, and `root`/run, a detector trained on them.

  It is also evaluated on these images: an AP near zero would agree with anything.
  """
  prepare_dataset(
    root / "data", shapes=ShapesConfig(32, 128), seed=1, validation_fraction=0.5, num_threads=2
  )
  data = InputConfig(
    data_dir=str(root / "data"),
    train_parts=("val",),
    scale_min=1.0,
    scale_max=1.0,
    horizontal_flip=False,
  )
  training = TrainingConfig(
    batch_size=8,
    epochs=40,
    learning_rate=0.32,
    schedule="cosine",
    warmup_epochs=1,
    gradient_clip_norm=10.0,
    compute_dtype="float32",
  )
  experiment, dataset = open_dataset(Experiment(_TRAINABLE[name], data, training))
  folder = RunFolder(root / "run")
  folder.claim(experiment, dataset.label_map)
  runner.train(experiment, dataset, folder, build_strategy("one_device", None))


@pytest.fixture(scope="session")
def trained_run(made_once):
  """Returns a function from a name in `_TRAINABLE` to its trained run folder, in float32."""

  def trained(name):
    return RunFolder(made_once(f"trained_{name}", lambda path: _train(name, path)) / "run")

  return trained


@pytest.fixture(scope="session")
def trained_file(trained_run, made_once):
  """Returns a function from a name in `_TRAINABLE`, a format and a precision to that export."""

  def exported(name, format_, precision="float32"):
    def make(path):
      assert export_detector(trained_run(name).path, path / "model", format_, precision).is_new

    folder = f"trained_{name}_{format_}_{precision}"
    return made_once(folder, make) / "model"

  return exported


@pytest.fixture(scope="session")
def trained_detector(trained_run, made_once):
  """Returns a function from a name in `_TRAINABLE` and a compute dtype to a trained detector.

  The function returns run folder, dataset, and evaluation on the 16 drawn images of the training.
  The training itself was in float32.
  """

  def evaluate(name, compute_dtype, path):
    folder = RunFolder(shutil.copytree(trained_run(name).path, path / "run"))
    experiment, _ = folder.load()
    training = dataclasses.replace(experiment.training, compute_dtype=compute_dtype)
    experiment = dataclasses.replace(experiment, training=training)
    folder.config_file.write_text(experiment.to_gin())
    experiment, dataset = open_dataset(experiment)
    strategy = build_strategy("one_device", None)
    try:
      evaluation = runner.evaluate(experiment, dataset, folder, strategy)
    finally:
      tf_keras.mixed_precision.set_global_policy("float32")
    assert evaluation.metrics["AP"] > 0.3
    folder.evaluation_file.write_text(evaluation.to_json())

  @functools.cache
  def trained(name, compute_dtype="float32"):
    path = made_once(
      f"trained_{name}_{compute_dtype}", functools.partial(evaluate, name, compute_dtype)
    )
    folder = RunFolder(path / "run")
    _, dataset = open_dataset(folder.load()[0])
    evaluation = EvaluationResult(**json.loads(folder.evaluation_file.read_text()))
    return folder, dataset, evaluation

  return trained


@pytest.fixture
def run_copy(untrained_run, tmp_path):
  """Returns a copy of `untrained_run` that a test may damage."""
  return RunFolder(shutil.copytree(untrained_run.path, tmp_path / "run"))


@pytest.fixture
def change_detector():
  """Returns a function that changes the detector's settings in a run's config.gin."""

  def change(folder: RunFolder, **settings):
    experiment, _ = folder.load()
    detector = dataclasses.replace(experiment.detector, **settings)
    text = dataclasses.replace(experiment, detector=detector).to_gin()
    folder.config_file.write_text(text)

  return change


@pytest.fixture
def photo():
  """Returns a function that makes a smooth coloured picture."""

  def make(width: int, height: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, [5, 6, 3], np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)

  return make


@pytest.fixture
def make_video(photo):
  """Returns a function that writes a video of a moving picture and returns its frames."""

  def make(path, num_frames, codec="mp4v", fps=10.0, size=(200, 100)):
    width, height = size
    wide = photo(width + 10 * num_frames, height)
    frames = [wide.crop((10 * i, 0, 10 * i + width, height)) for i in range(num_frames)]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size)
    for frame in frames:
      writer.write(np.asarray(frame)[:, :, ::-1].copy())
    writer.release()
    return path, frames

  return make


@pytest.fixture
def small_disk():
  """Returns a context manager in which files cannot grow beyond a number of bytes."""

  @contextlib.contextmanager
  def limit(num_bytes: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
      yield
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

  return limit
