"""From a run folder to a SavedModel, whole or not at all.

EXPORT/saved_model.pb, EXPORT/variables/   the model; signature `serving_default`
EXPORT/assets/label_map.json               classes, and the dataset's own category ids
EXPORT/assets/config.gin                   every setting of the run, resolved
EXPORT/assets/export.json                  which checkpoint of which run this is

The signature takes `image_bytes`, string [batch]: one or more encoded JPEG or PNG images, of any
and of mixed sizes. It gives, with D = Detector.max_detections and rows from `num_detections` on
zero:

boxes           float32 [batch, D, 4]  (ymin, xmin, ymax, xmax) in pixels of the image as encoded
scores          float32 [batch, D]     best first
classes         int32 [batch, D]       class index, position in label_map.json from 0
category_ids    int64 [batch, D]       the dataset's own ids
num_detections  int32 [batch]
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import tensorflow as tf
import tf_keras

from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.disk import disk_errors
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.detector import Detector, build_detector
from official_nasfpn.serving.detection_module import DetectionModule
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.run_folder import RunFolder

_RECORD = "export.json"
_VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"


def export_run(folder: RunFolder, output_dir: Path) -> bool:
  """Exports the newest checkpoint of a run folder.

  Args:
    folder: of the run; nothing else is read.
    output_dir: becomes the SavedModel.

  Returns:
    Whether it was written; False if it is there already, from the same checkpoint and settings.

  Raises:
    UserError: the folder is no run or has no checkpoint, the checkpoint does not fit the settings,
      `output_dir` holds something else, or it cannot be written.
  """
  experiment, label_map = folder.load()
  checkpoint = folder.latest_checkpoint()
  record = _describe(folder, checkpoint)
  if _is_exported(output_dir, record):
    return False
  detector = restore_detector(experiment, label_map, checkpoint)
  _write(detector, experiment, label_map, folder, record, output_dir)
  return True


def restore_detector(experiment: Experiment, label_map: LabelMap, checkpoint: str) -> Detector:
  """Builds the detector of an experiment with the weights of a checkpoint.

  Args:
    experiment: all settings.
    label_map: its classes.
    checkpoint: path prefix.

  Raises:
    UserError: checkpoint and settings do not belong to each other, or the checkpoint is damaged.
  """
  num_classes = label_map.num_classes
  if experiment.detector.num_classes not in (None, num_classes):
    raise UserError(
      f"Detector.num_classes is {experiment.detector.num_classes}, but label_map.json has "
      f"{num_classes} classes. They were written together: restore the run folder's files."
    )
  former = tf_keras.mixed_precision.global_policy()
  tf_keras.mixed_precision.set_global_policy(experiment.training.compute_dtype)
  try:
    detector = build_detector(experiment.detector, num_classes)
  finally:
    tf_keras.mixed_precision.set_global_policy(former)
  try:
    status = tf.train.Checkpoint(model=detector).read(checkpoint)
    status.expect_partial().assert_existing_objects_matched()
    stored = _num_model_variables(checkpoint)
  except (ValueError, AssertionError) as error:
    raise _mismatch(checkpoint, str(error).strip().split("\n")[0].rstrip(".")) from error
  # Where a file ends too early, TensorFlow's reader raises an IndexError.
  except (tf.errors.OpError, IndexError) as error:
    raise UserError(
      f"The checkpoint {checkpoint} cannot be read: {error}. Delete its files to use the one "
      "before it."
    ) from error
  # Fewer repeats or cells than were trained would find all their weights, and detect garbage.
  if stored != len(detector.variables):
    raise _mismatch(
      checkpoint, f"it holds {stored} variables, the settings make {len(detector.variables)}"
    )
  return detector


def _num_model_variables(checkpoint: str) -> int:
  names = [name for name, _ in tf.train.list_variables(checkpoint)]
  return sum(
    name.startswith("model/") and name.endswith(_VARIABLE) and ".OPTIMIZER_SLOT" not in name
    for name in names
  )


def _mismatch(checkpoint: str, reason: str) -> UserError:
  return UserError(
    f"The checkpoint {checkpoint} does not fit the config.gin beside it: {reason}. Restore the "
    "config.gin that it was trained with, or train again."
  )


def _describe(folder: RunFolder, checkpoint: str) -> dict[str, str | int]:
  """Returns what tells one export from another."""
  return {
    "checkpoint_step": int(checkpoint.rsplit("-", 1)[1]),
    # The index holds a checksum of every tensor, so it stands for the weights.
    "checkpoint_sha256": _sha256(Path(f"{checkpoint}.index")),
    "config_sha256": _sha256(folder.config_file),
    "label_map_sha256": _sha256(folder.label_map_file),
  }


def _sha256(path: Path) -> str:
  return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_exported(output_dir: Path, record: dict[str, str | int]) -> bool:
  """Returns whether this very export is there already; refuses a folder of anything else."""
  if not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir())):
    return False
  found = None
  if (file := output_dir / "assets" / _RECORD).is_file():
    try:
      found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
      found = {}
  if found == record:
    return True
  what = "is not an export of ours"
  if found is not None:
    what = "is an export of another run"
    if found.get("config_sha256") == record["config_sha256"]:
      steps = f"step {found.get('checkpoint_step')} where this is step {record['checkpoint_step']}"
      what = f"is an export of another checkpoint ({steps})"
  raise UserError(f"{output_dir} exists and {what}. Give --output_dir a new folder.")


def _write(
  detector: Detector,
  experiment: Experiment,
  label_map: LabelMap,
  folder: RunFolder,
  record: dict[str, str | int],
  output_dir: Path,
) -> None:
  """Saves under another name beside `output_dir` and renames when all is written."""
  output_dir = output_dir.absolute()
  with disk_errors(output_dir, "Nothing was kept: make room and run the same command again."):
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{output_dir.name}.partial-", dir=output_dir.parent))
    try:
      (partial / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
      module = DetectionModule(
        detector,
        experiment.detector,
        label_map,
        assets=[folder.label_map_file, folder.config_file, partial / _RECORD],
      )
      # The inner folder gets ordinary permissions; mkdtemp's own could not be read by a server.
      tf.saved_model.save(
        module, str(partial / "export"), signatures={"serving_default": module.detect}
      )
      (partial / "export").rename(output_dir)
    finally:
      shutil.rmtree(partial, ignore_errors=True)
