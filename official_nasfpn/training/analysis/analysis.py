"""All that is told of a detector from its boxes, and what of it programs read."""

import dataclasses
from typing import Any

import numpy as np

from official_nasfpn.training.analysis.boxes import EvaluatedBoxes, Floats
from official_nasfpn.training.analysis.curves import (
  COCO_DETECTIONS,
  OperatingPoint,
  best_point,
  f1_over_threshold,
  judge,
  precision_over_recall,
)
from official_nasfpn.training.analysis.errors import FOUND_IOU, LOOSE_IOU, Errors, find_errors
from official_nasfpn.training.analysis.matching import match, overlaps, ranks_in_class

STRICT_IOU = 0.75
# At which F1 is told.
THRESHOLDS = np.linspace(0.0, 1.0, 101)


@dataclasses.dataclass(frozen=True, eq=False)
class ClassAnalysis:
  """Of one class, or of all together.

  Attributes:
    name: of the class.
    num_images: images with an annotated box of it.
    num_true: annotated boxes, without crowds.
    num_crowds: annotated crowds.
    num_detected: detections.
    precision: at `RECALLS` and IoU 0.5, as COCO counts; None without boxes.
    strict_precision: likewise at IoU 0.75.
    f1: at `THRESHOLDS` and IoU 0.5; None without boxes.
    best: the threshold with the highest F1; None where nothing is found.
  """

  name: str
  num_images: int
  num_true: int
  num_crowds: int
  num_detected: int
  precision: Floats | None
  strict_precision: Floats | None
  f1: Floats | None
  best: OperatingPoint | None


@dataclasses.dataclass(frozen=True, eq=False)
class Analysis:
  """What a detector gets right and wrong.

  Attributes:
    classes: by class index.
    together: all classes, each box counted once; its precisions are the means of the classes'.
    errors: at the best threshold of all together.
    num_uncounted: detections that COCO's AP leaves out, because their image has 100 better ones of
      their class.
  """

  classes: tuple[ClassAnalysis, ...]
  together: ClassAnalysis
  errors: Errors
  num_uncounted: int

  def summary(self) -> dict[str, Any]:
    """Returns what programs read, as `evaluation.json` holds it; None is undefined."""
    return {
      "iou": FOUND_IOU,
      "best_threshold": _point(self.together.best),
      "classes": [
        {
          "name": one.name,
          "images": one.num_images,
          "annotated": one.num_true,
          "crowds": one.num_crowds,
          "detected": one.num_detected,
          "best_threshold": _point(one.best),
        }
        for one in self.classes
      ],
      "errors": {
        "threshold": self.errors.threshold,
        "detections": self.errors.detections_by_kind(),
        "annotated": self.errors.boxes_by_kind(),
      },
    }


def analyse(boxes: EvaluatedBoxes) -> Analysis:
  """Analyses boxes; at COCO's size, 5,000 images of 80 classes, in seconds."""
  pairs = overlaps(boxes, LOOSE_IOU)
  matches, strict_matches = match(boxes, pairs, FOUND_IOU), match(boxes, pairs, STRICT_IOU)
  annotated, detected = boxes.annotated_by_class(), boxes.detected_by_class()
  crowds = np.bincount(boxes.true_classes[boxes.crowds], minlength=boxes.num_classes)
  single = ~boxes.crowds
  everything, judged_classes = judge(boxes, matches)
  _, as_coco = judge(boxes, matches, COCO_DETECTIONS)
  _, strict = judge(boxes, strict_matches, COCO_DETECTIONS)
  classes = []
  for index, judged in enumerate(judged_classes):
    classes.append(
      ClassAnalysis(
        name=boxes.label_map.name(index),
        num_images=len(np.unique(boxes.true_images[single & (boxes.true_classes == index)])),
        num_true=int(annotated[index]),
        num_crowds=int(crowds[index]),
        num_detected=int(detected[index]),
        precision=precision_over_recall(as_coco[index]),
        strict_precision=precision_over_recall(strict[index]),
        f1=f1_over_threshold(judged, THRESHOLDS),
        best=best_point(judged),
      )
    )
  together = ClassAnalysis(
    name="all classes",
    num_images=len(np.unique(boxes.true_images[single])),
    num_true=int(annotated.sum()),
    num_crowds=int(crowds.sum()),
    num_detected=len(boxes.scores),
    precision=_mean([one.precision for one in classes]),
    strict_precision=_mean([one.strict_precision for one in classes]),
    f1=f1_over_threshold(everything, THRESHOLDS),
    best=best_point(everything),
  )
  # Where nothing is found, all detections are errors, whatever their score.
  threshold = together.best.threshold if together.best else 0.0
  return Analysis(
    classes=tuple(classes),
    together=together,
    errors=find_errors(boxes, pairs, matches, threshold),
    num_uncounted=int((ranks_in_class(boxes) >= COCO_DETECTIONS).sum()),
  )


def _mean(curves: list[Floats | None]) -> Floats | None:
  there = [curve for curve in curves if curve is not None]
  return np.mean(there, axis=0) if there else None


def _point(point: OperatingPoint | None) -> dict[str, float] | None:
  return None if point is None else dataclasses.asdict(point)
