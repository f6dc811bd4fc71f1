"""A batch that does not fit: TensorFlow's real error, and the estimate of what would fit."""

import dataclasses
import random

import pytest
import tensorflow as tf

from official_nasfpn.data.config import InputConfig
from official_nasfpn.disk import disk_problem
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.workers.evaluation import NullProgress, TrialFailed
from official_nasfpn.training import task as task_lib
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.memory import OutOfMemory, batch_that_fits, memory_errors
from official_nasfpn.training.strategies import build_strategy
from official_nasfpn.training.training import train_detector

# What XLA and TensorFlow's allocator say.
OF_XLA = "Out of memory while trying to allocate 42949672960 bytes. [[{{node While/body/_1}}]]"
OF_XLA_IN_UNITS = "Out of memory while trying to allocate 40.00GiB."
OF_A_TENSOR = (
  "OOM when allocating tensor with shape[48,160,160,256] and type half on "
  "/job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc"
)
GIB = 2**30


@pytest.mark.parametrize(
  ("message", "batch_size", "num_replicas", "memory_gib", "fitting"),
  [
    # 40 GiB for 64 images, of which 0.9 x 16 GiB are there.
    (OF_XLA, 64, 1, 16, 23),
    (OF_XLA_IN_UNITS, 64, 1, 16, 23),
    # Both replicas have 32 images and ask for 40 GiB.
    (OF_XLA, 64, 2, 16, 22),
    # The memory was taken by something else, or is unknown: half.
    (OF_XLA, 64, 1, 80, 32),
    (OF_XLA, 64, 1, None, 32),
    (OF_A_TENSOR, 48, 1, 16, 24),
    (OF_A_TENSOR, 6, 2, 16, 2),
    (OF_XLA, 2, 1, 0.5, 1),
    (OF_XLA, 8, 4, 0.5, 4),
  ],
)
def test_estimate(message, batch_size, num_replicas, memory_gib, fitting):
  memory = memory_gib and int(memory_gib * GIB)
  assert batch_that_fits(message, batch_size, num_replicas, memory) == fitting


def test_a_full_disk_is_not_taken_for_it():
  error = tf.errors.ResourceExhaustedError(None, None, "ckpt-8.data; No space left on device")
  with (
    pytest.raises(tf.errors.ResourceExhaustedError),
    memory_errors("Training.batch_size", 4, build_strategy("one_device")),
  ):
    raise error
  assert disk_problem(error)


def ask_for(side):
  """Asks TensorFlow for side^3 numbers: with 100,000 for 4 PiB, more than a process can address."""
  return tf.reduce_sum(tf.zeros(tf.fill([3], side)))


def test_a_single_image_needs_a_smaller_detector():
  with (
    pytest.raises(OutOfMemory, match=r"this machine\. Lower Detector\.image_size"),
    memory_errors("Training.batch_size", 1, build_strategy("one_device")),
  ):
    ask_for(100_000)


def test_parts_of_a_batch_stay_whole():
  with (
    pytest.raises(OutOfMemory, match=r"batch_size = 4\".* Give it a new folder\.$"),
    memory_errors(
      "Training.batch_size", 12, build_strategy("one_device"), 4, "Give it a new folder."
    ),
  ):
    ask_for(100_000)


@pytest.fixture
def experiment(tiny_detector, shapes_data):
  return Experiment(
    tiny_detector,
    InputConfig(data_dir=str(shapes_data)),
    TrainingConfig(batch_size=4, epochs=0.5, decay_epochs=(), checkpoint_epochs=0.2),
  )


@pytest.fixture
def from_step_3(monkeypatch):
  """Lets the train step of all tasks ask for too much memory from the third on."""
  assign = task_lib.targets.assign_targets
  steps = tf.Variable(0, trainable=False)

  def assign_targets(*arguments):
    found = assign(*arguments)
    nothing = ask_for(tf.where(steps.assign_add(1) < 3, 1, 100_000))
    return found._replace(boxes=found.boxes + nothing)

  monkeypatch.setattr(task_lib.targets, "assign_targets", assign_targets)


@pytest.mark.slow
def test_a_training_says_what_would_fit_and_goes_on_with_that(
  experiment, from_step_3, tmp_path, monkeypatch
):
  del from_step_3
  with pytest.raises(OutOfMemory) as caught:
    train_detector(experiment, tmp_path / "run", evaluate=False)
  assert str(caught.value) == (
    "Training.batch_size = 4 does not fit into the memory of this machine. By estimate 2 would: "
    '--gin_param "Training.batch_size = 2". The learning rate follows the batch size by itself. '
    "That is another training: give --model_dir a new folder."
  )
  # What was saved before is there and whole.
  monkeypatch.undo()
  run = train_detector(experiment, tmp_path / "run", evaluate=False)
  assert run.steps == 5


@pytest.mark.slow
def test_a_trial_is_recorded_as_that(experiment, from_step_3, tmp_path):
  del from_step_3
  recipe = read_recipe(["gin/quickstart.gin"])
  recipe = dataclasses.replace(recipe, experiment=experiment)
  evaluate = proxy_task.make_evaluate(recipe, tmp_path)
  spec = recipe.space.sample(random.Random(0))
  with pytest.raises(TrialFailed, match=r"batch_size = 4 does not fit") as caught:
    evaluate(spec, tmp_path, NullProgress())
  assert not caught.value.diverged
