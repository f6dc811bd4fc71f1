"""How a detector computes: backbones, the stacked feature pyramid, heads, anchors, detections.

Importing this package does not import TensorFlow; the names that need it are loaded on first use.
"""

import importlib
from typing import Any

from official_nasfpn.modeling.config import DetectorConfig

_MODULE_OF = {
  "Detector": "detector",
  "FeaturePyramid": "feature_pyramid",
  "StackedFpn": "stacked_fpn",
  "anchor_boxes": "anchors",
  "build_backbone": "backbones",
  "build_detector": "detector",
  "detect_boxes": "detections",
  "detector_size": "closed_form",
  "flat_anchors": "anchors",
  "flatten_outputs": "detections",
  "measure_size": "model_size",
}

__all__ = ["DetectorConfig", *_MODULE_OF]


def __getattr__(name: str) -> Any:
  if name not in _MODULE_OF:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
