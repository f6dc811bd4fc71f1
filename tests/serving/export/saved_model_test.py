"""From a run folder to a SavedModel: its content, and what is refused."""

import io
import json
import resource
import shutil

import pytest
import tensorflow as tf
from PIL import ExifTags, Image

from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.serving.detectors.detector import Detector
from official_nasfpn.serving.export import saved_model
from official_nasfpn.serving.export.export_detector import export_detector
from official_nasfpn.serving.export_folder import ExitLatency


def test_the_signature_has_named_inputs_and_outputs(export_dir):
  signature = tf.saved_model.load(str(export_dir / "1")).signatures["serving_default"]
  _, inputs = signature.structured_input_signature
  assert inputs == {"image_bytes": tf.TensorSpec([None], tf.string, "image_bytes")}
  outputs = {name: (o.dtype, o.shape.as_list()) for name, o in signature.structured_outputs.items()}
  assert outputs == {
    "boxes": (tf.float32, [None, 20, 4]),
    "scores": (tf.float32, [None, 20]),
    "classes": (tf.int32, [None, 20]),
    "category_ids": (tf.int64, [None, 20]),
    "labels": (tf.string, [None, 20]),
    "num_detections": (tf.int32, [None]),
  }


def test_label_map_and_resolved_config_are_inside(export_dir, untrained_run):
  assets = export_dir / "1" / "assets"
  assert LabelMap.load(assets / "label_map.json").name(2) == "cat"
  assert (assets / "config.gin").read_text() == untrained_run.config_file.read_text()
  assert json.loads((assets / "export.json").read_text())["checkpoint_step"] == 7


def test_only_the_export_is_left_and_others_may_read_it(export_dir):
  assert [path.name for path in export_dir.parent.iterdir()] == [export_dir.name]
  assert [path.name for path in export_dir.iterdir()] == ["1"]
  assert (export_dir / "1").stat().st_mode & 0o055 == 0o055


def test_no_image_of_the_data_travels_with_an_export(anytime_run, photo, monkeypatch, tmp_path):
  pytest.importorskip("tensorflow_serving")
  file, exif, timed = io.BytesIO(), Image.Exif(), []
  exif[ExifTags.Base.ImageDescription] = "at home"
  photo(90, 60).save(file, "JPEG", exif=exif)

  def measure(functions, images):
    timed.extend(images)
    return tuple(ExitLatency(number, 1.0, 1.0) for number in functions)

  monkeypatch.setattr(saved_model, "sample_images", lambda _: ([file.getvalue()], "part 'val'"))
  monkeypatch.setattr(saved_model, "measure_exits", measure)
  export = export_detector(anytime_run.path, tmp_path / "export")
  assert timed == [file.getvalue()]
  assert export.has_warm_up
  files = [path for path in export.path.rglob("*") if path.is_file()]
  assert not [path.name for path in files if b"at home" in path.read_bytes()]


def test_a_copied_run_is_the_same_export_and_nothing_is_repeated(export_dir, run_copy):
  before = (export_dir / "1" / "saved_model.pb").stat().st_mtime_ns
  export = export_detector(run_copy.path, export_dir)
  assert not export.is_new
  assert export.path == export_dir / "1"
  assert (export_dir / "1" / "saved_model.pb").stat().st_mtime_ns == before


def rename_checkpoint(run, old, new):
  for file in run.checkpoints.glob(f"{old}.*"):
    file.rename(file.with_name(file.name.replace(old, new)))
  state = run.checkpoints / "checkpoint"
  state.write_text(state.read_text().replace(old, new))


def test_a_later_checkpoint_becomes_the_next_version(export_dir, run_copy, tmp_path):
  exports = shutil.copytree(export_dir, tmp_path / "exports")
  rename_checkpoint(run_copy, "ckpt-7", "ckpt-9")
  export = export_detector(run_copy.path, exports)
  assert export.is_new
  assert sorted(path.name for path in exports.iterdir()) == ["1", "2"]
  assert Detector(exports).path == exports / "2" == export.path
  assert Detector(exports / "1").path == exports / "1"
  assert not export_detector(run_copy.path, exports).is_new
  rename_checkpoint(run_copy, "ckpt-9", "ckpt-8")
  with pytest.raises(UserError, match="of a later checkpoint, of step 9 where this is step 8"):
    export_detector(run_copy.path, exports)


def test_an_export_of_another_run_is_left_alone(export_dir, run_copy, change_detector):
  change_detector(run_copy, max_detections=5)
  with pytest.raises(UserError, match="export of another run"):
    export_detector(run_copy.path, export_dir)


@pytest.mark.parametrize("is_folder", [True, False])
def test_something_else_is_not_overwritten(untrained_run, tmp_path, is_folder):
  output_dir = tmp_path / "mine"
  file = output_dir / "thesis.txt" if is_folder else output_dir
  file.parent.mkdir(exist_ok=True)
  file.write_text("ten years of work")
  with pytest.raises(UserError, match="is not an export of ours"):
    export_detector(untrained_run.path, output_dir)
  assert file.read_text() == "ten years of work"


@pytest.mark.parametrize(
  "settings",
  [
    {"num_filters": 24},
    {"num_repeats": 3},
    # The checkpoint has all its weights and more.
    {"num_repeats": 1},
    {"architecture": "nas_fpn"},
    {"backbone": "R-18"},
    {"head_num_convs": 2},
    {"num_scales": 2},
    # The checkpoint has all its weights, but they mean something else.
    {"anchor_size": 3.0},
    {"aspect_ratios": (1.0, 2.0, 3.0)},
    {"norm_epsilon": 1e-3},
  ],
  ids=str,
)
def test_settings_that_do_not_fit_the_checkpoint_are_refused(
  run_copy, tmp_path, change_detector, settings
):
  change_detector(run_copy, **settings)
  with pytest.raises(UserError, match=r"does not fit the settings: "):
    export_detector(run_copy.path, tmp_path / "export")
  assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_label_map_of_other_classes_is_refused(run_copy, tmp_path):
  LabelMap((Category(1, "dog"),)).save(run_copy.label_map_file)
  with pytest.raises(UserError, match=r"num_classes is 3, but label_map\.json has 1"):
    export_detector(run_copy.path, tmp_path / "export")


def test_a_truncated_checkpoint_is_refused(run_copy, tmp_path):
  (data,) = run_copy.checkpoints.glob("*.data-*")
  with data.open("r+b") as file:
    file.truncate(data.stat().st_size // 2)
  with pytest.raises(UserError, match=r"ckpt-7 cannot be read"):
    export_detector(run_copy.path, tmp_path / "export")


def test_a_run_without_checkpoint_and_a_folder_that_is_no_run_are_refused(run_copy, tmp_path):
  shutil.rmtree(run_copy.checkpoints)
  with pytest.raises(UserError, match="no checkpoint"):
    export_detector(run_copy.path, tmp_path / "export")
  with pytest.raises(UserError, match="not a run folder"):
    export_detector(tmp_path, tmp_path / "export")


# Above 1 MB the weights fit and the graph does not; below it is the other way round.
@pytest.mark.parametrize("limit", [10_000, 1_000_000])
def test_a_full_disk_leaves_nothing_behind(untrained_run, tmp_path, limit):
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
  try:
    with pytest.raises(UserError, match="cannot be written: File too large"):
      export_detector(untrained_run.path, tmp_path / "export")
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_an_error(untrained_run, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot be written"):
    export_detector(untrained_run.path, tmp_path / "file" / "export")
