"""Precision over recall, and F1 over the score from which on detections count."""

import dataclasses

import numpy as np

from official_nasfpn.training.analysis.boxes import Bools, EvaluatedBoxes, Floats, Ints
from official_nasfpn.training.analysis.matching import NOTHING, best_first, ranks_in_class

# COCO reads precision at these recalls, and counts so many detections of a class in an image.
RECALLS = np.linspace(0.0, 1.0, 101)
COCO_DETECTIONS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
  """Detections of one class, or of all, that count, the best first.

  Attributes:
    scores: float64 [N], descending.
    right: bool [N], whether each finds an annotated box.
    num_true: annotated boxes that there are to find.
  """

  scores: Floats
  right: Bools
  num_true: int


def judge(
  boxes: EvaluatedBoxes, matches: Ints, max_detections: int | None = None
) -> tuple[Judged, tuple[Judged, ...]]:
  """Returns which detections are right, of all classes together and of each; crowds do not count.

  Args:
    boxes: the boxes.
    matches: of `match`.
    max_detections: of a class in an image, the best so many count; None for all.
  """
  counted = counts(boxes, matches)
  if max_detections is not None:
    counted &= ranks_in_class(boxes) < max_detections
  order = best_first(boxes)
  order = order[counted[order]]
  num_true = boxes.annotated_by_class()
  by_class = np.argsort(boxes.classes[order], kind="stable")
  ends = np.cumsum(np.bincount(boxes.classes[order], minlength=boxes.num_classes))

  def judged(chosen: Ints, number: int) -> Judged:
    return Judged(boxes.scores[chosen], matches[chosen] != NOTHING, number)

  classes = np.split(order[by_class], ends[:-1])
  return judged(order, int(num_true.sum())), tuple(map(judged, classes, num_true.tolist()))


def counts(boxes: EvaluatedBoxes, matches: Ints) -> Bools:
  """Returns which detections count: those that lie in no crowd, [D]."""
  counted: Bools = np.ones(len(matches), bool)
  matched = matches != NOTHING
  counted[matched] = ~boxes.crowds[matches[matched]]
  return counted


def precision_over_recall(judged: Judged) -> Floats | None:
  """Returns the precision at each of `RECALLS`, [101]; its mean is COCO's AP at one IoU.

  As COCO does, it is the best precision that any threshold with at least that recall gives, and 0
  where none reaches it. None where there is nothing to find.
  """
  if not judged.num_true:
    return None
  right = np.cumsum(judged.right)
  precision = right / np.arange(1, len(right) + 1)
  precision = np.maximum.accumulate(precision[::-1])[::-1]
  places = np.searchsorted(right / judged.num_true, RECALLS, side="left")
  return np.concatenate([precision, [0.0]])[places]


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
  """What a score threshold gives at IoU 0.5.

  Attributes:
    threshold: detections with at least this score count.
    precision: share of the detections that is right.
    recall: share of the annotated boxes that is found.
    f1: harmonic mean of both.
  """

  threshold: float
  precision: float
  recall: float
  f1: float


def best_point(judged: Judged) -> OperatingPoint | None:
  """Returns the threshold with the highest F1, of equal ones the highest.

  It lies halfway between the last score that counts and the first that does not. None where there
  is nothing to find, or nothing that is right.
  """
  if not judged.num_true or not judged.right.any():
    return None
  right = np.cumsum(judged.right)
  number = np.arange(1, len(right) + 1)
  f1 = 2 * right / (judged.num_true + number)
  # No threshold parts equal scores.
  ends = np.append(np.diff(judged.scores) != 0, True)
  best = int(np.argmax(np.where(ends, f1, -1.0)))
  threshold = judged.scores[best]
  if best + 1 < len(judged.scores):
    threshold = (threshold + judged.scores[best + 1]) / 2
  return OperatingPoint(
    threshold=float(threshold),
    precision=float(right[best] / number[best]),
    recall=float(right[best] / judged.num_true),
    f1=float(f1[best]),
  )


def f1_over_threshold(judged: Judged, thresholds: Floats) -> Floats | None:
  """Returns the F1 at each score threshold, [N]; None where there is nothing to find."""
  if not judged.num_true:
    return None
  number = np.searchsorted(-judged.scores, -thresholds, side="right")
  right = np.concatenate([[0], np.cumsum(judged.right)])[number]
  return 2 * right / (judged.num_true + number)
