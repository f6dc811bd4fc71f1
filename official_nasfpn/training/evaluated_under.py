"""What the figures of an evaluation depend on beside the weights: its data, and how it detects."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from official_nasfpn.configuration import to_gin
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.training.experiment import Experiment

# Of these the weights say nothing: they fit, whatever stands there. Two backbones may differ in
# their arithmetic alone, and merging has no weights.
_SETTINGS = (
  "backbone",
  "image_size",
  "anchor_size",
  "num_scales",
  "aspect_ratios",
  "norm_epsilon",
  "score_threshold",
  "nms_iou_threshold",
  "max_detections",
)
_ANNOTATIONS, _IMAGES, _ARCHITECTURE = "annotations_sha256", "images_sha256", "architecture_sha256"
_SAID = {
  _ANNOTATIONS: "of other annotations",
  _IMAGES: "of other images",
  _ARCHITECTURE: "with another Detector.architecture",
}

Conditions = Mapping[str, Any]


def conditions_of(experiment: Experiment, dataset: DatasetInfo) -> Conditions:
  """Returns what an evaluation's figures depend on, as JSON has it.

  Args:
    experiment: all settings, of a run folder or as `open_dataset` has settled them.
    dataset: the prepared data.
  """
  part = experiment.input.evaluation_part
  source = dataset.source.get(part) or dataset.source.get("train", {})
  architecture = to_gin(experiment.detector.architecture)
  values = {
    "Input.evaluation_part": part,
    _ANNOTATIONS: hashlib.sha256(dataset.annotation_file(part).read_bytes()).hexdigest(),
    # By name and length; of drawn images there is none.
    _IMAGES: source.get("images_sha256"),
    _ARCHITECTURE: hashlib.sha256(architecture.encode()).hexdigest(),
    **{f"Detector.{name}": getattr(experiment.detector, name) for name in _SETTINGS},
  }
  # Tuples become lists, so that what was stored is equal to what was not.
  conditions: Conditions = json.loads(json.dumps(values))
  return conditions


def data_digest(conditions: Conditions | None) -> str | None:
  """Returns what identifies the data of an evaluation; None where nobody said it."""
  if not conditions or not conditions.get(_ANNOTATIONS):
    return None
  text = f"{conditions[_ANNOTATIONS]} {conditions.get(_IMAGES)}"
  return hashlib.sha256(text.encode()).hexdigest()


def difference(stored: Conditions | None, wanted: Conditions) -> str | None:
  """Returns in words how an evaluation differs from another one; None if they are comparable.

  Args:
    stored: of the evaluation, from its file; None where that does not say it.
    wanted: of the other.
  """
  if not stored:
    return "does not say on which data and with which settings it was made"
  for name, value in wanted.items():
    # An earlier version had no such setting, and computed as its default does.
    if name in stored and stored[name] != value:
      return f"is {_SAID.get(name) or f'with {name} = {stored[name]!r} instead of {value!r}'}"
  return None
