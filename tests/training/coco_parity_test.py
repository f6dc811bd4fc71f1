"""Our COCO metrics are those of pycocotools, on annotations and detections of every odd kind."""

import copy
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.made_detections import make_detections
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.training.coco_evaluation import METRICS, evaluate_coco_results

# The order of two additions differs in the last bit of a precision.
EXACT = 1e-12
NUM_CLASSES = 4


def labels_of(content):
  categories = sorted(content["categories"], key=lambda row: row["id"])
  return LabelMap(tuple(Category(row["id"], row["name"]) for row in categories))


def reference(content, results, labels, image_ids=None):
  """Returns the twelve numbers and AP by class of pycocotools; None where it has -1."""
  truth = COCO()
  truth.dataset = copy.deepcopy(content)
  truth.createIndex()
  evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
  evaluation.params.catIds = [category.id for category in labels.categories]
  if image_ids is not None:
    evaluation.params.imgIds = list(image_ids)
  evaluation.evaluate()
  evaluation.accumulate()
  evaluation.summarize()
  precision = evaluation.eval["precision"][:, :, :, 0, -1]
  of_class = [precision[:, :, index] for index in range(len(labels.categories))]
  return (
    [None if value < 0 else value for value in evaluation.stats],
    [None if (values == -1).all() else values[values > -1].mean() for values in of_class],
  )


def check(content, results, labels, image_ids=None):
  expected, expected_of_class = reference(content, results, labels, image_ids)
  found = evaluate_coco_results(copy.deepcopy(content), results, labels, image_ids)
  assert [found.metrics[name] for name in METRICS] == pytest.approx(expected, abs=EXACT)
  assert list(found.class_ap.values()) == pytest.approx(expected_of_class, abs=EXACT)
  return found


@pytest.mark.parametrize("seed", range(40))
def test_random_detections(seed):
  rng = np.random.default_rng([seed, 1])
  content, results = make_detections(
    seed,
    num_images=int(rng.integers(2, 20)),
    num_classes=NUM_CLASSES,
    num_detections=int(rng.choice([1, 5, 30, 150])),
    # With none all scores are 0 or 1.
    score_decimals=int(rng.choice([0, 1, 3, 12])),
  )
  check(content, results, labels_of(content))


def test_the_odd_kinds_are_among_them():
  content, results = make_detections(0, 200, NUM_CLASSES, 150, score_decimals=1)
  annotations = content["annotations"]
  ids = [annotation["id"] for annotation in annotations]
  assert ids != sorted(ids)
  assert any(annotation["iscrowd"] for annotation in annotations)
  assert any(annotation["area"] == 0 for annotation in annotations)
  image_ids = {image["id"] for image in content["images"]}
  assert image_ids - {annotation["image_id"] for annotation in annotations}
  assert image_ids - {result["image_id"] for result in results}
  found = check(content, results, labels_of(content))
  assert 0.05 < found.metrics["AP"] < 0.9
  assert list(found.class_ap.values()).count(None) == 1


def test_equal_scores_keep_the_order_of_images_and_detections():
  content, results = make_detections(1, 30, NUM_CLASSES, 120)
  for result in results:
    result["score"] = 0.5
  labels = labels_of(content)
  found = check(content, results, labels)
  # The order of detections matters then, and is that which pycocotools takes.
  assert check(content, results[::-1], labels).metrics["AP"] != found.metrics["AP"]


def test_some_images_and_some_classes():
  content, results = make_detections(2, 30, NUM_CLASSES, 50)
  labels = labels_of(content)
  image_ids = [image["id"] for image in content["images"][:11]]
  found = check(content, results, LabelMap(labels.categories[:2]), image_ids)
  assert found.num_images == 11


@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize("area", [32**2, 96**2, 1.0])
def test_sizes_at_the_bounds_of_the_ranges(area, crowd):
  content, _ = make_detections(3, 2, NUM_CLASSES, 1)
  annotation = content["annotations"][0] | {"iscrowd": int(crowd), "area": float(area)}
  annotation["bbox"] = [10.0, 10.0, area**0.5, area**0.5]
  content["annotations"] = [annotation]
  result = {key: annotation[key] for key in ("image_id", "category_id", "bbox")}
  twice = [{**result, "score": 0.9}, {**result, "score": 0.8}]
  check(content, twice, labels_of(content))


def test_nothing_is_printed_and_nothing_of_the_caller_s_is_changed(tmp_path, capfd):
  content, results = make_detections(4, 5, NUM_CLASSES, 20)
  file = tmp_path / "truth.json"
  file.write_text(json.dumps(content))
  before = copy.deepcopy(results)
  evaluate_coco_results(file, results, labels_of(content))
  assert capfd.readouterr() == ("", "")
  assert results == before
