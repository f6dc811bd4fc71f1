"""What only a GPU can show; `python -m benchmarks.gpu_step` measures there."""

import dataclasses
import gc

import pytest
import tensorflow as tf

from official_nasfpn.data.config import InputConfig
from official_nasfpn.gpus import unused_gpu
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.memory import OutOfMemory
from official_nasfpn.training.training import train_detector

NUM_GPUS = len(tf.config.list_physical_devices("GPU"))
pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(not NUM_GPUS, reason="needs a GPU that TensorFlow can use"),
]


@pytest.fixture
def experiment(shapes_data):
  return Experiment(
    DetectorConfig(
      backbone="R-18", architecture="nas_fpn", num_filters=64, num_repeats=3, image_size=(256, 256)
    ),
    InputConfig(data_dir=str(shapes_data)),
    TrainingConfig(batch_size=8, epochs=2, decay_epochs=()),
  )


def change(experiment, **settings):
  return dataclasses.replace(
    experiment, training=dataclasses.replace(experiment.training, **settings)
  )


def test_nothing_is_said_of_an_unused_gpu():
  assert unused_gpu() is None


@pytest.mark.parametrize("compute_dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_trains_in_every_format(compute_dtype, jit_compile, experiment, tmp_path):
  settings = change(experiment, compute_dtype=compute_dtype, jit_compile=jit_compile)
  run = train_detector(settings, tmp_path / "run")
  assert run.evaluation.metrics["AP"] is not None


@pytest.mark.skipif(NUM_GPUS < 2, reason="needs two GPUs")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_trains_on_all_gpus(jit_compile, experiment, tmp_path):
  settings = change(experiment, jit_compile=jit_compile, batch_size=8 * NUM_GPUS)
  run = train_detector(settings, tmp_path / "run", distribution_strategy="mirrored")
  assert run.evaluation.metrics["AP"] is not None


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_batch_that_does_not_fit_names_one_that_does(jit_compile, experiment, tmp_path):
  detector = dataclasses.replace(experiment.detector, image_size=(1024, 1024), num_filters=384)
  settings = change(
    dataclasses.replace(experiment, detector=detector), batch_size=512, jit_compile=jit_compile
  )
  with pytest.raises(OutOfMemory, match=r"By estimate \d+ would"):
    train_detector(settings, tmp_path / "run", evaluate=False)
  gc.collect()
