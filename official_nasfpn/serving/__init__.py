"""Where a detector goes: the SavedModel, and what uses it.

Whatever uses a SavedModel (`saved_detector`, `detection`, `drawing`, `latency`) needs TensorFlow
alone, no part of the detector's code. The names that need TensorFlow are loaded on first use.
"""

import importlib
from typing import Any

_MODULE_OF = {
  "SavedDetector": "saved_detector",
  "contact_sheet": "drawing",
  "detect_files": "detection",
  "draw_detections": "drawing",
  "detection_signatures": "signatures",
  "export_run": "saved_model",
  "measure_latency": "latency",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
  if name not in _MODULE_OF:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
