"""Annotations and detections as a detector of many classes makes them, drawn from a seed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_IMAGE_SIZE = 640
# Of annotated boxes.
_CROWDS, _WITHOUT_AREA = 0.02, 0.01
# Of images, those without annotated boxes, and those without detections.
_EMPTY = 0.05


def make_detections(
  seed: int,
  num_images: int,
  num_classes: int,
  num_detections: int,
  boxes_per_image: float = 7.3,
  score_decimals: int = 3,
) -> tuple[dict[str, Any], Sequence[Mapping[str, Any]]]:
  """Returns the content of a COCO JSON, and detections in COCO's result format.

  Half of the detections lie near annotated boxes, the others anywhere. There are crowds, boxes of
  no area, images without annotations or detections, and one class without annotations. Ids have
  gaps and are not in order.

  Args:
    seed: the same seed gives the same boxes.
    num_images: images of 640 x 640 pixels.
    num_classes: classes, at least 2.
    num_detections: detections of each image that has any.
    boxes_per_image: the mean number of annotated boxes; COCO's is 7.3.
    score_decimals: decimals of the scores; the fewer, the more are equal.
  """
  rng = np.random.default_rng(seed)
  category_ids = [3 + 7 * index for index in rng.permutation(num_classes).tolist()]
  image_ids = (1 + 10 * rng.permutation(num_images)).tolist()
  annotations: list[dict[str, Any]] = []
  results: list[dict[str, Any]] = []
  for image_id in image_ids:
    num_boxes = 0 if rng.random() < _EMPTY else rng.poisson(boxes_per_image)
    boxes = _boxes(rng, num_boxes)
    boxes[rng.random(num_boxes) < _WITHOUT_AREA, 2] = 0
    classes = rng.integers(num_classes - 1, size=num_boxes)
    for box, class_index in zip(boxes.tolist(), classes.tolist(), strict=True):
      annotations.append(
        {
          "image_id": image_id,
          "category_id": category_ids[class_index],
          "bbox": box,
          # An outline covers a part of its box.
          "area": box[2] * box[3] * rng.uniform(0.5, 1),
          "iscrowd": int(rng.random() < _CROWDS),
        }
      )
    if rng.random() < _EMPTY:
      continue
    detected, detected_classes = _detect(rng, boxes, classes, num_detections, num_classes)
    scores = np.round(rng.beta(1, 4, num_detections), score_decimals)
    results += [
      {"image_id": image_id, "category_id": category_ids[index], "bbox": box, "score": score}
      for index, box, score in zip(
        detected_classes.tolist(), detected.tolist(), scores.tolist(), strict=True
      )
    ]
  for annotation, number in zip(annotations, rng.permutation(len(annotations)), strict=True):
    annotation["id"] = 1 + 3 * int(number)
  content = {
    "images": [{"id": id_, "width": _IMAGE_SIZE, "height": _IMAGE_SIZE} for id_ in image_ids],
    "annotations": annotations,
    "categories": [{"id": id_, "name": f"class {id_}"} for id_ in category_ids],
  }
  return content, results


def _boxes(rng: np.random.Generator, number: int) -> np.ndarray:
  """Returns float64 [number, 4] as (x, y, width, height), of all of COCO's sizes."""
  sides = np.exp(rng.uniform(np.log(8), np.log(300), (number, 2)))
  return np.concatenate([rng.random((number, 2)) * (_IMAGE_SIZE - sides), sides], axis=1)


def _detect(
  rng: np.random.Generator,
  boxes: np.ndarray,
  classes: np.ndarray,
  num_detections: int,
  num_classes: int,
) -> tuple[np.ndarray, np.ndarray]:
  detected = _boxes(rng, num_detections)
  detected_classes = rng.integers(num_classes, size=num_detections)
  if len(boxes):
    found = rng.integers(len(boxes), size=num_detections // 2)
    error = rng.normal(size=(len(found), 4)) * rng.choice([0, 0.02, 0.1, 0.3], (len(found), 1))
    near = boxes[found] + error * boxes[found][:, [2, 3, 2, 3]]
    near[:, 2:] = np.maximum(near[:, 2:], 0)
    detected[: len(found)] = near
    right = rng.random(len(found)) < 0.8
    detected_classes[: len(found)][right] = classes[found][right]
  return detected, detected_classes


def make_outputs(num_anchors: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns outputs for one image that are distributed as those of a trained detector.

  Nearly all scores are far below 0.05, a few hundred to a thousand above.

  Args:
    num_anchors: number of anchors.
    num_classes: number of classes, of which COCO has 90.

  Returns:
    Class logits float32 [1, num_anchors, num_classes], box deltas float32 [1, num_anchors, 4].
  """
  rng = np.random.default_rng(0)
  logits = rng.normal(-6.5, 1, (1, num_anchors, num_classes)).astype(np.float32)
  return logits, rng.normal(0, 0.2, (1, num_anchors, 4)).astype(np.float32)
