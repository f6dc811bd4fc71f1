"""The folder of an export: which format it has and what lies where. Read without TensorFlow.

MODEL/1/saved_model.pb   a SavedModel, and MODEL/2 and so on for later checkpoints of its run; what
                         is named below lies in MODEL/1/assets
MODEL/model.onnx, MODEL/model.tflite   the other formats, beside what is named below

label_map.json           the classes, and the dataset's own category ids
config.gin               every setting of the run, resolved
export.json              the record: which checkpoint of which run this is, the precision and the
                         exit, and the time that each exit took when it was exported

SHA256SUMS               beside the model: `checksums.py`
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json
from official_nasfpn.serving.formats import FORMATS, ExportFormat

RECORD_FILE = "export.json"


@dataclass(frozen=True)
class ExitLatency:
  """Milliseconds that one image takes through one exit, decoding and NMS included.

  Attributes:
    exit: its number.
    median_ms: half of the images are faster.
    p90_ms: nine of ten images are faster.
  """

  exit: int
  median_ms: float
  p90_ms: float


@dataclass(frozen=True)
class ExportFolder:
  """An export that is there.

  Attributes:
    path: where the model lies; of several SavedModels the newest.
    format: the format of the model.
    version: number of the SavedModel's folder; 1 for other formats.
  """

  path: Path
  format: ExportFormat
  version: int

  @property
  def assets(self) -> Path:
    """The folder of label map, settings and record."""
    return self.path / "assets" if self.format.name == "saved_model" else self.path

  @property
  def label_map_file(self) -> Path:
    return self.assets / "label_map.json"

  @property
  def config_file(self) -> Path:
    return self.assets / "config.gin"

  def record(self) -> dict[str, Any]:
    """Reads the record.

    Raises:
      UserError: it cannot be read.
    """
    try:
      return parse_json((self.assets / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
      raise damaged(self.path, error) from error

  def exit_latency(self) -> tuple[ExitLatency, ...]:
    """Reads how long each exit of an anytime detector took; empty for others.

    Raises:
      UserError: the record cannot be read.
    """
    return tuple(ExitLatency(**row) for row in self.record().get("exit_latency", ()))

  def fingerprint(self) -> str:
    """Returns a hash of graph, weights and classes, or of their checksums."""
    names = ["model.onnx", "model.tflite", "label_map.json"]
    if self.format.name == "saved_model":
      names = ["saved_model.pb", "variables/variables.index", "assets/label_map.json"]
    digest = hashlib.sha256()
    for name in names:
      file = self.path / name
      digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()


def damaged(path: Path, reason: object) -> UserError:
  """Returns what to say of an export that cannot be loaded."""
  return UserError(f"The export {path} is damaged: {reason}. Export it again.")


def find_export(path: str | Path) -> ExportFolder:
  """Returns which export a folder holds; it is not loaded.

  Args:
    path: folder that `nasfpn export` wrote, or one of the numbered in it.

  Raises:
    UserError: it is no such folder.
  """
  path = Path(path)
  if not path.is_dir():
    raise UserError(f"There is no folder {str(path)!r}: give one that `nasfpn export` wrote.")
  numbered = [child for child in path.iterdir() if child.name.isdecimal()]
  for candidate in (path, *sorted(numbered, key=lambda child: int(child.name), reverse=True)):
    for format_ in FORMATS.values():
      if (candidate / format_.model_file).is_file():
        name = candidate.absolute().name
        is_numbered = format_.name == "saved_model" and name.isdecimal()
        return _ours(ExportFolder(candidate, format_, int(name) if is_numbered else 1))
  files = [format_.model_file for format_ in FORMATS.values()]
  has_none = f"it has no {', '.join(files[:-1])} or {files[-1]}"
  if (path / "config.gin").is_file() and (path / "checkpoints").is_dir():
    raise UserError(
      f"{str(path)!r} is the run folder of a training, not an export: {has_none}. Make one with "
      f"`nasfpn export --model_dir {path} --output_dir {path}_export`."
    )
  raise UserError(f"{str(path)!r} is no export: {has_none}. Make one with `nasfpn export`.")


def _ours(export: ExportFolder) -> ExportFolder:
  if export.format.name == "saved_model" and not export.label_map_file.is_file():
    raise UserError(
      f"{export.path} is a SavedModel, but no export of ours: it has no assets/label_map.json."
    )
  return export
