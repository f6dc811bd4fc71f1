"""The analysis of boxes: COCO's AP from its curves, and errors that add up, on every odd kind."""

import copy

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.made_detections import make_detections
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.training.analysis.analysis import analyse
from official_nasfpn.training.analysis.boxes import boxes_of_coco
from official_nasfpn.training.analysis.curves import judge
from official_nasfpn.training.analysis.errors import (
  BACKGROUND,
  CORRECT,
  DOUBLED,
  FOUND,
  FOUND_IOU,
  LOOSE,
  LOOSE_IOU,
  LOOSELY,
  MISSED,
  NOT_COUNTED,
  TAKEN,
  WRONG_CLASS,
  find_errors,
)
from official_nasfpn.training.analysis.matching import (
  NOTHING,
  box_iou,
  match,
  match_other_classes,
  overlaps,
)

LABELS = LabelMap((Category(7, "cat"), Category(42, "dog")))


def labels_of(content):
  return LabelMap(tuple(Category(row["id"], row["name"]) for row in content["categories"]))


def made(seed, num_detections=60, num_images=12, **settings):
  content, results = make_detections(seed, num_images, 4, num_detections, **settings)
  return content, results, labels_of(content)


def ap_by_class(content, results, labels, iou):
  """Returns pycocotools' AP at one IoU, by class; None where it has -1."""
  truth = COCO()
  truth.dataset = copy.deepcopy(content)
  truth.createIndex()
  evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(list(results))), "bbox")
  evaluation.params.iouThrs = np.array([iou])
  evaluation.evaluate()
  evaluation.accumulate()
  precision = evaluation.eval["precision"][0, :, :, 0, -1]
  ids = evaluation.params.catIds
  values = [precision[:, ids.index(category.id)] for category in labels.categories]
  return [None if (value == -1).all() else value.mean() for value in values]


def mean(curve):
  return None if curve is None else curve.mean()


@pytest.mark.parametrize("seed", range(12))
def test_the_area_below_a_curve_is_pycocotools_ap(seed):
  rng = np.random.default_rng(seed)
  content, results, labels = made(
    seed,
    # 500 detections of four classes: COCO counts a hundred of each.
    num_detections=int(rng.choice([1, 30, 500])),
    # With none all scores are 0 or 1, and the order of equal ones matters.
    score_decimals=int(rng.choice([0, 1, 12])),
  )
  found = analyse(boxes_of_coco(content, results, labels))
  for iou, curves in (
    (0.5, [one.precision for one in found.classes]),
    (0.75, [one.strict_precision for one in found.classes]),
  ):
    expected = ap_by_class(content, results, labels, iou)
    assert list(map(mean, curves)) == pytest.approx(expected, abs=1e-12)
  assert (found.num_uncounted > 0) == (len(results) > 12 * 400)


def test_the_odd_kinds_are_among_them():
  drawn = [made(seed) for seed in range(12)]
  annotations = [row for content, *_ in drawn for row in content["annotations"]]
  assert any(row["iscrowd"] for row in annotations)
  assert any(row["area"] == 0 for row in annotations)
  assert any(
    {row["id"] for row in content["images"]} > {row["image_id"] for row in results}
    for content, results, _ in drawn
  )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.9])
def test_kinds_and_confusions_add_up(seed, threshold):
  boxes = boxes_of_coco(*made(seed, score_decimals=2))
  pairs = overlaps(boxes, LOOSE_IOU)
  matches = match(boxes, pairs, FOUND_IOU)
  errors = find_errors(boxes, pairs, matches, threshold)

  detections, annotated = errors.detections_by_kind(), errors.boxes_by_kind()
  counted = errors.of_detections != NOT_COUNTED
  in_crowds = (matches != NOTHING) & boxes.crowds[np.maximum(matches, 0)]
  assert (counted == (boxes.scores >= threshold) & ~in_crowds).all()
  assert sum(detections.values()) == counted.sum()
  assert sum(annotated.values()) == (~boxes.crowds).sum()
  assert annotated["found"] == detections["correct"]
  assert annotated["wrong class"] == detections["wrong class"]

  confusion = errors.confusion
  assert confusion[:-1].sum(axis=1).tolist() == boxes.annotated_by_class().tolist()
  by_class = np.bincount(boxes.classes[counted], minlength=4)
  assert confusion[:, :-1].sum(axis=0).tolist() == by_class.tolist()
  assert np.trace(confusion) == detections["correct"]
  assert confusion[:-1, :-1].sum() == detections["correct"] + detections["wrong class"]
  assert (
    confusion[-1].sum() == detections["doubled"] + detections["loose"] + detections["background"]
  )
  assert confusion[:, -1].sum() == annotated["loose"] + annotated["missed"]


@pytest.mark.parametrize("seed", range(6))
def test_each_kind_is_what_it_is_defined_as(seed):
  """Checked pair by pair, with nothing of the code that sorts."""
  boxes = boxes_of_coco(*made(seed))
  pairs = overlaps(boxes, LOOSE_IOU)
  matches = match(boxes, pairs, FOUND_IOU)
  errors = find_errors(boxes, pairs, matches, 0.1)
  chosen = boxes.scores >= 0.1
  others = match_other_classes(boxes, pairs, FOUND_IOU, chosen, matches)
  taken = {int(box) for box in (*matches[chosen], *others) if box != NOTHING}
  seen = set()
  for detection in np.flatnonzero(errors.of_detections != NOT_COUNTED):
    same_image = np.flatnonzero((boxes.true_images == boxes.images[detection]) & ~boxes.crowds)
    iou = box_iou(boxes.boxes[[detection]], boxes.true_boxes[same_image], boxes.crowds[same_image])[
      0
    ]
    same_class = boxes.true_classes[same_image] == boxes.classes[detection]
    on = set(same_image[iou >= 0.5].tolist())
    kind = errors.of_detections[detection]
    seen.add(kind)
    if kind == CORRECT:
      assert matches[detection] in on
      assert boxes.true_classes[matches[detection]] == boxes.classes[detection]
    elif kind == WRONG_CLASS:
      assert others[detection] in on
      assert boxes.true_classes[others[detection]] != boxes.classes[detection]
    elif kind == DOUBLED:
      assert on
      assert on <= taken
    elif kind == LOOSE:
      assert not on
      assert ((iou >= 0.1) & same_class).any()
    else:
      assert kind == BACKGROUND
      assert not on
      assert not ((iou >= 0.1) & same_class).any()
  assert {CORRECT, DOUBLED, LOOSE, BACKGROUND} <= seen
  for box in np.flatnonzero(~boxes.crowds):
    assert (errors.of_boxes[box] in (FOUND, TAKEN)) == (box in taken)


def test_a_higher_threshold_leaves_matches_as_they_are():
  content, results, labels = made(3)
  boxes = boxes_of_coco(content, results, labels)
  above = boxes_of_coco(content, [row for row in results if row["score"] >= 0.3], labels)
  chosen = boxes.scores >= 0.3
  all_matches = match(boxes, overlaps(boxes), 0.5)
  assert match(above, overlaps(above), 0.5).tolist() == all_matches[chosen].tolist()


@pytest.mark.parametrize("seed", range(6))
def test_the_best_threshold_is_the_best_of_all(seed):
  boxes = boxes_of_coco(*made(seed, score_decimals=2))
  found = analyse(boxes)
  matches = match(boxes, overlaps(boxes), 0.5)
  together, _ = judge(boxes, matches)
  f1 = [
    2 * together.right[kept].sum() / (together.num_true + kept.sum())
    for threshold in np.unique(boxes.scores)
    if (kept := together.scores >= threshold).any()
  ]
  best = found.together.best
  assert best.f1 == pytest.approx(max(f1))
  assert 2 / (1 / best.precision + 1 / best.recall) == pytest.approx(best.f1)
  # The errors are those of that threshold.
  detections = found.errors.detections_by_kind()
  assert detections["correct"] / sum(detections.values()) == pytest.approx(best.precision)
  assert detections["correct"] / found.together.num_true == pytest.approx(best.recall)
  # And the curve passes below it, on its grid of thresholds.
  assert found.together.f1.max() <= best.f1 + 1e-12


def boxes_of(annotated, detected):
  """Returns boxes of one image; annotated as (category, x, y, width, height), detected likewise."""
  content = {
    "images": [{"id": 5, "file_name": "a.jpg"}],
    "annotations": [
      {"image_id": 5, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
      for c, box, crowd in annotated
    ],
  }
  results = [
    {"image_id": 5, "category_id": c, "bbox": box, "score": score} for c, box, score in detected
  ]
  return boxes_of_coco(content, results, LABELS)


def test_one_of_each_by_hand():
  boxes = boxes_of(
    [
      (7, [0, 0, 10, 10], 0),
      (7, [50, 0, 10, 10], 0),
      (42, [100, 0, 10, 10], 0),
      (7, [150, 0, 10, 10], 0),
      (42, [200, 0, 50, 50], 1),
    ],
    [
      (7, [0, 0, 10, 10], 0.9),  # Correct.
      (7, [1, 0, 10, 10], 0.8),  # Doubled.
      (7, [56, 0, 10, 10], 0.7),  # Loose: 4 of 16.
      (7, [100, 0, 10, 10], 0.6),  # Of the wrong class.
      (42, [210, 10, 10, 10], 0.5),  # In a crowd.
      (42, [400, 0, 10, 10], 0.4),  # Background.
      (42, [0, 0, 10, 10], 0.3),  # Doubled, though of another class.
      (7, [150, 0, 10, 10], 0.1),  # Below the threshold.
    ],
  )
  pairs = overlaps(boxes, LOOSE_IOU)
  errors = find_errors(boxes, pairs, match(boxes, pairs, FOUND_IOU), 0.2)
  assert errors.of_detections.tolist() == [
    CORRECT, DOUBLED, LOOSE, WRONG_CLASS, NOT_COUNTED, BACKGROUND, DOUBLED, NOT_COUNTED,
  ]  # fmt: skip
  assert errors.of_boxes.tolist() == [FOUND, LOOSELY, TAKEN, MISSED, NOT_COUNTED]
  assert errors.confusion.tolist() == [[1, 0, 2], [1, 0, 0], [2, 2, 0]]


def test_nothing_annotated_or_nothing_detected():
  annotated, detected = [(7, [0, 0, 10, 10], 0)], [(7, [0, 0, 10, 10], 0.5)]
  nothing = analyse(boxes_of([], []))
  assert nothing.together.best is None
  assert nothing.together.precision is None
  missed = analyse(boxes_of(annotated, []))
  assert missed.errors.boxes_by_kind()["missed"] == 1
  assert missed.classes[0].precision.max() == 0
  assert missed.classes[0].best is None
  invented = analyse(boxes_of([], detected))
  assert invented.errors.detections_by_kind()["background"] == 1
  assert invented.classes[0].precision is None
  only_crowds = analyse(boxes_of([(7, [0, 0, 20, 20], 1)], detected))
  assert sum(only_crowds.errors.detections_by_kind().values()) == 0
  assert only_crowds.summary()["classes"][0]["crowds"] == 1
