"""The best weights of a training are kept, also when it is interrupted; patience ends it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.data.config import InputConfig
from official_nasfpn.errors import UserError
from official_nasfpn.serving.export.export_detector import export_detector
from official_nasfpn.serving.export_folder import find_export
from official_nasfpn.training.best_checkpoint import (
  BestCheckpoint,
  evaluation_is_due,
  out_of_patience,
  read_history,
)
from official_nasfpn.training.coco_evaluation import METRICS, EvaluationResult
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.training import evaluate_detector, train_detector


def evaluation(step, ap, **others):
  metrics = {**dict.fromkeys(METRICS, 0.5), "AP": ap, **others}
  return EvaluationResult(metrics, {"cat": ap}, (), 3, 7, step=step)


class Model(tf_keras.Model):
  """One weight, which says which step it is of."""

  def __init__(self):
    super().__init__()
    self.weight = tf.Variable(0.0)


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "run").mkdir()
  return RunFolder(tmp_path / "run")


def go_on(folder, first_step=0, written=None, **settings):
  model = Model()
  return model, BestCheckpoint(folder, model, TrainingConfig(**settings), first_step, written)


def offer(model, best, step, ap, **others):
  model.weight.assign(step)
  return best.offer(evaluation(step, ap, **others))


def kept(folder):
  """Returns the step of the weights that are kept."""
  model = Model()
  tf.train.Checkpoint(model=model).read(tf.train.latest_checkpoint(str(folder.best)))
  return int(model.weight.numpy())


def test_the_best_weights_stay(folder):
  model, best = go_on(folder)
  assert [offer(model, best, *row) for row in ((1, 0.2), (2, 0.4), (3, 0.3), (4, 0.4))] == [
    True,
    True,
    False,
    False,  # Of equals the first.
  ]
  assert kept(folder) == 2
  assert best.evaluation == evaluation(2, 0.4)
  assert len(list(folder.best.glob("*.index"))) == 1
  assert [(row["step"], row["AP"]) for row in read_history(folder, 99)] == [
    (1, 0.2),
    (2, 0.4),
    (3, 0.3),
    (4, 0.4),
  ]


def test_another_metric_may_choose(folder):
  model, best = go_on(folder, best_metric="AP50")
  offer(model, best, 1, 0.9, AP50=0.3)
  offer(model, best, 2, 0.1, AP50=0.6)
  assert kept(folder) == 2


def test_without_a_metric_the_last_evaluation_counts_and_nothing_is_kept(folder):
  model, best = go_on(folder, best_metric=None)
  offer(model, best, 1, 0.9)
  offer(model, best, 2, 0.1)
  assert best.evaluation.step == 2
  assert not list(folder.best.glob("*.index"))


def test_a_metric_without_a_value_tells_no_best(folder):
  model, best = go_on(folder, best_metric="APs")
  with pytest.raises(UserError, match=r"best_metric = 'APs' is undefined.* Choose another one"):
    offer(model, best, 1, 0.5, APs=None)
  assert not list(folder.path.iterdir())


def test_a_training_that_goes_on_knows_the_best(folder):
  model, best = go_on(folder)
  offer(model, best, 10, 0.4)
  model, best = go_on(folder, first_step=10)
  assert best.evaluation == evaluation(10, 0.4)
  assert not offer(model, best, 20, 0.3)
  assert kept(folder) == 10


def test_a_best_beyond_the_step_it_goes_on_from_stays(folder):
  model, best = go_on(folder, patience=2)
  offer(model, best, 5, 0.2)
  offer(model, best, 8, 0.6)
  # Killed: the newest checkpoint is of an older step, from which evaluations are made at others.
  model, best = go_on(folder, first_step=6, patience=2)
  for step, ap in ((8, 0.3), (9, 0.35), (12, 0.4)):
    assert not offer(model, best, step, ap)
    # Patience asks whether what is trained now rises.
    assert not best.is_over()
  assert kept(folder) == 8
  assert best.evaluation == evaluation(8, 0.6)
  assert folder.checkpoint_to_use() == str(folder.best / "ckpt-8")
  assert [(row["step"], row["AP"]) for row in read_history(folder, 99)] == [
    (5, 0.2),
    (8, 0.3),
    (9, 0.35),
    (12, 0.4),
  ]
  assert offer(model, best, 15, 0.7)
  assert kept(folder) == 15
  assert len(list(folder.best.glob("*.index"))) == 1


def test_all_workers_of_a_cluster_go_on_from_what_the_chief_has_found(folder, tmp_path):
  model, best = go_on(folder, patience=1)
  offer(model, best, 5, 0.6)
  _, other = go_on(folder, 5, RunFolder(tmp_path / "of_the_other"), patience=1)
  model, best = go_on(folder, 5, patience=1)
  # One that saved alone, or went on alone, would wait for the rest for ever.
  assert [offer(model, each, 8, 0.3) for each in (best, other)] == [False, False]
  assert [each.is_over() for each in (best, other)] == [True, True]
  assert [offer(model, each, 9, 0.7) for each in (best, other)] == [True, True]


def test_weights_without_their_evaluation_are_not_the_best(folder):
  model, best = go_on(folder)
  offer(model, best, 10, 0.4)
  model.weight.assign(20.0)
  tf.train.Checkpoint(model=model).write(str(folder.best / "ckpt-20"))  # Killed after this.
  go_on(folder, first_step=15)
  assert folder.checkpoint_to_use() == str(folder.best / "ckpt-10")
  assert kept(folder) == 10


def test_an_evaluation_whose_weights_are_gone_is_not_the_best(folder):
  model, best = go_on(folder)
  offer(model, best, 10, 0.4)
  for file in folder.best.glob("ckpt-*"):
    file.unlink()
  model, best = go_on(folder, first_step=15)
  assert best.evaluation is None
  assert offer(model, best, 20, 0.1)
  assert kept(folder) == 20


@pytest.mark.parametrize("name", ["best_evaluation_file", "evaluations_file"])
def test_a_damaged_file_is_named(folder, name):
  model, best = go_on(folder)
  offer(model, best, 10, 0.4)
  file = getattr(folder, name)
  for damaged in (file.read_text()[:9], "[1]"):
    file.write_text(damaged)
    with pytest.raises(UserError, match=rf"{file.name} is damaged .*Delete it"):
      go_on(folder, first_step=15)
  file.unlink()
  go_on(folder, first_step=15)


@pytest.mark.parametrize(
  ("values", "is_over"),
  [
    ([], False),
    ([0.1, 0.2], False),
    ([0.3, 0.2], False),
    ([0.3, 0.2, 0.3], True),
    ([0.3, 0.2, 0.31], False),
    ([0.3, None, 0.3], True),
    ([0.1, 0.3, 0.2], False),
  ],
)
def test_patience(values, is_over):
  history = [{"step": step, "AP": value} for step, value in enumerate(values)]
  assert out_of_patience(history, TrainingConfig(patience=2)) == is_over
  assert not out_of_patience(history, TrainingConfig())


@pytest.mark.parametrize(
  ("evaluated", "step", "is_due"),
  [
    ([], 0, False),
    ([], 3, False),
    ([], 4, True),
    ([4], 4, False),
    ([4], 6, False),
    ([4], 8, True),
    ([4, 8], 10, True),  # The last step of all.
    ([4, 8, 10], 10, False),
  ],
)
def test_an_evaluation_is_due_where_none_was_finished_for_an_interval(evaluated, step, is_due):
  history = [{"step": number} for number in evaluated]
  assert evaluation_is_due(history, step, interval=4, total=10) == is_due


def test_patience_without_a_metric_is_refused():
  with pytest.raises(ValueError, match="patience needs a best_metric"):
    TrainingConfig(patience=2, best_metric=None)


@pytest.fixture
def experiment(tiny_detector, shapes_data):
  return Experiment(
    tiny_detector,
    InputConfig(data_dir=str(shapes_data)),
    # Learns nothing: every evaluation finds what the first one did.
    TrainingConfig(
      batch_size=4,
      epochs=0.8,
      learning_rate=1e-12,
      warmup_learning_rate=0.0,
      decay_epochs=(),
      evaluation_epochs=0.2,
      checkpoint_epochs=0.4,
      steps_per_loop=2,
      patience=1,
    ),
  )


@pytest.mark.slow
def test_a_training_ends_out_of_patience_and_its_best_weights_are_exported(
  experiment, tmp_path, capsys
):
  run = train_detector(experiment, tmp_path / "run")
  assert "AP has not risen in 1 evaluations: the training ends" in capsys.readouterr().err
  folder = RunFolder(run.model_dir)
  history = read_history(folder, 99)
  assert [row["step"] for row in history] == [2, 4]
  assert (run.steps, run.evaluation.step) == (4, 2)
  assert "weights of step 2" in run.evaluation.table()
  assert folder.checkpoint_to_use() == str(folder.best / "ckpt-2")

  again = train_detector(experiment, run.model_dir)
  assert "out of patience" in capsys.readouterr().err
  assert (again.steps, again.evaluation) == (4, run.evaluation)
  assert evaluate_detector(run.model_dir).evaluation == run.evaluation

  export = export_detector(run.model_dir, tmp_path / "best", check=True)
  assert find_export(export.path).record()["checkpoint_step"] == 2
  assert export.check.expected
  export = export_detector(run.model_dir, tmp_path / "last", check=True, last=True)
  assert find_export(export.path).record()["checkpoint_step"] == 4
  assert not export.check.expected  # evaluation.json is of other weights.


@pytest.mark.slow
def test_an_evaluation_that_was_interrupted_is_made_first(experiment, tmp_path, capsys):
  config = dataclasses.replace(
    experiment.training, epochs=0.4, checkpoint_epochs=0.2, steps_per_loop=1, patience=None
  )
  experiment = dataclasses.replace(experiment, training=config)
  folder = RunFolder(tmp_path / "run")

  def go_on():
    """Returns the steps whose evaluations are written down then, and what was said."""
    capsys.readouterr()
    run = train_detector(experiment, folder.path)
    assert run.steps == 4
    assert run.evaluation.step == 3  # Of equals the first.
    return [row["step"] for row in read_history(folder, 99)], capsys.readouterr().err

  train_detector(experiment, folder.path, evaluate=False)
  # As if it had been killed in the evaluation of step 3, whose weights were saved before.
  for file in folder.checkpoints.glob("ckpt-4.*"):
    file.unlink()
  evaluated, said = go_on()
  assert evaluated == [3, 4]
  assert "step 3 has not been evaluated: that comes first" in said
  # And in the last one of all, with nothing left to train.
  kept, _ = folder.evaluations_file.read_text().splitlines(keepends=True)
  folder.evaluations_file.write_text(kept)
  evaluated, said = go_on()
  assert evaluated == [3, 4]
  assert "step 4 has not been evaluated: that comes first" in said
  evaluated, said = go_on()
  assert evaluated == [3, 4]
  assert "nothing is left to train" in said


@pytest.mark.slow
def test_a_longer_training_goes_into_a_new_folder(experiment, tmp_path):
  short = dataclasses.replace(
    experiment, training=dataclasses.replace(experiment.training, epochs=0.2, patience=None)
  )
  run = train_detector(short, tmp_path / "run", evaluate=False)
  longer = dataclasses.replace(short.training, epochs=0.4)
  with pytest.raises(UserError, match=r"a new folder and Training\.start_from = .*run'"):
    train_detector(dataclasses.replace(short, training=longer), run.model_dir)
  longer = dataclasses.replace(longer, start_from=str(run.model_dir))
  again = train_detector(dataclasses.replace(short, training=longer), tmp_path / "longer")
  assert again.steps == 4


def test_weights_of_a_best_checkpoint_are_those_of_its_step(folder):
  model, best = go_on(folder)
  offer(model, best, 5, 0.5)
  model.weight.assign(99.0)
  np.testing.assert_equal(kept(folder), 5)
