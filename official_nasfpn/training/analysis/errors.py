"""Every detection above a score, and every annotated box, by what became of it.

In the spirit of TIDE (Bolya et al., ECCV 2020), but each detection and each box is counted once.
"""

import dataclasses

import numpy as np

from official_nasfpn.training.analysis.boxes import Bools, EvaluatedBoxes, Ints
from official_nasfpn.training.analysis.curves import counts
from official_nasfpn.training.analysis.matching import (
  NOTHING,
  Overlaps,
  match_other_classes,
)

# A box is found from the first IoU on, and a detection is loosely at it from the second on.
FOUND_IOU = 0.5
LOOSE_IOU = 0.1

# What a detection is: the first of these that holds.
CORRECT, WRONG_CLASS, DOUBLED, LOOSE, BACKGROUND = range(5)
DETECTION_KINDS = {
  "correct": "finds an annotated box of its class, with an IoU of 0.5 or more, as the best so far.",
  "wrong class": "takes a box of another class, which no detection of that class finds.",
  "doubled": "lies on a box, with an IoU of 0.5 or more, that another detection has already.",
  "loose": "overlaps a box of its class with an IoU from 0.1 to 0.5.",
  "background": "is none of these: nothing like it is annotated there.",
}
# What becomes of an annotated box: likewise. The first two are as many as above.
BOX_KINDS = {
  "found": "a detection of its class has an IoU of 0.5 or more with it.",
  "wrong class": "taken by a detection of another class.",
  "loose": "not found, but a detection of its class overlaps it with an IoU from 0.1 to 0.5.",
  "missed": "none of these.",
}
FOUND, TAKEN, LOOSELY, MISSED = range(4)
# Of a detection that does not count, or a box that is a crowd.
NOT_COUNTED = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Errors:
  """What became of detections and boxes at one score threshold; the last class is the background.

  Attributes:
    threshold: detections with at least this score count.
    of_detections: [D], positions in `DETECTION_KINDS`, or `NOT_COUNTED`.
    of_boxes: [G], positions in `BOX_KINDS`, or `NOT_COUNTED`.
    confusion: [num_classes + 1, num_classes + 1], numbers by annotated (row) and detected class.
      In the last row are detections that take no box, in the last column boxes that none takes.
  """

  threshold: float
  of_detections: Ints
  of_boxes: Ints
  confusion: Ints

  def detections_by_kind(self) -> dict[str, int]:
    """Returns how many detections are of each kind."""
    return _by_kind(self.of_detections, DETECTION_KINDS)

  def boxes_by_kind(self) -> dict[str, int]:
    """Returns of how many annotated boxes each became."""
    return _by_kind(self.of_boxes, BOX_KINDS)


def find_errors(boxes: EvaluatedBoxes, pairs: Overlaps, matches: Ints, threshold: float) -> Errors:
  """Sorts detections and boxes by kind.

  Args:
    boxes: the boxes.
    pairs: their overlaps, from `LOOSE_IOU` on.
    matches: of `match` at `FOUND_IOU`.
    threshold: detections with at least this score count.
  """
  counted = counts(boxes, matches) & (boxes.scores >= threshold)
  chosen = boxes.scores >= threshold
  others = match_other_classes(boxes, pairs, FOUND_IOU, chosen, matches)
  correct = counted & (matches != NOTHING)
  wrong = counted & (others != NOTHING)

  of_boxes = np.full(len(boxes.true_classes), MISSED, np.int64)
  of_boxes[_loosely_at(boxes, pairs, counted & ~correct)[1]] = LOOSELY
  of_boxes[others[wrong]] = TAKEN
  of_boxes[matches[correct]] = FOUND
  of_boxes[boxes.crowds] = NOT_COUNTED

  # From the last kind to the first, so that the first that holds remains.
  of_detections = np.full(len(boxes.scores), BACKGROUND, np.int64)
  of_detections[_loosely_at(boxes, pairs, counted)[0]] = LOOSE
  at_a_box = (pairs.iou >= FOUND_IOU) & ~boxes.crowds[pairs.true]
  of_detections[pairs.found[at_a_box]] = DOUBLED
  of_detections[wrong] = WRONG_CLASS
  of_detections[correct] = CORRECT
  of_detections[~counted] = NOT_COUNTED

  background = boxes.num_classes
  true = np.full(len(boxes.scores), background)
  true[correct] = boxes.true_classes[matches[correct]]
  true[wrong] = boxes.true_classes[others[wrong]]
  confusion = np.zeros((background + 1, background + 1), np.int64)
  np.add.at(confusion, (true[counted], boxes.classes[counted]), 1)
  lost = (of_boxes == LOOSELY) | (of_boxes == MISSED)
  np.add.at(confusion, (boxes.true_classes[lost], background), 1)
  return Errors(threshold, of_detections, of_boxes, confusion)


def _loosely_at(boxes: EvaluatedBoxes, pairs: Overlaps, chosen: Bools) -> tuple[Ints, Ints]:
  """Returns detections, of those chosen, and the boxes of their class that they loosely overlap."""
  loose = (
    (pairs.iou >= LOOSE_IOU)
    & (pairs.iou < FOUND_IOU)
    & (boxes.classes[pairs.found] == boxes.true_classes[pairs.true])
    & ~boxes.crowds[pairs.true]
    & chosen[pairs.found]
  )
  return pairs.found[loose], pairs.true[loose]


def _by_kind(kinds: Ints, names: dict[str, str]) -> dict[str, int]:
  numbers = np.bincount(kinds[kinds != NOT_COUNTED], minlength=len(names)).tolist()
  return dict(zip(names, numbers, strict=True))
