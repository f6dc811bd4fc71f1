"""What `Training.backbone_weights` names, and which backbone that is for; needs no TensorFlow.

It names a file of another library, a published file (`imagenet`), a checkpoint of the Model Garden,
the run folder of a training, or a SavedModel that was exported from one.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from official_nasfpn.configuration import read_stored, stored_bindings
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.imagenet_weights import is_imagenet, published_file
from official_nasfpn.modeling.published_weights import (
  LIBRARIES,
  library_in,
  plain_backbone,
  suited_backbone,
)

Kind = Literal["published", "file", "checkpoint", "run", "export"]
_INDEX = ".index"
_RUN_CONFIG = "config.gin"
_EXPORT_CONFIG = Path("assets") / "config.gin"
_REMOTE = "://"


def kind_of(setting: str) -> Kind:
  """Returns what a value of `Training.backbone_weights` names.

  Raises:
    UserError: there is no such file, or it is a folder of something else.
  """
  where = f"Training.backbone_weights = {setting!r}"
  path = Path(setting)
  if is_imagenet(setting):
    return "published"
  # TensorFlow alone can look at these; only a checkpoint may lie there.
  if _REMOTE in setting or Path(f"{setting}{_INDEX}").is_file():
    return "checkpoint"
  if path.is_file():
    if path.suffix == _INDEX:
      raise UserError(f"{where}: give the path of a checkpoint without {_INDEX}.")
    return "file"
  if (path / _RUN_CONFIG).is_file() and (path / "checkpoints").is_dir():
    return "run"
  if exported_model(setting):
    return "export"
  if path.is_dir():
    raise UserError(
      f"{where}: this folder is neither the run folder of a training nor a SavedModel that `nasfpn "
      "export` has written. Weights of a search are for Training.start_from."
    )
  raise UserError(
    f"{where}: there is no such file. `nasfpn weights` lists where weights can be had, and "
    "Training.backbone_weights = 'imagenet' fetches them."
  )


def whole_path(setting: str) -> str:
  """Returns the setting with a path that means the same in any folder."""
  return setting if is_imagenet(setting) or _REMOTE in setting else str(Path(setting).resolve())


def exported_model(path: str) -> Path | None:
  """Returns the newest SavedModel of an export; None if the folder holds none."""
  folder = Path(path)
  numbered = [child for child in folder.glob("*") if child.name.isdecimal()]
  for candidate in (folder, *sorted(numbered, key=lambda child: -int(child.name))):
    if (candidate / "saved_model.pb").is_file() and (candidate / _EXPORT_CONFIG).is_file():
      return candidate
  return None


def settled(detector: DetectorConfig, setting: str) -> tuple[DetectorConfig, str]:
  """Settles what a recipe leaves to the weights.

  Returns:
    The detector with the backbone that has their arithmetic, and a setting that names the same
    weights on every machine where it is no path.

  Raises:
    UserError: there are no such weights, or they are of another backbone.
  """
  kind = kind_of(setting)
  name = detector.backbone
  if kind == "published":
    file = published_file(setting, name)
    name, setting = file.backbone, file.setting
  elif kind == "file":
    name = suited_backbone(name, setting)
  elif kind == "checkpoint":
    _refuse_library(name, setting)
  else:
    name = _backbone_of_ours(detector, setting, kind)
  return dataclasses.replace(detector, backbone=name), setting


def _refuse_library(name: str, setting: str) -> None:
  if library := library_in(name):
    raise UserError(
      f"Training.backbone_weights = {setting!r} is a checkpoint of the Model Garden, and "
      f"Detector.backbone = {name!r} has the arithmetic of {LIBRARIES[library]}. Leave the end of "
      "that name out."
    )


def _backbone_of_ours(detector: DetectorConfig, setting: str, kind: Kind) -> str:
  """Returns the backbone of a run or an export, which must be that of the detector."""
  folder = exported_model(setting) if kind == "export" else Path(setting)
  assert folder is not None
  config = folder / (_EXPORT_CONFIG if kind == "export" else _RUN_CONFIG)
  theirs = stored_bindings(read_stored(config))
  where = f"Training.backbone_weights = {setting!r}"
  name = theirs.get("Detector.backbone", DetectorConfig.backbone)
  library = library_in(name)
  if detector.backbone not in (name, plain_backbone(name)):
    raise UserError(
      f"{where} has the backbone {name!r}, and Detector.backbone is {detector.backbone!r}: write "
      f"{name!r}, or take other weights."
    )
  # The libraries' backbones have an epsilon of their own.
  for field in ("backbone_width", *(() if library else ("norm_epsilon",))):
    ours, its = getattr(detector, field), theirs.get(f"Detector.{field}")
    if its is not None and its != ours:
      raise UserError(
        f"{where} was trained with Detector.{field} = {its}, and computes something else with "
        f"{ours}: write Detector.{field} = {its}."
      )
  return name
