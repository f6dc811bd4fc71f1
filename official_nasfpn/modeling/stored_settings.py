"""The settings that a detector was built with, kept in its checkpoints."""

import dataclasses
import json

import tensorflow as tf

from official_nasfpn.architecture import PyramidSpec, to_json
from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json
from official_nasfpn.modeling.config import DetectorConfig

# These may differ between training and later use without changing what the weights mean.
_FREE = frozenset(
  (
    "image_size",
    "num_classes",
    "norm_momentum",
    "sync_batch_norm",
    "score_threshold",
    "nms_iou_threshold",
    "max_detections",
  )
)


class StoredSettings(tf.train.experimental.PythonState):
  """Refuses a checkpoint whose weights were trained with other settings.

  Shapes alone cannot tell: other wiring, or other anchors, need weights of the same shapes.
  """

  def __init__(self, config: DetectorConfig):
    """Takes the settings of a detector that is saved and restored."""
    super().__init__()
    self._settings = _as_data(config)

  def serialize(self) -> str:
    """Returns the settings as JSON."""
    return json.dumps(self._settings)

  def deserialize(self, string_value: str) -> None:
    """Compares the settings in a checkpoint with these.

    Raises:
      UserError: they differ. Settings that only one of them has come from another version, and are
        ignored.
    """
    for name, stored in parse_json(string_value).items():
      ours = self._settings.get(name, stored)
      if ours != stored:
        raise mismatch(
          "The checkpoint",
          f"it was trained with Detector.{name} = {_shown(stored)}, and config.gin says "
          f"{_shown(ours)}",
        )


def mismatch(checkpoint: str, reason: str) -> UserError:
  """Returns the error for weights that the settings beside them do not describe."""
  return UserError(
    f"{checkpoint} does not fit the config.gin beside it: {reason}. Restore the config.gin that it "
    "was trained with, or train again."
  )


def _as_data(config: DetectorConfig) -> dict:
  data = {
    field.name: getattr(config, field.name)
    for field in dataclasses.fields(config)
    if field.name not in _FREE
  }
  architecture = config.architecture
  is_spec = isinstance(architecture, PyramidSpec)
  data["architecture"] = to_json(architecture) if is_spec else repr(architecture)
  # Tuples become lists, as they come back.
  return json.loads(json.dumps(data))


def _shown(value: object) -> str:
  text = " ".join(str(value).split())
  return text if len(text) <= 60 else "another architecture"
