"""Restores the detector of a run from a checkpoint, or says why that is impossible."""

from collections.abc import Collection

import tensorflow as tf
import tf_keras

from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.gpus import warn_of_an_unused_gpu
from official_nasfpn.modeling.detector import Detector, build_detector
from official_nasfpn.modeling.stored_settings import mismatch
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.number_format import settled_compute_dtype

_VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
_SETTINGS = "model/settings/.ATTRIBUTES/py_state"


def restore_detector(experiment: Experiment, label_map: LabelMap, checkpoint: str) -> Detector:
  """Builds the detector of an experiment with the weights of a checkpoint.

  Args:
    experiment: all settings.
    label_map: its classes.
    checkpoint: path prefix.

  Raises:
    UserError: checkpoint and settings do not belong to each other, or the checkpoint is damaged.
  """
  warn_of_an_unused_gpu()
  num_classes = label_map.num_classes
  if experiment.detector.num_classes not in (None, num_classes):
    raise UserError(
      f"Detector.num_classes is {experiment.detector.num_classes}, but label_map.json has "
      f"{num_classes} classes. They were written together: restore the run folder's files."
    )
  former = tf_keras.mixed_precision.global_policy()
  tf_keras.mixed_precision.set_global_policy(
    settled_compute_dtype(experiment.training.compute_dtype)
  )
  try:
    detector = build_detector(experiment.detector, num_classes)
  finally:
    tf_keras.mixed_precision.set_global_policy(former)
  try:
    reader = tf.train.load_checkpoint(checkpoint)
    if reader.has_tensor(_SETTINGS):  # Older checkpoints have none.
      detector.settings.deserialize(reader.get_tensor(_SETTINGS).decode())
    # The parts alone: all that they need must be found.
    parts = tf.train.Checkpoint(
      backbone=detector.backbone,
      pyramid=detector.pyramid,
      head=detector.head,
      early_heads=detector.early_heads,
    )
    status = tf.train.Checkpoint(model=parts).read(checkpoint)
    status.expect_partial().assert_existing_objects_matched()
    stored = _num_model_variables(reader.get_variable_to_shape_map())
  except (ValueError, AssertionError) as error:
    raise mismatch(
      f"The checkpoint {checkpoint}", str(error).strip().split("\n")[0].rstrip(".")
    ) from error
  # Where a file ends too early, TensorFlow's reader raises an IndexError.
  except (tf.errors.OpError, IndexError) as error:
    raise UserError(
      f"The checkpoint {checkpoint} cannot be read: {error}. Delete its files to use the one "
      "before it."
    ) from error
  # Fewer repeats or cells than were trained would find all their weights, and detect garbage.
  if stored != len(detector.variables):
    raise mismatch(
      f"The checkpoint {checkpoint}",
      f"it holds {stored} variables, the settings make {len(detector.variables)}",
    )
  return detector


def _num_model_variables(names: Collection[str]) -> int:
  return sum(
    name.startswith("model/") and name.endswith(_VARIABLE) and ".OPTIMIZER_SLOT" not in name
    for name in names
  )
