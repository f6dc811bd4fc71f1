"""Search, train, measure, export and serve NAS-FPN detectors (Ghiasi, Lin, Le, CVPR 2019)."""

# An old Python must be able to read this file, so that it can say that it is too old.
import os
import sys

__version__ = "0.1.0"

if not (3, 10) <= sys.version_info[:2] <= (3, 13):
  _refusal = ImportError(
    "official_nasfpn needs Python 3.10 to 3.13, and this is %d.%d." % sys.version_info[:2]  # noqa: UP031
  )
  # So named, `python -m official_nasfpn` shows the sentence alone, without a traceback.
  _refusal.name = __name__
  raise _refusal

# Model Garden 2.20 is written for Keras 2; the choice must be made before TensorFlow is imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# On a machine without a GPU TensorFlow's C++ side logs CUDA "errors" that are none, through the
# middle of progress bars. What really fails reaches Python as an exception; a GPU that TensorFlow
# cannot use does not, so `gpus.py` says it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# The main job from Python. Each name is imported when it is first used: reading a recipe needs no
# TensorFlow, which takes seconds.
_MODULES = {
  "prepare_dataset": "official_nasfpn.data.preparation",
  "PreparedDataset": "official_nasfpn.data.preparation",
  "check_dataset": "official_nasfpn.data.doctor.check",
  "DatasetCheck": "official_nasfpn.data.doctor.check",
  "ShapesConfig": "official_nasfpn.data.shapes",
  "read_recipe": "official_nasfpn.search.recipe",
  "SearchRecipe": "official_nasfpn.search.recipe",
  "Search": "official_nasfpn.search.search",
  "LauncherConfig": "official_nasfpn.search.workers.launchers",
  "load_experiment": "official_nasfpn.training.experiment",
  "Experiment": "official_nasfpn.training.experiment",
  "report_anchors": "official_nasfpn.training.anchors.report",
  "AnchorReport": "official_nasfpn.training.anchors.report",
  "train_detector": "official_nasfpn.training.training",
  "evaluate_detector": "official_nasfpn.training.training",
  "DetectorRun": "official_nasfpn.training.training",
  "write_run_report": "official_nasfpn.training.report.run_report",
  "export_detector": "official_nasfpn.serving.export.export_detector",
  "Export": "official_nasfpn.serving.export.export_detector",
  "Detector": "official_nasfpn.serving.detectors.detector",
  "Detections": "official_nasfpn.data.detections",
  "Detection": "official_nasfpn.data.detections",
  "DetectionClient": "official_nasfpn.serving.client.client",
  "UserError": "official_nasfpn.errors",
}
__all__ = [
  "AnchorReport",
  "DatasetCheck",
  "Detection",
  "DetectionClient",
  "Detections",
  "Detector",
  "DetectorRun",
  "Experiment",
  "Export",
  "LauncherConfig",
  "PreparedDataset",
  "Search",
  "SearchRecipe",
  "ShapesConfig",
  "UserError",
  "check_dataset",
  "evaluate_detector",
  "export_detector",
  "load_experiment",
  "prepare_dataset",
  "read_recipe",
  "report_anchors",
  "train_detector",
  "write_run_report",
]

# As typing's, without its import.
TYPE_CHECKING = False
if TYPE_CHECKING:
  from official_nasfpn.data.detections import Detection, Detections
  from official_nasfpn.data.doctor.check import DatasetCheck, check_dataset
  from official_nasfpn.data.preparation import PreparedDataset, prepare_dataset
  from official_nasfpn.data.shapes import ShapesConfig
  from official_nasfpn.errors import UserError
  from official_nasfpn.search.recipe import SearchRecipe, read_recipe
  from official_nasfpn.search.search import Search
  from official_nasfpn.search.workers.launchers import LauncherConfig
  from official_nasfpn.serving.client.client import DetectionClient
  from official_nasfpn.serving.detectors.detector import Detector
  from official_nasfpn.serving.export.export_detector import Export, export_detector
  from official_nasfpn.training.anchors.report import AnchorReport, report_anchors
  from official_nasfpn.training.experiment import Experiment, load_experiment
  from official_nasfpn.training.report.run_report import write_run_report
  from official_nasfpn.training.training import DetectorRun, evaluate_detector, train_detector


def __getattr__(name: str) -> object:
  if name not in _MODULES:
    raise AttributeError("module '" + __name__ + "' has no attribute '" + name + "'")
  import importlib

  value = getattr(importlib.import_module(_MODULES[name]), name)
  globals()[name] = value
  return value


def __dir__() -> "list[str]":
  return sorted(set(globals()) | set(__all__))
