"""Real trainings on drawn shapes: they learn, resume, stop on NaN, and agree across devices."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.data.config import InputConfig
from official_nasfpn.errors import UserError
from official_nasfpn.training import runner
from official_nasfpn.training.analysis.analysis import analyse
from official_nasfpn.training.analysis.boxes import load_boxes
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.evaluated_under import conditions_of
from official_nasfpn.training.experiment import Experiment, load_experiment, open_dataset
from official_nasfpn.training.nan_guard import TrainingDiverged
from official_nasfpn.training.report.run_report import write_run_report
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.strategies import build_strategy, check_batches
from official_nasfpn.training.training import evaluate_detector, plan_training, train_detector
from tests.program_process import ProgramProcess
from tests.reporting.parsed_page import parsed, tile

PATIENCE_SECONDS = 300


@pytest.fixture
def experiment(tiny_detector, shapes_data):
  return Experiment(
    dataclasses.replace(tiny_detector, anchor_size=2.0),
    InputConfig(data_dir=str(shapes_data)),
    TrainingConfig(
      batch_size=4,
      epochs=0.8,
      learning_rate=0.1,
      warmup_epochs=0.1,
      decay_epochs=(),
      evaluation_batch_size=8,
      checkpoint_epochs=0.4,
      steps_per_loop=2,
    ),
  )


def change(experiment, **settings):
  return dataclasses.replace(
    experiment, training=dataclasses.replace(experiment.training, **settings)
  )


def claim(experiment, path):
  experiment, dataset = open_dataset(experiment)
  folder = RunFolder(path)
  folder.claim(experiment, dataset.label_map)
  return experiment, dataset, folder


@pytest.mark.slow
def test_trains_evaluates_and_goes_on_where_it_stopped(experiment, tmp_path):
  run = train_detector(experiment, tmp_path / "run")
  folder = RunFolder(run.model_dir)
  assert run.steps == 8
  assert run.seconds > 0
  assert folder.latest_checkpoint().endswith("ckpt-8")
  assert list((folder.path / "train").glob("events*"))
  assert list((folder.path / "validation").glob("events*"))
  experiment, dataset = open_dataset(experiment)
  assert run.evaluation.num_images == dataset.num_images(("val",))
  assert set(run.evaluation.class_ap) == {c.name for c in dataset.label_map.categories}
  assert folder.evaluation_file.read_text() == run.evaluation.to_json()
  assert run.evaluation.conditions == conditions_of(experiment, dataset)

  # The training is finished: the same call has nothing to do.
  again = train_detector(experiment, run.model_dir, evaluate=False)
  assert (again.steps, again.evaluation) == (8, None)
  # Evaluating needs the folder only.
  folder.evaluation_file.unlink()
  evaluated = evaluate_detector(str(run.model_dir))
  assert (evaluated.steps, evaluated.evaluation) == (8, run.evaluation)
  assert folder.evaluation_file.read_text() == run.evaluation.to_json()

  # Its report is of that evaluation; a folder of an earlier version is evaluated first.
  analysis = run.evaluation.analysis
  assert sum(row["detected"] for row in analysis["classes"]) == run.evaluation.num_detections
  boxes, made_with = load_boxes(folder.boxes_file)
  assert analyse(boxes).summary() == analysis
  assert made_with.step == 8
  texts = parsed(write_run_report(run.model_dir)).texts
  assert tile(texts, "AP") == f"{run.evaluation.metrics['AP']:.3f}"
  assert {"Loss over train steps", "AP over train steps"} <= set(texts)
  folder.boxes_file.unlink()
  report = write_run_report(run.model_dir, tmp_path / "again.html")
  assert parsed(report).texts[7:] == texts[7:]

  # As if the run had been killed after its first checkpoint.
  for file in folder.checkpoints.glob("ckpt-8.*"):
    file.unlink()
  # TensorFlow's file of names still says ckpt-8; and before, the power had gone while writing.
  (damaged,) = folder.checkpoints.glob("ckpt-6.data*")
  whole = damaged.read_bytes()
  damaged.write_bytes(whole[:1000])
  with pytest.raises(UserError, match=r"ckpt-6 cannot be read: .*to use the one before it"):
    runner.train(experiment, dataset, folder, build_strategy("one_device"))
  damaged.write_bytes(whole)
  before = variables_of(folder)
  assert before["global_step"] == before["optimizer/iter"] == 6
  # Another seed, so that whatever is not restored differs, and no new gradients: in the remaining
  # two steps only momentum moves the weights, by 0.9 and 0.81 of its value.
  changed = change(experiment, seed=1, learning_rate=1e-12, warmup_learning_rate=0.0)
  runner.train(changed, dataset, folder, build_strategy("one_device"))
  after = variables_of(folder)
  assert after["global_step"] == after["optimizer/iter"] == 8
  assert after.keys() == before.keys()
  slots = [name for name in before if name.endswith(SLOT)]
  # The anchors of some levels have matched no box yet.
  assert sum(np.abs(before[slot]).max() > 1e-5 for slot in slots) > 20
  for slot in slots:
    momentum, name = before[slot], slot.removesuffix(SLOT)
    moved = before[name] + (0.9 + 0.81) * momentum
    np.testing.assert_allclose(after[name], moved, rtol=1e-6, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(after[slot], 0.81 * momentum, rtol=1e-5, atol=1e-9, err_msg=slot)


SLOT = "/.OPTIMIZER_SLOT/optimizer/momentum"


def variables_of(folder):
  """Returns all variables of the newest checkpoint by name."""
  reader = tf.train.load_checkpoint(folder.latest_checkpoint())
  ending = "/.ATTRIBUTES/VARIABLE_VALUE"
  return {
    name.removesuffix(ending): reader.get_tensor(name)
    for name in reader.get_variable_to_shape_map()
    if name.endswith(ending)
  }


@pytest.mark.slow
def test_one_seed_fixes_the_training_also_that_of_the_program(experiment, tmp_path, weights):
  # Two repeats of NAS-FPN: large enough for TensorFlow's arithmetic optimizer to change sums.
  detector = dataclasses.replace(experiment.detector, architecture="nas_fpn", num_repeats=2)
  experiment = change(dataclasses.replace(experiment, detector=detector), seed=3, epochs=0.2)
  recipe = tmp_path / "recipe.gin"
  recipe.write_text(experiment.to_gin())

  def train(name, **settings):
    # Evaluations during the training, and their pictures, do not change it.
    evaluate = name == "evaluated"
    run = train_detector(change(experiment, **settings), tmp_path / name, evaluate=evaluate)
    return run, weights(RunFolder(run.model_dir))

  _, first = train("first")
  _, other = train("other", seed=4)
  # The caller may have Keras layers of its own, with another policy.
  tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
  try:
    run, evaluated = train("evaluated", evaluation_epochs=0.1)
    assert tf_keras.mixed_precision.global_policy().name == "mixed_bfloat16"
  finally:
    tf_keras.mixed_precision.set_global_policy("float32")
  process = ProgramProcess(
    "official_nasfpn.train",
    [f"--gin_file={recipe}", f"--model_dir={tmp_path / 'program'}"],
    # As many threads as here: how sums are divided depends on their number. Neither has oneDNN,
    # with which they differ by 1e-4.
    environment={
      "TF_NUM_INTRAOP_THREADS": os.environ.get("TF_NUM_INTRAOP_THREADS", "0"),
      "TF_ENABLE_ONEDNN_OPTS": "0",
    },
  )
  assert process.wait(PATIENCE_SECONDS) == 0, process.stderr
  program = weights(RunFolder(tmp_path / "program"))
  assert program.keys() == evaluated.keys() == first.keys()
  for name, value in first.items():
    np.testing.assert_array_equal(evaluated[name], value, err_msg=name)
    # Another process may divide sums among its threads differently.
    np.testing.assert_allclose(program[name], value, atol=1e-5, err_msg=name)
  assert any(not np.allclose(value, other[name], atol=1e-3) for name, value in first.items())
  assert run.evaluation.compute_dtype == "float32"
  stored = json.loads((tmp_path / "program" / "evaluation.json").read_text())
  assert stored["num_images"] == run.evaluation.num_images
  assert stored["metrics"] == pytest.approx(run.evaluation.metrics, abs=1e-3)
  assert "AP by class:" in process.stdout


def test_what_is_wrong_is_said_before_a_folder_is_claimed(experiment, tmp_path, monkeypatch):
  with pytest.raises(UserError, match=r"Unknown .*'two_devices'; choose one of .*'mirrored'"):
    train_detector(experiment, tmp_path / "run", distribution_strategy="two_devices")
  with pytest.raises(UserError, match="its name, address or `local`"):
    train_detector(experiment, tmp_path / "run", distribution_strategy="tpu")
  with pytest.raises(UserError, match="--tpu=local needs --distribution_strategy=tpu, which is mi"):
    train_detector(experiment, tmp_path / "run", distribution_strategy="mirrored", tpu="local")
  monkeypatch.delenv("TF_CONFIG", raising=False)
  with pytest.raises(UserError, match="TF_CONFIG, which is not set"):
    train_detector(experiment, tmp_path / "run", distribution_strategy="multi_worker_mirrored")
  data = InputConfig(data_dir=str(tmp_path))
  with pytest.raises(UserError, match="holds no prepared dataset"):
    train_detector(dataclasses.replace(experiment, input=data), tmp_path / "run")
  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "thesis.tex").write_text("years of work")
  with pytest.raises(UserError, match="holds files, but no run"):
    train_detector(experiment, tmp_path / "other")
  shutil.rmtree(tmp_path / "other")
  with pytest.raises(UserError, match="is not a run folder"):
    evaluate_detector(tmp_path / "run")
  with pytest.raises(UserError, match="has no checkpoint yet"):
    evaluate_detector(tmp_path / "run", experiment=experiment)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("settings", "said"),
  [
    ({"batch_size": 5}, r"Training\.batch_size = 5 images .* by 2 devices\. .*batch_size = 4"),
    (
      {"batch_size": 12, "micro_batches": 4},
      r"by 2 devices, each in 4 micro-batches\. .*batch_size = 8",
    ),
    ({"evaluation_batch_size": 3}, r"evaluation_batch_size = 3 images .*batch_size = 4\""),
  ],
)
def test_batches_that_devices_cannot_share_are_refused_before_anything_is_made(
  experiment, tmp_path, settings, said
):
  experiment = change(experiment, **settings)
  with pytest.raises(UserError, match=said):
    train_detector(experiment, tmp_path / "run", distribution_strategy="mirrored")
  with pytest.raises(UserError, match=said):
    plan_training(experiment, distribution_strategy="mirrored")
  assert not list(tmp_path.iterdir())


def test_a_batch_of_evaluations_may_be_another_one(experiment, tmp_path):
  claim(experiment, tmp_path / "run")
  claim(change(experiment, evaluation_batch_size=2), tmp_path / "run")
  # What is not evaluated needs none that the devices can share.
  odd = change(experiment, evaluation_batch_size=3)
  check_batches(odd.training, build_strategy("mirrored"), evaluates=False)
  with pytest.raises(UserError, match=r"Training\.evaluation_batch_size = 3"):
    check_batches(odd.training, build_strategy("mirrored"), trains=False)


def test_a_plan_counts_the_steps_of_the_training(experiment, shapes_data):
  plan = plan_training(experiment)
  assert (plan.num_steps, plan.num_images, plan.num_classes) == (8, 38, 4)
  assert plan.num_devices == 1
  assert plan.assumption is None


@pytest.mark.slow
def test_a_nan_stops_the_run_and_saves_nothing(experiment, tmp_path):
  settings, dataset, folder = claim(
    change(experiment, learning_rate=1e30, warmup_learning_rate=1e30), tmp_path / "run"
  )
  with pytest.raises(TrainingDiverged, match="learning_rate") as caught:
    runner.train(settings, dataset, folder, build_strategy("one_device"))
  assert 1 < caught.value.step <= 6
  assert not all(np.isfinite(list(caught.value.terms.values())))
  saved = tf.train.latest_checkpoint(str(folder.checkpoints))
  assert saved is None or int(saved.rsplit("-", 1)[1]) < caught.value.step


@pytest.mark.slow
def test_two_devices_learn_what_one_learns(experiment, tmp_path, weights):
  # Batch statistics differ between replicas unless they are synchronised. Backbone and pyramid have
  # enough batch norms to show it.
  detector = dataclasses.replace(experiment.detector, sync_batch_norm=True, head_num_convs=0)
  experiment = dataclasses.replace(change(experiment, epochs=0.2), detector=detector)
  runs = []
  for strategy in ("one_device", "mirrored"):
    settings, dataset, folder = claim(experiment, tmp_path / strategy)
    runner.train(settings, dataset, folder, build_strategy(strategy))
    runs.append(weights(folder))
  one, two = runs
  for name, value in one.items():
    np.testing.assert_allclose(two[name], value, rtol=2e-2, atol=2e-3, err_msg=name)


def test_an_experiment_survives_its_gin_text(experiment, tmp_path):
  file = tmp_path / "config.gin"
  file.write_text(experiment.to_gin())
  assert load_experiment([file]) == experiment


def test_a_run_folder_refuses_another_experiment(experiment, tmp_path):
  claim(experiment, tmp_path / "run")
  claim(experiment, tmp_path / "run")
  with pytest.raises(UserError, match=r"Training.batch_size is 4 there and 8 here"):
    claim(change(experiment, batch_size=8), tmp_path / "run")


def test_a_claim_that_was_killed_is_completed(experiment, tmp_path):
  _, dataset, folder = claim(experiment, tmp_path / "run")
  folder.label_map_file.unlink()
  claim(experiment, tmp_path / "run")
  assert folder.load()[1] == dataset.label_map


def test_a_run_from_before_a_setting_was_added_goes_on(experiment, tmp_path):
  experiment, dataset, folder = claim(experiment, tmp_path / "run")
  text = folder.config_file.read_text()
  line = "Detector.separable_convolutions = False\n"
  assert line in text
  folder.config_file.write_text(text.replace(line, ""))
  folder.claim(experiment, dataset.label_map)
  separable = dataclasses.replace(experiment.detector, separable_convolutions=True)
  with pytest.raises(UserError, match="separable_convolutions is False there and True here"):
    folder.claim(dataclasses.replace(experiment, detector=separable), dataset.label_map)


def test_a_folder_of_something_else_is_left_alone(experiment, tmp_path):
  (tmp_path / "thesis.tex").write_text("years of work")
  with pytest.raises(UserError, match="holds files, but no run"):
    claim(experiment, tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_num_classes_must_agree_with_the_label_map(experiment):
  detector = dataclasses.replace(experiment.detector, num_classes=91)
  with pytest.raises(UserError, match=r"num_classes is 91, but the label map .* has 4 classes"):
    open_dataset(dataclasses.replace(experiment, detector=detector))


def test_a_truncated_shard_is_named(experiment, shapes_data, tmp_path):
  copy = tmp_path / "data"
  shutil.copytree(shapes_data, copy)
  shard = sorted(copy.glob("train-*.tfrecord"))[0]
  shard.write_bytes(shard.read_bytes()[:-7])
  data = InputConfig(data_dir=str(copy))
  with pytest.raises(UserError, match=shard.name):
    open_dataset(dataclasses.replace(experiment, input=data))


def test_evaluation_files_are_json(experiment, tmp_path):
  _, dataset, folder = claim(experiment, tmp_path / "run")
  assert json.loads(folder.label_map_file.read_text())["categories"][0]["label"] == 1
  assert folder.load() == (open_dataset(experiment)[0], dataset.label_map)
