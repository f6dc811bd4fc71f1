"""The backbone takes the weights that `Training.backbone_weights` names."""

from typing import TYPE_CHECKING

from official_nasfpn.errors import UserError
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.imagenet_weights import published_file
from official_nasfpn.modeling.published_weights import take_published_weights
from official_nasfpn.modeling.weights_cache import cached_file
from official_nasfpn.training.backbone_source import kind_of
from official_nasfpn.training.checkpoint_files import refuse_pattern
from official_nasfpn.training.start_weights import restore_stored, stored_at, weights_in_order

if TYPE_CHECKING:
  import tf_keras

_SETTINGS = "model/settings/.ATTRIBUTES/py_state"


def check_backbone_weights(detector: DetectorConfig, setting: str) -> None:
  """Tries the weights on a backbone of its own, so that nothing else is begun if they do not fit.

  A published file is fetched.

  Args:
    detector: its backbone has the arithmetic of the weights, see `backbone_source.settled`.
    setting: `Training.backbone_weights`.

  Raises:
    UserError: the weights are not there, cannot be read or fetched, or do not fit.
  """
  import tensorflow as tf

  from official_nasfpn.modeling.backbones import build_backbone

  with tf.device("CPU:0"):
    backbone = build_backbone(
      detector.backbone, detector.image_size, width=detector.backbone_width, norm=detector.norm
    )
    take_backbone_weights(backbone, detector, setting)


def take_backbone_weights(
  backbone: "tf_keras.Model", detector: DetectorConfig, setting: str
) -> str:
  """Overwrites all weights of a backbone.

  Args:
    backbone: built from the settings of the detector.
    detector: these settings.
    setting: `Training.backbone_weights`.

  Returns:
    Where the weights have come from, for people.

  Raises:
    UserError: the weights are not there, cannot be read or fetched, or do not fit.
  """
  kind = kind_of(setting)
  if kind == "published":
    path = str(cached_file(published_file(setting, detector.backbone)))
    take_published_weights(backbone, detector.backbone, path)
    return f"{setting} ({path})"
  if kind == "file":
    take_published_weights(backbone, detector.backbone, setting)
  elif kind == "checkpoint":
    _take_from_checkpoint(backbone, detector, setting)
  else:
    _take_from_ours(backbone, setting)
  return setting


def _take_from_checkpoint(
  backbone: "tf_keras.Model", detector: DetectorConfig, setting: str
) -> None:
  """Takes the weights of a checkpoint of the Model Garden."""
  import tensorflow as tf

  where = f"Training.backbone_weights = {setting!r}"
  if not tf.io.gfile.exists(f"{setting}.index"):
    raise UserError(f"{where}: there is no such checkpoint.")
  try:
    names = tf.train.load_checkpoint(setting).get_variable_to_shape_map()
    if _SETTINGS in names:
      raise UserError(
        f"{where} is a checkpoint of a training of this program: give its run folder, which says "
        "what the backbone is."
      )
    # The Model Garden keeps a whole detector under `model`, and a pretrained backbone without.
    parts = tf.train.Checkpoint(backbone=backbone)
    is_whole = any(name.startswith("model/backbone/") for name in names)
    checkpoint = tf.train.Checkpoint(model=parts) if is_whole else parts
    # A classifier in the checkpoint may be left over; all of ours must be found.
    checkpoint.read(setting).expect_partial().assert_existing_objects_matched()
  # Where a file ends too early, TensorFlow's reader raises an IndexError.
  except (AssertionError, ValueError, IndexError, tf.errors.OpError) as error:
    # Nothing follows this error, but TensorFlow would list every weight that was not read.
    tf.get_logger().setLevel("ERROR")
    if isinstance(error, tf.errors.NotFoundError):
      refuse_pattern(setting, "Training.backbone_weights")
    raise UserError(
      f"{where} does not fit Detector.backbone = {detector.backbone!r}, or is damaged: "
      f"{str(error).splitlines()[0]}"
    ) from error


def _take_from_ours(backbone: "tf_keras.Model", setting: str) -> None:
  """Takes the weights of a run or of an export."""
  stored = stored_at(setting)
  assert stored
  theirs = restore_stored(stored).backbone
  for variable, value in zip(weights_in_order(backbone), weights_in_order(theirs), strict=True):
    variable.assign(value)
