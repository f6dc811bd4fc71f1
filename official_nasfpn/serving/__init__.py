"""Where a detector goes: exports of it, and what uses them.

Using a SavedModel (`detectors.saved_detector`, `detect`) needs TensorFlow alone, no part of the
detector's code, and the client over REST not even that. Names here are loaded on first use.
"""

import importlib
from typing import Any

_MODULE_OF = {
  "DetectionClient": "client.client",
  "Detections": "client.client",
  "Refusal": "client.client",
  "SavedDetector": "detectors.saved_detector",
  "ServingError": "client.client",
  "detect_files": "detect.detection",
  "detection_signatures": "export.signatures",
  "export_run": "export.saved_model",
  "measure_latency": "detectors.latency",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
  if name not in _MODULE_OF:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
