"""The function behind `nasfpn export`: its result, and what it refuses before any work."""

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.serving.export import model_file, saved_model
from official_nasfpn.serving.export.export_detector import export_detector
from official_nasfpn.serving.formats import FORMATS


@pytest.fixture
def no_restoring(monkeypatch):
  """Fails the test if a checkpoint is restored: errors must come first."""

  def restore(*_):
    pytest.fail("the checkpoint was restored")

  for module in (model_file, saved_model):
    monkeypatch.setattr(module, "restore_detector", restore)


def test_it_tells_what_it_made(anytime_run, anytime_export_dir, no_restoring):
  export = export_detector(str(anytime_run.path), str(anytime_export_dir))
  assert not export.is_new
  assert (export.path, export.version) == (anytime_export_dir / "1", 1)
  assert (export.format, export.precision) == ("saved_model", "float32")
  files = [file for file in export.path.rglob("*") if file.is_file()]
  assert export.num_bytes == sum(len(file.read_bytes()) for file in files) > 100_000
  assert [latency.exit for latency in export.exit_latency] == [1, 2, 3]
  assert export.check is None


@pytest.fixture
def lite_export(exported_file):
  """Made before restoring is forbidden."""
  return exported_file("tflite")


def test_it_tells_what_file_it_made(untrained_run, lite_export, no_restoring):
  path = lite_export
  export = export_detector(untrained_run.path, path, "tflite")
  assert (export.path, export.version, export.is_new) == (path, 1, False)
  assert (export.format, export.precision, export.has_warm_up) == ("tflite", "float32", False)
  assert export.exit_latency == ()


@pytest.mark.parametrize(
  ("choices", "message"),
  [
    ({"format": "onxx"}, "Did you mean 'onnx'"),
    ({"precision": "int8"}, "--precision and --exit are for --format onnx and tflite"),
    ({"exit_number": 1}, "--precision and --exit are for --format onnx and tflite"),
    ({"format": "onnx", "precision": "int8"}, "--precision int8 is for --format tflite"),
    ({"format": "tflite", "precision": "int9"}, "the nearest is --precision int8"),
    ({"format": "tflite", "exit_number": 4}, r"--exit 4: .* can be exported at exit 1, 2, 3\."),
    ({"format": "tflite", "precision": "int8"}, "int8 is calibrated with images of the run's own"),
  ],
  ids=str,
)
def test_a_choice_that_cannot_be_made_is_refused_first(
  anytime_run, tmp_path, no_restoring, choices, message
):
  with pytest.raises(UserError, match=message):
    export_detector(anytime_run.path, tmp_path / "model", **choices)
  assert not list(tmp_path.iterdir())


def test_a_folder_below_which_no_saved_model_could_be_loaded_is_refused_first(
  untrained_run, tmp_path, no_restoring
):
  with pytest.raises(UserError, match=r"TensorFlow takes \[ in a path for a pattern"):
    export_detector(untrained_run.path, tmp_path / "best[1]")
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format_", FORMATS)
def test_a_folder_of_something_else_is_refused_first(
  untrained_run, tmp_path, no_restoring, format_
):
  (tmp_path / "thesis.txt").write_text("ten years of work")
  with pytest.raises(UserError, match="new folder"):
    export_detector(untrained_run.path, tmp_path, format_)
  with pytest.raises(UserError, match="is not a run folder"):
    export_detector(tmp_path, tmp_path / "model", format_)
  assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
