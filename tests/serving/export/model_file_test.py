"""Exports to one file, for ONNX Runtime and LiteRT: their content, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.errors import UserError
from official_nasfpn.serving.detectors.detector import Detector
from official_nasfpn.serving.export.check import check_export
from official_nasfpn.serving.export.export_detector import export_detector
from official_nasfpn.serving.formats import FORMATS
from tests.serving.agreement import of_image

FILES = [row.name for row in FORMATS.values() if row.conversions]
CHOICES = [(name, precision) for name in FILES for precision in FORMATS[name].conversions]


@pytest.fixture(scope="module")
def onnx_dir(exported_file):
  return exported_file("onnx")


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_the_ap_is_that_of_the_training(trained_detector, trained_file, choice):
  folder, _, evaluation = trained_detector("NAS-FPNLite")
  check = check_export(trained_file("NAS-FPNLite", *choice), folder)
  assert check.result.num_images == evaluation.num_images
  # For int8 with 16 calibration images; on BCCD it is at most 0.01 (docs/results.md).
  allowed = {"float32": 0.001, "float16": 0.02, "int8": 0.05}[choice[1]]
  assert check.result.metrics["AP"] == pytest.approx(evaluation.metrics["AP"], abs=allowed)
  assert f"{evaluation.metrics['AP']:.4f}" in check.table()


@pytest.mark.slow
def test_a_run_in_bfloat16_is_exported_in_float32(trained_detector, tmp_path):
  folder, _, evaluation = trained_detector("R-10", "mixed_bfloat16")
  export_detector(folder.path, tmp_path / "model", "onnx")
  # It differs from the run's own evaluation by bfloat16's rounding only,
  check = check_export(tmp_path / "model", folder)
  assert check.result.num_images == evaluation.num_images
  assert f"{evaluation.metrics['AP']:.4f}" in check.table()
  # and not at all from the same weights in float32.
  _, _, in_float32 = trained_detector("R-10", "float32")
  assert check.result.metrics["AP"] == pytest.approx(in_float32.metrics["AP"], abs=0.001)


@pytest.mark.parametrize("format_", FILES)
def test_called_as_a_saved_model_is(exported_file, saved_detector, photo, format_):
  detector = Detector(exported_file(format_))
  encoded = [
    tf.io.encode_png(np.asarray(photo(*size))).numpy() for size in [(256, 128), (90, 300), (1, 1)]
  ]
  found, expected = detector(encoded), saved_detector(encoded)
  assert set(found) == set(expected)
  for name, values in expected.items():
    assert (found[name].shape, found[name].dtype.kind) == (values.shape, values.dtype.kind), name
  for index in range(len(encoded)):
    count = found["num_detections"][index]
    assert count == 20
    np.testing.assert_allclose(found["scores"][index], expected["scores"][index], atol=1e-5)
    for outputs in (found, expected):
      ids = [detector.label_map.category_id(c) for c in outputs["classes"][index]]
      assert outputs["category_ids"][index].tolist() == ids
      names = [detector.label_map.name(c).encode() for c in outputs["classes"][index]]
      assert outputs["labels"][index].tolist() == names
  with pytest.raises(UserError, match=r"There is no exit 1: .* has one exit only"):
    detector(encoded, 1)


def test_litert_keeps_no_box_twice(exported_file):
  interpreter = pytest.importorskip("ai_edge_litert.interpreter")
  file = str(exported_file("tflite") / "model.tflite")
  run = interpreter.Interpreter(file).get_signature_runner()
  # If an image fills only a corner of the input, most boxes have no area after clipping.
  images = np.random.default_rng(0).uniform(0, 255, [1, 128, 256, 3]).astype(np.float32)
  outputs = run(images=images, sizes=np.array([[24, 40]], np.float32))
  found = of_image(outputs, 0)
  assert len(found["scores"]) == 20
  np.testing.assert_array_less(found["boxes"][:, :2], found["boxes"][:, 2:])
  assert len(np.unique(np.c_[found["boxes"], found["classes"]], axis=0)) == 20


@pytest.mark.slow
def test_an_early_exit(anytime_run, anytime_detector, photo, tmp_path):
  encoded = [tf.io.encode_png(np.asarray(photo(256, 128))).numpy()]
  for number in (1, 3):
    path = tmp_path / str(number)
    export_detector(anytime_run.path, path, "onnx", exit_number=number)
    found, expected = (
      of_image(outputs, 0)
      for outputs in (Detector(path)(encoded), anytime_detector(encoded, number))
    )
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-5)
  sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("1", "3")]
  # The file has no weights beyond the exit.
  assert sizes[1] - sizes[0] > 100_000
  with pytest.raises(UserError, match=r"--exit 4: .* can be exported at exit 1, 2, 3\."):
    export_detector(anytime_run.path, tmp_path / "4", "onnx", exit_number=4)


def test_beside_the_file_lies_what_explains_it(onnx_dir, untrained_run):
  names = {"model.onnx", "label_map.json", "config.gin", "export.json", "SHA256SUMS"}
  assert {path.name for path in onnx_dir.iterdir()} == names
  assert [path.name for path in onnx_dir.parent.iterdir()] == [onnx_dir.name]
  assert onnx_dir.stat().st_mode & 0o055 == 0o055
  record = json.loads((onnx_dir / "export.json").read_text())
  assert {name: record[name] for name in ("format", "precision", "exit", "checkpoint_step")} == {
    "format": "onnx",
    "precision": "float32",
    "exit": 2,
    "checkpoint_step": 7,
  }
  assert (onnx_dir / "config.gin").read_text() == untrained_run.config_file.read_text()


def test_the_same_again_is_nothing_to_do(onnx_dir, untrained_run):
  before = (onnx_dir / "model.onnx").stat().st_mtime_ns
  assert not export_detector(untrained_run.path, onnx_dir, "onnx").is_new
  assert (onnx_dir / "model.onnx").stat().st_mtime_ns == before


def test_what_is_there_is_not_overwritten(
  onnx_dir, run_copy, export_dir, change_detector, tmp_path
):
  with pytest.raises(UserError, match="with format 'onnx' instead of 'tflite'"):
    export_detector(run_copy.path, onnx_dir, "tflite")
  with pytest.raises(UserError, match=r"holds files, but no export\.json"):
    export_detector(run_copy.path, export_dir, "onnx")
  for file in run_copy.checkpoints.glob("ckpt-7.*"):
    file.rename(file.with_name(file.name.replace("ckpt-7", "ckpt-9")))
  state = run_copy.checkpoints / "checkpoint"
  state.write_text(state.read_text().replace("ckpt-7", "ckpt-9"))
  with pytest.raises(UserError, match="is an export of an earlier checkpoint"):
    export_detector(run_copy.path, onnx_dir, "onnx")
  change_detector(run_copy, score_threshold=0.5)
  with pytest.raises(UserError, match="is an export of another run"):
    export_detector(run_copy.path, onnx_dir, "onnx")


def test_what_cannot_be_made_is_refused(untrained_run, run_copy, change_detector, tmp_path):
  with pytest.raises(UserError, match="--precision int8 is for --format tflite"):
    export_detector(untrained_run.path, tmp_path / "model", "onnx", "int8")
  # Its data is missing.
  with pytest.raises(UserError, match=r"int8 is calibrated with images of the run's own data: "):
    export_detector(untrained_run.path, tmp_path / "model", "tflite", "int8")
  change_detector(run_copy, num_filters=24)
  with pytest.raises(UserError, match="num_filters"):
    export_detector(run_copy.path, tmp_path / "model", "tflite")
  assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("format_", FILES)
def test_a_damaged_file_is_named(exported_file, tmp_path, format_):
  shutil.copytree(exported_file(format_), tmp_path / "model")
  (file,) = (tmp_path / "model").glob("model.*")
  file.write_bytes(file.read_bytes()[:1000])
  with pytest.raises(UserError, match=rf"is damaged: {file.name} is not what was exported"):
    Detector(tmp_path / "model")
  # Without sums, as of an earlier version.
  (tmp_path / "model" / "SHA256SUMS").unlink()
  with pytest.raises(UserError, match=r"is damaged: .* Export it again\."):
    Detector(tmp_path / "model")


@pytest.mark.slow
def test_as_a_person_runs_it(untrained_run, tmp_path, run_program, photo):
  export, out = tmp_path / "lite", tmp_path / "out"
  process = run_program(
    *("export", "--model_dir", untrained_run.path, "--output_dir", export, "--format", "tflite")
  )
  assert process.returncode == 0, process.stderr
  assert process.stdout.startswith("Exported ")
  photo(90, 60).save(tmp_path / "photo.png")
  process = run_program(
    *("detect", "--export_dir", export, "--output_dir", out, tmp_path / "photo.png"),
    *("--score_threshold", "0"),
  )
  assert process.returncode == 0, process.stderr
  assert len(json.loads((out / "detections.json").read_text())) == 20
