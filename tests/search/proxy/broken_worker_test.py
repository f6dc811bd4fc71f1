"""A failure is blamed on the trial if it is the trial's, and else ends the worker."""

import dataclasses
import random
import shutil

import pytest
import tensorflow as tf

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.errors import UserError
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.workers.evaluation import (
  NullProgress,
  SearchBroken,
  TrialFailed,
  WorkerBroken,
)
from official_nasfpn.training.lost_gpu import GpuLost
from official_nasfpn.training.memory import OutOfMemory
from official_nasfpn.training.nan_guard import TrainingDiverged

SPEC = SearchSpace().sample(random.Random(5))


def raised(recipe, error, tmp_path, monkeypatch):
  """Returns what a trial raises whose training raises `error`."""

  def fail(*arguments):
    raise error

  monkeypatch.setattr(proxy_task, "_plain", lambda *arguments: fail)
  evaluate = proxy_task.make_evaluate(recipe, tmp_path)
  with pytest.raises(Exception) as caught:
    evaluate(SPEC, tmp_path, NullProgress())
  return caught.value


@pytest.mark.parametrize(
  ("error", "kind"),
  [
    (TrainingDiverged(3, {"total_loss": float("nan")}), TrialFailed),
    (OutOfMemory("Training.batch_size = 8 does not fit."), TrialFailed),
    (GpuLost("The GPU failed while it computed."), WorkerBroken),
    (UserError("Training.start_from = 'gone': this is no run folder."), WorkerBroken),
    (SearchBroken("The training with the FPN diverged."), SearchBroken),
  ],
)
def test_an_architecture_is_blamed_for_its_own_failures_alone(
  recipe, tmp_path, monkeypatch, error, kind
):
  found = raised(read_recipe([recipe]), error, tmp_path, monkeypatch)
  assert type(found) is kind
  assert str(found) == str(error)
  assert getattr(found, "diverged", False) == isinstance(error, TrainingDiverged)


def test_data_that_cannot_be_read_any_more_ends_the_worker(
  recipe, shapes_data, tmp_path, monkeypatch
):
  data = tmp_path / "data"
  shutil.copytree(shapes_data, data)
  search = read_recipe([recipe])
  experiment = dataclasses.replace(
    search.experiment, input=dataclasses.replace(search.experiment.input, data_dir=str(data))
  )
  search = dataclasses.replace(search, experiment=experiment)

  def lose_a_shard(*arguments):
    shard = min(data.glob("train-*.tfrecord"))
    shard.unlink()
    raise tf.errors.NotFoundError(None, None, f"{shard}; No such file or directory")

  monkeypatch.setattr(proxy_task, "_plain", lambda *arguments: lose_a_shard)
  evaluate = proxy_task.make_evaluate(search, tmp_path)
  with pytest.raises(WorkerBroken, match=r"train-00000-of-\d+\.tfrecord"):
    evaluate(SPEC, tmp_path, NullProgress())
