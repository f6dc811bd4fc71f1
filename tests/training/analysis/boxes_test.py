"""The file of evaluated boxes: what was written comes back, and nothing else is taken for it."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks.made_detections import make_detections
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.training.analysis.boxes import (
  EvaluatedWith,
  boxes_of_coco,
  coco_of_boxes,
  load_boxes,
  save_boxes,
)
from official_nasfpn.training.coco_evaluation import evaluate_coco_results

MADE_WITH = EvaluatedWith(12, "data/<b>cells</b>", "val", 0.05, 100)


@pytest.fixture
def made():
  """Returns boxes as a detector gives them, in float32, and what they were made of."""
  content, results = make_detections(1, 10, 4, 40)
  for row in results:
    row["bbox"] = np.array(row["bbox"], np.float32).astype(float).tolist()
    row["score"] = float(np.float32(row["score"]))
  labels = LabelMap(tuple(Category(row["id"], row["name"]) for row in content["categories"]))
  return boxes_of_coco(content, results, labels), content, results, labels


def test_what_was_written_comes_back(made, tmp_path):
  boxes, *_ = made
  save_boxes(tmp_path / "boxes.npz", boxes, MADE_WITH)
  again, made_with = load_boxes(tmp_path / "boxes.npz")
  assert made_with == MADE_WITH
  for field in dataclasses.fields(boxes):
    expected, value = getattr(boxes, field.name), getattr(again, field.name)
    if field.name == "boxes":
      assert value == pytest.approx(expected, abs=1e-4)
    elif isinstance(expected, np.ndarray):
      assert (value == expected).all(), field.name
      assert value.dtype == expected.dtype
    else:
      assert value == expected
  assert [path.name for path in tmp_path.iterdir()] == ["boxes.npz"]


def test_coco_evaluates_them_as_what_they_were_made_of(made):
  boxes, content, results, labels = made
  expected = evaluate_coco_results(content, results, labels)
  found = evaluate_coco_results(*coco_of_boxes(boxes), labels)
  assert found.metrics == pytest.approx(expected.metrics, abs=1e-12)


def test_images_and_classes_that_were_not_looked_at_are_left_out(made):
  _, content, results, labels = made
  ids = [row["id"] for row in content["images"][:3]]
  few = boxes_of_coco(content, results, LabelMap(labels.categories[:2]), ids)
  assert few.image_ids.tolist() == sorted(ids)
  assert few.classes.max() == 1
  assert len(few.images) == sum(
    row["image_id"] in ids and row["category_id"] in {c.id for c in labels.categories[:2]}
    for row in results
  )


def test_other_files_and_damaged_ones_are_refused(made, tmp_path):
  boxes, *_ = made
  path = tmp_path / "boxes.npz"
  save_boxes(path, boxes, MADE_WITH)
  whole = path.read_bytes()
  for content in (b"", b"<html>", whole[: len(whole) // 2]):
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
      load_boxes(path)


@pytest.mark.parametrize(
  "name", ["images", "classes", "true_images", "true_classes", "boxes", "crowds", "scores"]
)
def test_arrays_that_do_not_fit_together_are_refused(made, tmp_path, name):
  boxes, *_ = made
  path = tmp_path / "boxes.npz"
  save_boxes(path, boxes, MADE_WITH)
  with np.load(path) as arrays:
    content = dict(arrays)
  content[name] = content[name][:-1]
  np.savez(path, **content)
  with pytest.raises(UserError, match="do not fit together"):
    load_boxes(path)


def test_indices_out_of_range_and_other_versions_are_refused(made, tmp_path):
  boxes, *_ = made
  path = tmp_path / "boxes.npz"
  save_boxes(path, boxes, MADE_WITH)
  with np.load(path) as arrays:
    content = dict(arrays)
  np.savez(path, **{**content, "classes": content["classes"] + 100})
  with pytest.raises(UserError, match="out of range"):
    load_boxes(path)
  np.savez(path, **{**content, "images": content["images"][::-1]})
  with pytest.raises(UserError, match="order of the images"):
    load_boxes(path)
  np.savez(path, **{**content, "scores": np.array([{}], object)})
  with pytest.raises(UserError, match="cannot be read"):
    load_boxes(path)
  about = {**json.loads(content["about"].tobytes()), "format_version": 99}
  np.savez(path, **{**content, "about": np.frombuffer(json.dumps(about).encode(), np.uint8)})
  with pytest.raises(UserError, match="another version"):
    load_boxes(path)
