"""Which detection finds which annotated box, as COCO's evaluation decides it."""

import dataclasses

import numpy as np

from official_nasfpn.training.analysis.boxes import Bools, EvaluatedBoxes, Floats, Ints

NOTHING = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Overlaps:
  """Pairs of a detection and an annotated box of one image that overlap, of whatever classes.

  Attributes:
    found: int64 [P], detections, ascending.
    true: int64 [P], annotated boxes, ascending for each detection.
    iou: float64 [P], intersection over union; of a crowd, over the detection's area.
  """

  found: Ints
  true: Ints
  iou: Floats


def overlaps(boxes: EvaluatedBoxes, least: float = 0.1) -> Overlaps:
  """Returns all pairs with an IoU of `least` or more."""
  positions = np.arange(len(boxes.image_ids) + 1)
  found_at = np.searchsorted(boxes.images, positions)
  true_at = np.searchsorted(boxes.true_images, positions)
  founds, trues, ious = [], [], []
  for image in np.flatnonzero((np.diff(found_at) > 0) & (np.diff(true_at) > 0)):
    found = slice(found_at[image], found_at[image + 1])
    true = slice(true_at[image], true_at[image + 1])
    iou = box_iou(boxes.boxes[found], boxes.true_boxes[true], boxes.crowds[true])
    rows, columns = np.nonzero(iou >= least)
    founds.append(rows + found.start)
    trues.append(columns + true.start)
    ious.append(iou[rows, columns])
  if not founds:
    return Overlaps(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
  return Overlaps(np.concatenate(founds), np.concatenate(trues), np.concatenate(ious))


def box_iou(boxes: Floats, true_boxes: Floats, crowds: Bools) -> Floats:
  """Returns the IoU of all pairs, [N, M]; of a crowd, the share of the box that lies in it.

  Args:
    boxes: [N, 4], (ymin, xmin, ymax, xmax).
    true_boxes: [M, 4], likewise.
    crowds: bool [M].
  """
  first = np.maximum(boxes[:, None, :2], true_boxes[None, :, :2])
  last = np.minimum(boxes[:, None, 2:], true_boxes[None, :, 2:])
  shared = np.maximum(last - first, 0).prod(axis=-1)
  area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)[:, None]
  true_area = (true_boxes[:, 2:] - true_boxes[:, :2]).prod(axis=-1)[None]
  union = np.where(crowds[None], area, area + true_area - shared)
  iou: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
  return iou


def best_first(boxes: EvaluatedBoxes) -> Ints:
  """Returns the detections in COCO's order, [D]: by score, then image, then as they were given."""
  return np.argsort(-boxes.scores, kind="stable")


def ranks_in_class(boxes: EvaluatedBoxes) -> Ints:
  """Returns for each detection how many better ones of its class its image has, [D]."""
  order = np.lexsort((-boxes.scores, boxes.classes, boxes.images))
  groups = np.stack([boxes.images[order], boxes.classes[order]])
  begins = np.concatenate([[True], (np.diff(groups) != 0).any(axis=0)])[: len(order)]
  places = np.arange(len(order))
  ranks = np.empty(len(order), np.int64)
  ranks[order] = places - np.maximum.accumulate(np.where(begins, places, 0))
  return ranks


def match(boxes: EvaluatedBoxes, pairs: Overlaps, iou: float) -> Ints:
  """Returns for each detection the annotated box of its class that it finds, or `NOTHING`, [D].

  As COCO does: detections choose in the order of their scores, each the box with which it has the
  highest IoU among those that are still free. What finds none may lie in a crowd, which any number
  of detections may do.

  Leaving out the detections below a score does not change what the others find.

  Args:
    boxes: the boxes.
    pairs: their overlaps, from `iou` on at least.
    iou: the least that counts.
  """
  same = boxes.classes[pairs.found] == boxes.true_classes[pairs.true]
  return _choose(boxes, pairs, same & (pairs.iou >= min(iou, 1 - 1e-10)), set())


def match_other_classes(
  boxes: EvaluatedBoxes, pairs: Overlaps, iou: float, chosen: Bools, matches: Ints
) -> Ints:
  """Returns for each detection the box of another class that it takes, or `NOTHING`, [D].

  Those that find a box of their class, or lie in a crowd of it, have chosen first.

  Args:
    boxes: the boxes.
    pairs: their overlaps, from `iou` on at least.
    iou: the least that counts.
    chosen: bool [D], the detections that count.
    matches: of `match`.
  """
  other = boxes.classes[pairs.found] != boxes.true_classes[pairs.true]
  free = chosen & (matches == NOTHING)
  usable = other & (pairs.iou >= iou) & free[pairs.found] & ~boxes.crowds[pairs.true]
  taken = set(matches[chosen & (matches != NOTHING)].tolist())
  return _choose(boxes, pairs, usable, taken)


def _choose(boxes: EvaluatedBoxes, pairs: Overlaps, usable: Bools, taken: set[int]) -> Ints:
  found, true, iou = pairs.found[usable], pairs.true[usable], pairs.iou[usable]
  result = np.full(len(boxes.scores), NOTHING, np.int64)
  if not len(found):
    return result
  crowd = boxes.crowds[true]
  # Of each detection first the boxes of single objects, the best and of equal ones the last first.
  rank = np.empty(len(boxes.scores), np.int64)
  rank[best_first(boxes)] = np.arange(len(boxes.scores))
  order = np.lexsort((-true, -iou, crowd, rank[found]))
  last = NOTHING
  for detection, box, is_crowd in zip(
    found[order].tolist(), true[order].tolist(), crowd[order].tolist(), strict=True
  ):
    if detection == last or (box in taken and not is_crowd):
      continue
    last = detection
    result[detection] = box
    if not is_crowd:
      taken.add(box)
  return result
