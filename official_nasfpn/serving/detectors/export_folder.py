"""The folder of an export, recognised without loading it: TensorFlow takes seconds to start."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from official_nasfpn.errors import UserError


@dataclass(frozen=True)
class ExportFolder:
  """An export that is there.

  Attributes:
    path: where the model lies; of several SavedModels the newest.
    format: of the model.
    version: number of the SavedModel's folder; 1 for other formats.
  """

  path: Path
  format: Literal["saved_model", "onnx", "tflite"]
  version: int


def find_export(path: Path) -> ExportFolder:
  """Returns which export a folder holds.

  Args:
    path: folder that `nasfpn export` wrote, or one of the numbered in it.

  Raises:
    UserError: it is no such folder.
  """
  for format_ in ("onnx", "tflite"):
    if (path / f"model.{format_}").is_file():
      return ExportFolder(path, format_, 1)
  saved_model = find_saved_model(path)
  if not (saved_model / "assets" / "label_map.json").is_file():
    raise UserError(
      f"{saved_model} is a SavedModel, but no export of ours: it has no assets/label_map.json."
    )
  name = saved_model.absolute().name
  return ExportFolder(saved_model, "saved_model", int(name) if name.isdecimal() else 1)


def find_saved_model(path: Path) -> Path:
  """Returns the SavedModel that a folder is, or the newest of those in it.

  Raises:
    UserError: it is neither.
  """
  numbered = [child for child in path.iterdir() if child.name.isdigit()] if path.is_dir() else []
  candidates = [path, *sorted(numbered, key=lambda child: int(child.name), reverse=True)]
  for candidate in candidates:
    if (candidate / "saved_model.pb").is_file():
      return candidate
  if not path.is_dir():
    raise UserError(f"There is no folder {str(path)!r}: give one that `nasfpn export` wrote.")
  if (path / "config.gin").is_file() and (path / "checkpoints").is_dir():
    raise UserError(
      f"{str(path)!r} is the run folder of a training, not a SavedModel: it has no saved_model.pb. "
      f"Make one with `nasfpn export --model_dir {path} --output_dir {path}_export`."
    )
  raise UserError(
    f"{str(path)!r} is not a SavedModel: it has no saved_model.pb. Make one with `nasfpn export`."
  )
