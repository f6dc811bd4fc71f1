"""Any export in use, whatever its format."""

import hashlib
from pathlib import Path

from official_nasfpn.installation import require
from official_nasfpn.serving.detectors.export_folder import find_saved_model
from official_nasfpn.serving.detectors.file_detector import FileDetector
from official_nasfpn.serving.detectors.saved_detector import SavedDetector

ExportedDetector = SavedDetector | FileDetector

_RUNTIMES = {"model.onnx": "onnxruntime", "model.tflite": "ai_edge_litert"}


def load_detector(path: str | Path) -> ExportedDetector:
  """Loads what `nasfpn export` wrote.

  Args:
    path: its folder.

  Raises:
    UserError: it is no export, or it is damaged, or its runtime is not installed.
  """
  path = Path(path)
  # Imported here: no runtime is needed but that of the format.
  if (path / "model.onnx").is_file():
    from official_nasfpn.serving.detectors.onnx_detector import OnnxDetector

    return OnnxDetector(path)
  if (path / "model.tflite").is_file():
    from official_nasfpn.serving.detectors.tflite_detector import TfliteDetector

    return TfliteDetector(path)
  return SavedDetector(path)


def require_runtime(path: Path) -> None:
  """Refuses an export that nothing installed can run; it is not loaded.

  Args:
    path: its folder.

  Raises:
    UserError: a package is missing.
  """
  for file, runtime in _RUNTIMES.items():
    if (path / file).is_file():
      require(f"The export {path}", runtime)


def fingerprint(path: Path) -> str:
  """Returns a hash of an export: of its graph and weights, or of their checksums.

  Raises:
    UserError: it is no export.
  """
  names = ["model.onnx", "model.tflite", "label_map.json"]
  if not any((path / name).is_file() for name in names):
    path = find_saved_model(path)
    names = ["saved_model.pb", "variables/variables.index", "assets/label_map.json"]
  digest = hashlib.sha256()
  for name in names:
    file = path / name
    digest.update(file.read_bytes() if file.is_file() else b"")
  return digest.hexdigest()
