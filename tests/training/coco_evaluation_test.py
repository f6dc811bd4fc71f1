"""COCO metrics with the dataset's own category ids, and notes on undefined metrics."""

import json

import numpy as np
import pytest

from official_nasfpn.data.dataset_info import FILLER_ID, DatasetInfo, Part
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.training.coco_evaluation import (
  METRICS,
  EvaluationResult,
  coco_results,
  detect_in_batches,
  evaluate_coco_results,
  evaluate_detections,
  require_defined,
)

# Ids have a gap and do not start at 1.
LABELS = LabelMap((Category(7, "cat"), Category(42, "dog")))


@pytest.fixture
def truth(tmp_path):
  def write(annotations, images=(1, 2)):
    path = tmp_path / "truth.json"
    path.write_text(
      json.dumps(
        {
          "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 200} for i in images
          ],
          "categories": [{"id": c.id, "name": c.name} for c in LABELS.categories],
          "annotations": [
            {"id": n + 1, "iscrowd": 0, "area": a["bbox"][2] * a["bbox"][3], **a}
            for n, a in enumerate(annotations)
          ],
        }
      )
    )
    return path

  return write


def detections(boxes, scores, classes):
  return {
    "boxes": np.array([boxes], np.float32),
    "scores": np.array([scores], np.float32),
    "classes": np.array([classes], np.int32),
    "num_detections": np.array([len(boxes)], np.int32),
  }


def test_perfect_detections_score_one_through_ids_with_gaps(truth):
  path = truth(
    [
      {"image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40]},
      {"image_id": 1, "category_id": 42, "bbox": [100, 50, 60, 60]},
    ]
  )
  # Boxes are (ymin, xmin, ymax, xmax) here and (x, y, width, height) in COCO.
  found = detections([[20, 10, 60, 40], [50, 100, 110, 160]], [0.9, 0.8], [0, 1])
  results = coco_results(found, [1], LABELS)
  assert [r["category_id"] for r in results] == [7, 42]
  assert results[0]["bbox"] == [10, 20, 30, 40]

  evaluation = evaluate_coco_results(path, results, LABELS, [1])
  assert evaluation.metrics["AP"] == pytest.approx(1.0)
  assert evaluation.metrics["AR100"] == pytest.approx(1.0)
  assert evaluation.class_ap == {"cat": pytest.approx(1.0), "dog": pytest.approx(1.0)}
  assert evaluation.metrics["APl"] is None
  assert any("APl is undefined" in note for note in evaluation.notes)


def test_one_box_of_two_found_gives_half_by_hand(truth):
  path = truth(
    [
      {"image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40]},
      {"image_id": 2, "category_id": 7, "bbox": [10, 20, 30, 40]},
    ]
  )
  results = coco_results(detections([[20, 10, 60, 40]], [0.9], [0]), [1], LABELS)
  evaluation = evaluate_coco_results(path, results, LABELS)
  # Precision is 1 at the 51 of COCO's 101 recall points up to 0.5.
  assert evaluation.metrics["AP"] == pytest.approx(51 / 101)
  assert evaluation.class_ap["dog"] is None
  assert any("undefined for dog" in note for note in evaluation.notes)


def test_padding_rows_are_left_out():
  found = detections([[0, 0, 5, 5]], [0.9], [0])
  assert coco_results(found, [FILLER_ID], LABELS) == []


def test_no_detections_say_why(truth):
  path = truth([{"image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40]}])
  evaluation = evaluate_coco_results(path, [], LABELS)
  assert evaluation.metrics["AP"] == 0.0
  assert any("no detection reached" in note for note in evaluation.notes)


def test_no_annotations_say_why(truth):
  evaluation = evaluate_coco_results(truth([]), [], LABELS)
  assert evaluation.metrics["AP"] is None
  assert any("no image here has an annotated box" in note for note in evaluation.notes)


def test_far_detections_say_why(truth):
  path = truth([{"image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40]}])
  results = coco_results(detections([[150, 150, 190, 190]], [0.9], [0]), [1], LABELS)
  evaluation = evaluate_coco_results(path, results, LABELS)
  assert any("overlaps a box of its class" in note for note in evaluation.notes)


def test_json_and_table_hold_every_figure(truth):
  path = truth([{"image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40]}])
  evaluation = evaluate_coco_results(path, [], LABELS)
  stored = json.loads(evaluation.to_json())
  assert len(stored["metrics"]) == 12
  for name in (*stored["metrics"], "cat", "dog"):
    assert name in evaluation.table()


def test_detections_beyond_coco_s_limit_are_counted_and_said(truth):
  """COCO's limit is of a class in an image: the box that is found is the 101st of its class."""
  path = truth([{"image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40]}])
  far = [[100, 100, 110, 110]] * 100
  scores = [0.9] * 100 + [0.5]
  found = detections([*far, [20, 10, 60, 40]], scores, [0] * 101)
  evaluation = evaluate_coco_results(path, coco_results(found, [1], LABELS), LABELS)
  assert evaluation.metrics["AP"] == 0.0
  assert evaluation.num_uncounted == 1
  assert evaluation.uncut_metrics["AP"] == pytest.approx(1 / 101)
  assert evaluation.uncut_metrics["AR100"] == pytest.approx(1.0)
  assert "leaves 1 more out: Detector.max_detections" in evaluation.table()
  assert "with all detections counted:  AP 0.010  AP50 0.010  AP75 0.010  AR 1.000" in (
    evaluation.table()
  )
  # A hundred others of another class cut nothing.
  found = detections([*far, [20, 10, 60, 40]], scores, [1] * 100 + [0])
  evaluation = evaluate_coco_results(path, coco_results(found, [1], LABELS), LABELS)
  assert evaluation.metrics["AP"] == pytest.approx(1.0)
  assert (evaluation.num_uncounted, evaluation.uncut_metrics) == (0, None)


def test_files_of_the_first_version_are_still_read(truth):
  path = truth([{"image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40]}])
  evaluation = evaluate_coco_results(path, [], LABELS)
  content = json.loads(evaluation.to_json())
  for name in ("num_uncounted", "uncut_metrics", "analysis"):
    del content[name]
  assert EvaluationResult(**content).table() == evaluation.table()


def test_every_exit_is_evaluated_on_the_images_of_all_batches(truth):
  path = truth([{"image_id": i, "category_id": 7, "bbox": [10, 20, 30, 40]} for i in (1, 2)])
  found = detections([[20, 10, 60, 40]], [0.9], [0])
  missed = detections([[150, 150, 190, 190]], [0.9], [0])
  batches = {
    "first": ([missed, found], [1]),
    "second": ([found, found], [2]),
    "third": ([missed] * 2, [FILLER_ID]),
  }
  detected = detect_in_batches(batches, batches.get, LABELS)
  assert detected.image_ids == [1, 2]
  evaluation = evaluate_detections(detected, path, LABELS)
  assert evaluation.num_images == evaluation.num_detections == 2
  early, last = evaluation.exit_metrics
  assert evaluation.metrics == last
  assert last["AP"] == pytest.approx(1.0)
  # One of two boxes is found, after a wrong one of the same score: precision 1/2 up to recall 1/2.
  assert early["AP"] == pytest.approx(51 / 101 / 2)
  scalars = evaluation.scalars()
  assert scalars["exit_1/AP"] == early["AP"]
  assert scalars["class_AP/cat"] == scalars["AP"] == last["AP"]
  assert not {"class_AP/dog", "APl", "exit_2/AP"} & scalars.keys()


@pytest.mark.parametrize(
  "areas", [(), (100,), (32**2,), (2000,), (96**2,), (100, 20000), (100, 2000, 20000)]
)
@pytest.mark.parametrize("crowd", [False, True])
def test_what_no_evaluation_can_find_is_known_before(truth, areas, crowd):
  box = {"image_id": 1, "category_id": 7, "bbox": [0, 0, 10, 10]}
  crowds = [{**box, "area": area, "iscrowd": 1} for area in (100, 2000, 20000) if crowd]
  path = truth([*crowds, *({**box, "area": area} for area in areas)])
  info = DatasetInfo(path.parent, LABELS, {}, {}, {"truth": Part(2, len(areas), "", ())}, {})
  found = evaluate_coco_results(path, [], LABELS).metrics

  def is_defined(metric):
    try:
      require_defined(metric, info, "truth")
    except UserError:
      return False
    return True

  assert [is_defined(metric) for metric in METRICS] == [found[it] is not None for it in METRICS]
