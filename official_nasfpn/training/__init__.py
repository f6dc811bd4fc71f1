"""How a detector learns: experiments, trainings, evaluations, plans.

Importing this package does not import TensorFlow; names are loaded on first use.
"""

import importlib
from typing import Any

_MODULE_OF = {
  "DetectorRun": "training",
  "EvaluationResult": "coco_evaluation",
  "Experiment": "experiment",
  "TrainingConfig": "config",
  "evaluate_detector": "training",
  "load_experiment": "experiment",
  "plan_training": "training",
  "train_detector": "training",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
  if name not in _MODULE_OF:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
