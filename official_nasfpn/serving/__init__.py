"""Where a detector goes: exports of it, and what uses them.

Using a SavedModel (`Detector`, the program `detect`) needs TensorFlow alone, no part of the
detector's code, and the client over REST not even that. Names here are loaded on first use.
"""

import importlib
from typing import Any

from official_nasfpn.data.detections import Detection, Detections

_MODULE_OF = {
  "DetectionClient": "client.client",
  "Detector": "detectors.detector",
  "Refusal": "client.client",
  "ServingError": "client.client",
  "detection_signatures": "export.signatures",
  "export_detector": "export.export_detector",
  "measure_latency": "detectors.latency",
}

__all__ = ["Detection", "Detections", *_MODULE_OF]


def __getattr__(name: str) -> Any:
  if name not in _MODULE_OF:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
