"""A GPU that fails in mid-training: one sentence, and nothing that was done is lost."""

import dataclasses
import random

import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.data.config import InputConfig
from official_nasfpn.search.proxy import cost, proxy_task
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.workers.evaluation import NullProgress, WorkerBroken
from official_nasfpn.training import task as task_lib
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.lost_gpu import GpuLost, gpu_errors
from official_nasfpn.training.training import train_detector

# What TensorFlow says where kernels fail, and where a card is gone.
ILLEGAL_ADDRESS = "could not synchronize on CUDA context: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal"
OF_A_LIBRARY = "cuDNN launch failure : CUDNN_STATUS_EXECUTION_FAILED"


@pytest.mark.parametrize("kind", [tf.errors.InternalError, tf.errors.UnknownError])
@pytest.mark.parametrize("message", [ILLEGAL_ADDRESS, OF_A_LIBRARY, "GPU sync failed"])
def test_what_tensorflow_says_of_it(kind, message):
  said = r"The GPU failed while it computed \((C|GPU)[\w ]+\)\. Ours\."
  with pytest.raises(GpuLost, match=said), gpu_errors("Ours."):
    raise kind(None, None, message)


@pytest.mark.parametrize(
  "message", ["CUDA_ERROR_OUT_OF_MEMORY: out of memory", "Blas GEMM launch failed", "no such file"]
)
def test_other_errors_stay_what_they_are(message):
  with pytest.raises(tf.errors.InternalError), gpu_errors("Ours."):
    raise tf.errors.InternalError(None, None, message)


@pytest.fixture
def experiment(tiny_detector, shapes_data):
  return Experiment(
    tiny_detector,
    InputConfig(data_dir=str(shapes_data)),
    TrainingConfig(
      batch_size=4, epochs=0.5, decay_epochs=(), checkpoint_epochs=0.2, steps_per_loop=1
    ),
  )


@pytest.fixture
def from_step_3(monkeypatch):
  """Lets the train step of all tasks fail from the third on, as an operation on a GPU does."""
  assign = task_lib.targets.assign_targets
  steps = iter(range(1, 1000))

  def fail_from_step_3():
    if next(steps) >= 3:
      raise RuntimeError(ILLEGAL_ADDRESS)
    return np.float32(0)

  def assign_targets(*arguments):
    found = assign(*arguments)
    nothing = tf.ensure_shape(tf.numpy_function(fail_from_step_3, [], tf.float32), [])
    return found._replace(boxes=found.boxes + nothing)

  monkeypatch.setattr(task_lib.targets, "assign_targets", assign_targets)


@pytest.mark.slow
def test_a_training_goes_on_from_its_checkpoint(experiment, from_step_3, tmp_path, monkeypatch):
  del from_step_3
  with pytest.raises(
    GpuLost, match=r"ILLEGAL_ADDRESS\)\. The checkpoints written before are whole"
  ):
    train_detector(experiment, tmp_path / "run", evaluate=False)
  assert list((tmp_path / "run" / "checkpoints").glob("ckpt-1.index"))
  monkeypatch.undo()
  assert train_detector(experiment, tmp_path / "run", evaluate=False).steps == 5


@pytest.mark.slow
def test_a_trial_ends_its_worker(experiment, from_step_3, tmp_path):
  del from_step_3
  recipe = dataclasses.replace(read_recipe(["gin/quickstart.gin"]), experiment=experiment)
  evaluate = proxy_task.make_evaluate(recipe, tmp_path)
  spec = recipe.space.sample(random.Random(0))
  with pytest.raises(WorkerBroken, match="This worker ends, and its trial is tried again"):
    evaluate(spec, tmp_path, NullProgress())


def test_a_gpu_that_fails_while_a_network_is_timed_ends_the_worker_too(
  experiment, tmp_path, monkeypatch
):
  def fail(run):
    del run
    raise tf.errors.InternalError(None, None, ILLEGAL_ADDRESS)

  monkeypatch.setattr(cost, "time_network", fail)
  weighed = ["Reward.cost = 'latency'", "Reward.target = 5.0"]
  recipe = read_recipe(["gin/quickstart.gin"], weighed)
  recipe = dataclasses.replace(recipe, experiment=experiment)
  evaluate = proxy_task.make_evaluate(recipe, tmp_path)
  with pytest.raises(WorkerBroken, match="This worker ends, and its trial is tried again"):
    evaluate(recipe.space.sample(random.Random(0)), tmp_path, NullProgress())
