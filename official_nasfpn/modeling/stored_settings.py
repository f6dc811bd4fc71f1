"""The settings that a detector was built with, kept in its checkpoints."""

import dataclasses
import json
import textwrap

import tensorflow as tf

from official_nasfpn.architecture import BASELINES, PyramidSpec, from_json, pyramid_name, to_json
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
# Letters of a value in a message.
_WIDTH = 60


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
        show = _architectures_shown if name == "architecture" else _shown
        theirs, own = show(stored, ours)
        raise mismatch(
          "The checkpoint",
          f"it was trained with Detector.{name} = {theirs}, and the settings say {own}",
        )


def mismatch(checkpoint: str, reason: str) -> UserError:
  """Returns the error for weights that the settings do not describe."""
  return UserError(
    f"{checkpoint} does not fit the settings: {reason}. Leave out what other files or flags say of "
    "Detector; if the config.gin beside it was changed, restore the one that it was trained with, "
    "or train again."
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


def _shown(*values: object) -> list[str]:
  """Returns two different values as text, cut where they are long."""
  return [textwrap.shorten(str(value), _WIDTH, placeholder=" ...") for value in values]


def _architectures_shown(*texts: str) -> list[str]:
  """Returns two different architectures, as they are stored, by what tells them apart."""
  specs = [spec for text in texts if (spec := _as_spec(text))]
  names = [_architecture_name(text) for text in texts]
  if names[0] != names[1] or len(specs) < 2:
    return names
  # Wired the same, with cells in another order.
  first, second = (spec.cells for spec in specs)
  number = next(index for index, cell in enumerate(first) if cell != second[index])
  return [
    f"{name} with {spec.cells[number]} as cell {number}"
    for name, spec in zip(names, specs, strict=True)
  ]


def _architecture_name(text: str) -> str:
  if spec := _as_spec(text):
    return " at ".join(filter(None, (pyramid_name(spec), spec.size_name)))
  return next((name for name, each in BASELINES.items() if repr(each) == text), *_shown(text))


def _as_spec(text: str) -> PyramidSpec | None:
  """Returns a stored pyramid; None for a baseline, and for one that this version does not know."""
  try:
    return from_json(text)
  except UserError:
    return None
