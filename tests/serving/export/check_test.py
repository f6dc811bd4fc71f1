"""The check of an export: what int8 may lose, and what is said of it."""

import dataclasses
import json
import shutil
import types

import pytest
import tensorflow as tf
from official.vision.modeling.layers import nn_blocks

from official_nasfpn.errors import UserError
from official_nasfpn.serving.export import check as check_module
from official_nasfpn.serving.export import tflite_file
from official_nasfpn.serving.export.check import Check, check_export
from official_nasfpn.serving.export.export_detector import export_detector
from official_nasfpn.training.coco_evaluation import METRICS, EvaluationResult
from official_nasfpn.training.restore import restore_detector
from official_nasfpn.training.run_folder import RunFolder


def evaluation(ap, **class_ap):
  return EvaluationResult(dict.fromkeys(METRICS, ap), class_ap, (), 5, 10)


def int8_check(ours, theirs, allowed=0.02):
  return Check(ours, {None: theirs.metrics}, theirs.class_ap, allowed)


class TestALoss:
  def test_what_is_allowed_passes_and_is_stated(self):
    check = int8_check(evaluation(0.31, ant=0.3, bee=0.32), evaluation(0.32, ant=0.33, bee=0.31))
    check_module._refuse_a_loss(check, "lite")
    assert "  ant  0.3000  0.3300\n" in check.table()
    assert check.table().endswith("An export in int8 may lose 0.020 of AP on these images.")

  def test_more_is_refused_with_classes_and_advice(self):
    check = int8_check(evaluation(0.03, ant=0.06, bee=None), evaluation(0.33, ant=0.3, bee=0.36))
    with pytest.raises(UserError) as caught:
      check_module._refuse_a_loss(check, "lite")
    assert str(caught.value) == (
      "The AP of lite is 0.030 in int8 and 0.330 in floats: a loss of 0.300, and 0.020 is allowed. "
      "By class, in floats and in int8: bee 0.360 and 0.000, ant 0.300 and 0.060. Export with "
      "--precision float16, or calibrate int8 with more images, --calibration_images."
    )

  def test_of_many_classes_the_worst_are_named(self):
    theirs = {f"class {index}\x1b": 0.5 for index in range(12)}
    ours = {name: 0.1 if index == 7 else 0.4 for index, name in enumerate(theirs)}
    check = int8_check(evaluation(0.37, **ours), evaluation(0.5, **theirs))
    with pytest.raises(UserError, match=r"int8: class 7\\x1b 0\.500 and 0\.100, .* and 2 more\."):
      check_module._refuse_a_loss(check, "lite")

  def test_a_gain_is_no_loss(self):
    check_module._refuse_a_loss(int8_check(evaluation(0.5), evaluation(0.1)), "lite")

  def test_nothing_to_compare_with_is_said(self):
    table = Check(evaluation(0.5), {}, why_not="there is none").table()
    assert "note: nothing was compared: there is none; `nasfpn train" in table


class TestTheEvaluationOfTheRun:
  """An untrained run, at step 7, and its export."""

  @pytest.fixture
  def stored(self, run_copy, saved_detector):
    """Returns a function that writes an evaluation; what is taken of it is returned, or why not."""

    def write(conditions, step=7):
      written = dataclasses.replace(evaluation(0.5), step=step, conditions=conditions)
      run_copy.evaluation_file.write_text(written.to_json())
      wanted = {"annotations_sha256": "1", "Detector.score_threshold": 0.05}
      return check_module._stored_evaluation(saved_detector, run_copy, wanted)[1:]

    return write

  def test_of_the_same_settings_and_data_is_compared_with(self, stored, saved_detector):
    found, why_not = stored({"annotations_sha256": "1", "Detector.score_threshold": 0.05})
    assert not why_not
    expected, _ = check_module._expected(saved_detector, found)
    assert expected[None]["AP"] == 0.5

  @pytest.mark.parametrize(
    ("conditions", "reason"),
    [
      (
        {"annotations_sha256": "1", "Detector.score_threshold": 0.5},
        "is with Detector.score_threshold = 0.5 instead of 0.05",
      ),
      (
        {"annotations_sha256": "2", "Detector.score_threshold": 0.05},
        "is of other annotations",
      ),
      # A file of an earlier version.
      (None, "does not say on which data and with which settings it was made"),
    ],
  )
  def test_of_others_is_not_and_the_reason_is_said(
    self, stored, saved_detector, conditions, reason
  ):
    found, why_not = stored(conditions)
    assert why_not.endswith(f"evaluation.json {reason}")
    assert check_module._expected(saved_detector, found) == ({}, {})

  def test_of_other_weights_is_not(self, stored):
    assert stored(None, step=5)[1].endswith("is of step 5, the export of step 7")

  def test_of_other_weights_gives_way_to_that_of_the_best(self, stored, run_copy):
    conditions = {"annotations_sha256": "1", "Detector.score_threshold": 0.05}
    run_copy.best.mkdir()
    best = dataclasses.replace(evaluation(0.25), step=7, conditions=conditions)
    run_copy.best_evaluation_file.write_text(best.to_json())
    found, why_not = stored(conditions, step=9)
    assert (found["metrics"]["AP"], why_not) == (0.25, "")
    assert stored(conditions, step=7)[0]["metrics"]["AP"] == 0.5
    # Nor does the best help if it is of other weights, or unlike the export.
    for change in ({"step": 5}, {"conditions": {**conditions, "annotations_sha256": "2"}}):
      run_copy.best_evaluation_file.write_text(dataclasses.replace(best, **change).to_json())
      assert stored(conditions, step=9)[0] == {}

  def test_of_the_best_is_enough(self, run_copy, saved_detector):
    run_copy.best.mkdir()
    best = dataclasses.replace(evaluation(0.25), step=7, conditions={"annotations_sha256": "1"})
    run_copy.best_evaluation_file.write_text(best.to_json())
    wanted = {"annotations_sha256": "1"}
    file, found, why_not = check_module._stored_evaluation(saved_detector, run_copy, wanted)
    assert (found["metrics"]["AP"], why_not) == (0.25, "")
    assert file == run_copy.best_evaluation_file
    run_copy.best_evaluation_file.write_text("[]")
    with pytest.raises(UserError, match=r"best/evaluation\.json cannot be read .*--mode evaluate"):
      check_module._stored_evaluation(saved_detector, run_copy, wanted)

  def test_need_not_be_there(self, run_copy, saved_detector):
    run_copy.evaluation_file.unlink(missing_ok=True)
    _, found, why_not = check_module._stored_evaluation(saved_detector, run_copy, {})
    assert (found, why_not[:43]) == ({}, "the run has no evaluation of these weights:")


def test_the_weights_to_compare_int8_with_may_be_the_best_alone(run_copy, monkeypatch):
  compared_with = []
  monkeypatch.setattr(check_module, "find_format", lambda name: name)
  monkeypatch.setattr(check_module, "Detector", lambda path: path)
  monkeypatch.setattr(check_module, "evaluate_export", lambda *_: evaluation(0.5))
  monkeypatch.setattr(
    check_module, "export_file", lambda folder, checkpoint, *_: compared_with.append(checkpoint)
  )
  record = {"checkpoint_step": 7, "exit": 2}
  lite = types.SimpleNamespace(path="lite", format="tflite", record=record)
  run_copy.checkpoints.rename(run_copy.best)
  check_module._in_floats(lite, run_copy, None, "val")
  assert compared_with == [str(run_copy.best / "ckpt-7")]
  record["checkpoint_step"] = 8
  with pytest.raises(UserError, match=r"nor the checkpoint of its weights, of step 8\."):
    check_module._in_floats(lite, run_copy, None, "val")


def collapse(source: RunFolder, path) -> RunFolder:
  """Copies a run; a channel in each residual block becomes 1000 times as large, and again as small.

  In floats the detector stays the same; integers have one range for all channels of a layer.
  """
  run = RunFolder(shutil.copytree(source.path, path))
  experiment, label_map = run.load()
  checkpoint = run.latest_checkpoint()
  detector = restore_detector(experiment, label_map, checkpoint)
  blocks = [layer for layer in detector.submodules if isinstance(layer, nn_blocks.ResidualBlock)]
  assert blocks
  for block in blocks:
    scale = tf.one_hot(0, block._norm1.gamma.shape[0], 1000.0, 1.0)
    block._norm1.gamma.assign(block._norm1.gamma * scale)
    block._norm1.beta.assign(block._norm1.beta * scale)
    kernel = block._conv2.kernel
    kernel.assign(kernel / scale[:, tf.newaxis])
  shutil.rmtree(run.checkpoints)
  step = int(checkpoint.rsplit("-", 1)[1])
  saved = tf.train.Checkpoint(model=detector)
  tf.train.CheckpointManager(saved, str(run.checkpoints), 1).save(checkpoint_number=step)
  return run


@pytest.mark.slow
def test_a_network_that_integers_do_not_suit_fails_the_check(trained_detector, tmp_path):
  folder, dataset, trained = trained_detector("R-10")
  run = collapse(folder, tmp_path / "run")
  lite = tmp_path / "lite"
  name = dataset.label_map.categories[0].name
  message = rf"in int8 and 0\.\d+ in floats: .* is allowed\. By class.*{name} .*--precision float16"
  with pytest.raises(UserError, match=message):
    export_detector(run.path, lite, "tflite", "int8", check=True)
  # The run says nothing of these weights: the same export in floats does.
  stored = json.loads(run.evaluation_file.read_text())
  run.evaluation_file.write_text(json.dumps({**stored, "step": 1}))
  with pytest.raises(UserError, match=message):
    check_export(lite, run)
  in_floats = export_detector(run.path, tmp_path / "floats", "tflite", check=True).check.result
  assert in_floats.metrics["AP"] == pytest.approx(trained.metrics["AP"], abs=1e-3)


@pytest.mark.slow
def test_a_pixel_means_the_same_whatever_was_calibrated_with(trained_detector, monkeypatch):
  interpreter = pytest.importorskip("ai_edge_litert.interpreter")
  run = trained_detector("R-10")[0]
  experiment, label_map = run.load()
  detector = restore_detector(experiment, label_map, run.latest_checkpoint())
  bright = tflite_file._calibration_images
  monkeypatch.setattr(
    tflite_file, "_calibration_images", lambda *choice: (0.3 * image for image in bright(*choice))
  )
  content = tflite_file.to_tflite_int8(detector, experiment, 1, calibration_images=2)
  run = interpreter.Interpreter(model_content=content).get_signature_runner()
  scale, zero = run.get_input_details()["images"]["quantization"]
  assert (scale, zero) == (pytest.approx(1.0), 0)


def test_calibration_images_are_for_int8(untrained_run, tmp_path):
  with pytest.raises(UserError, match="--calibration_images is for --precision int8"):
    export_detector(untrained_run.path, tmp_path / "a", "tflite", calibration_images=3)
