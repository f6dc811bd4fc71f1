"""Restores the detector of a run or of an export, or says why that is impossible."""

import contextlib
from collections.abc import Callable, Collection, Iterator

import tensorflow as tf
import tf_keras

from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.gpus import warn_of_an_unused_gpu
from official_nasfpn.modeling.detector import Detector, build_detector
from official_nasfpn.modeling.stored_settings import mismatch
from official_nasfpn.training.checkpoint_files import refuse_pattern
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.number_format import keras_policy_kept, settled_compute_dtype
from official_nasfpn.training.weight_average import take_average

_VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
_SETTINGS = "model/settings/.ATTRIBUTES/py_state"


def restore_detector(experiment: Experiment, label_map: LabelMap, checkpoint: str) -> Detector:
  """Builds the detector of an experiment with the weights of a checkpoint.

  With `Training.ema_decay`, it gets the average of its weights.

  Args:
    experiment: all settings.
    label_map: its classes.
    checkpoint: path prefix.

  Raises:
    UserError: checkpoint and settings do not belong to each other, or the checkpoint is damaged.
  """

  def read(detector: Detector) -> int:
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
    if experiment.training.ema_decay is not None:
      take_average(detector, experiment.training, checkpoint)
    return _num_model_variables(reader.get_variable_to_shape_map())

  with checkpoint_errors(checkpoint):
    return _restored(experiment, label_map, f"The checkpoint {checkpoint}", read)


def restore_export(experiment: Experiment, label_map: LabelMap, variables: str) -> Detector:
  """Builds the detector of an exported SavedModel with its weights.

  Args:
    experiment: all settings, as they lie in the export.
    label_map: its classes.
    variables: path prefix of the SavedModel's variables.

  Raises:
    UserError: weights and settings do not belong to each other, or a file is damaged.
  """

  def read(detector: Detector) -> int:
    # As `serving/export/saved_model.py` keeps them, in this order.
    weights = tf.train.Checkpoint(detector_variables=detector.variables)
    weights.read(variables).expect_partial().assert_existing_objects_matched()
    names = tf.train.load_checkpoint(variables).get_variable_to_shape_map()
    return sum(name.startswith("detector_variables/") for name in names)

  with _reading_errors("The export", variables, "Export it again."):
    return _restored(experiment, label_map, f"The export {variables}", read)


def checkpoint_errors(checkpoint: str) -> contextlib.AbstractContextManager[None]:
  """Turns what TensorFlow raises on reading a damaged checkpoint into a `UserError`.

  Args:
    checkpoint: path prefix.
  """
  advice = f"Delete {checkpoint}.* to use the one before it."
  return _reading_errors("The checkpoint", checkpoint, advice)


@contextlib.contextmanager
def _reading_errors(kind: str, path: str, advice: str) -> Iterator[None]:
  try:
    yield
  # Where a file ends too early, TensorFlow's reader raises an IndexError.
  except (tf.errors.OpError, IndexError) as error:
    refuse_pattern(path, kind)
    reason = str(error).strip().split("\n")[0].rstrip(".")
    raise UserError(f"{kind} {path} cannot be read: {reason}. {advice}") from error


def _restored(
  experiment: Experiment,
  label_map: LabelMap,
  source: str,
  read: Callable[[Detector], int],
) -> Detector:
  """Builds a detector and fills it by `read`, which returns how many variables the source has."""
  warn_of_an_unused_gpu()
  num_classes = label_map.num_classes
  if experiment.detector.num_classes not in (None, num_classes):
    raise UserError(
      f"Detector.num_classes is {experiment.detector.num_classes}, but label_map.json has "
      f"{num_classes} classes. They were written together: restore the run folder's files."
    )
  with keras_policy_kept():
    tf_keras.mixed_precision.set_global_policy(
      settled_compute_dtype(experiment.training.compute_dtype)
    )
    try:
      detector = build_detector(experiment.detector, num_classes)
      stored = read(detector)
    except (ValueError, AssertionError) as error:
      raise mismatch(source, str(error).strip().split("\n")[0].rstrip(".")) from error
  # Fewer repeats or cells than were trained would find all their weights, and detect garbage.
  if stored != len(detector.variables):
    raise mismatch(
      source, f"it holds {stored} variables, the settings make {len(detector.variables)}"
    )
  return detector


def _num_model_variables(names: Collection[str]) -> int:
  return sum(
    name.startswith("model/") and name.endswith(_VARIABLE) and ".OPTIMIZER_SLOT" not in name
    for name in names
  )
