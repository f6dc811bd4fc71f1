"""Annotated and detected boxes of an evaluation as arrays, and the file that keeps them."""

import dataclasses
import io
import json
import os
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluatedBoxes:
  """What is annotated in some images, and what a detector found in them.

  There are I images, G annotated boxes in the order of their file, and D detections. Boxes are
  (ymin, xmin, ymax, xmax) in pixels of the image.

  Attributes:
    label_map: the classes.
    image_ids: int64 [I], ascending.
    file_names: of the images, I of them.
    true_images: int32 [G], positions in `image_ids`, ascending.
    true_classes: int32 [G], class indices.
    true_boxes: float64 [G, 4].
    true_areas: float64 [G], square pixels of the objects, which COCO's sizes are.
    crowds: bool [G], whether a box stands for a group: what is detected in it is not counted.
    images: int32 [D], positions in `image_ids`, ascending.
    classes: int32 [D], class indices.
    boxes: float64 [D, 4].
    scores: float64 [D].
  """

  label_map: LabelMap
  image_ids: Ints
  file_names: tuple[str, ...]
  true_images: Ints
  true_classes: Ints
  true_boxes: Floats
  true_areas: Floats
  crowds: Bools
  images: Ints
  classes: Ints
  boxes: Floats
  scores: Floats

  @property
  def num_classes(self) -> int:
    return self.label_map.num_classes

  def annotated_by_class(self) -> Ints:
    """Returns the number of annotated boxes of each class, without crowds, [num_classes]."""
    return np.bincount(self.true_classes[~self.crowds], minlength=self.num_classes)

  def detected_by_class(self) -> Ints:
    """Returns the number of detections of each class, [num_classes]."""
    return np.bincount(self.classes, minlength=self.num_classes)


def boxes_of_coco(
  annotations: str | Path | Mapping[str, Any],
  results: Sequence[Mapping[str, Any]],
  label_map: LabelMap,
  image_ids: Sequence[int] | None = None,
) -> EvaluatedBoxes:
  """Returns the boxes of COCO's formats.

  Args:
    annotations: COCO JSON, a file or what it holds.
    results: detections in COCO's result format; those of other images or classes are left out.
    label_map: the classes to look at.
    image_ids: the images that were looked at; None for all of the annotations.
  """
  if isinstance(annotations, str | Path):
    annotations = parse_json(Path(annotations).read_text(encoding="utf-8"))
  assert isinstance(annotations, Mapping)
  names = {row["id"]: str(row.get("file_name", "")) for row in annotations["images"]}
  ids = sorted(set(names if image_ids is None else image_ids))
  images = {image_id: position for position, image_id in enumerate(ids)}
  classes = {category.id: index for index, category in enumerate(label_map.categories)}

  def kept(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    known = [r for r in rows if r["image_id"] in images and r["category_id"] in classes]
    return sorted(known, key=lambda row: images[row["image_id"]])

  true, found = kept(annotations["annotations"]), kept(results)
  return EvaluatedBoxes(
    label_map=label_map,
    image_ids=np.array(ids, np.int64),
    file_names=tuple(names.get(image_id, "") for image_id in ids),
    true_images=np.array([images[row["image_id"]] for row in true], np.int32),
    true_classes=np.array([classes[row["category_id"]] for row in true], np.int32),
    true_boxes=_corners(true),
    true_areas=np.array([row["area"] for row in true], np.float64),
    crowds=np.array([bool(row.get("iscrowd", 0)) for row in true], bool),
    images=np.array([images[row["image_id"]] for row in found], np.int32),
    classes=np.array([classes[row["category_id"]] for row in found], np.int32),
    boxes=_corners(found),
    scores=np.array([row["score"] for row in found], np.float64),
  )


def _corners(rows: Sequence[Mapping[str, Any]]) -> Floats:
  x, y, width, height = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4).T
  return np.stack([y, x, y + height, x + width], axis=1)


def coco_of_boxes(boxes: EvaluatedBoxes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
  """Returns the content of a COCO JSON and the detections in COCO's result format."""
  ids = boxes.image_ids.tolist()
  category_ids = [category.id for category in boxes.label_map.categories]
  content = {
    "images": [
      {"id": image_id, "file_name": name}
      for image_id, name in zip(ids, boxes.file_names, strict=True)
    ],
    "categories": [{"id": c.id, "name": c.name} for c in boxes.label_map.categories],
    "annotations": [
      {
        # From 1: COCO's evaluation takes a match with annotation 0 for no match.
        "id": number,
        "image_id": ids[image],
        "category_id": category_ids[index],
        "bbox": box,
        "area": area,
        "iscrowd": int(crowd),
      }
      for number, (image, index, box, area, crowd) in enumerate(
        zip(
          boxes.true_images.tolist(),
          boxes.true_classes.tolist(),
          _sides(boxes.true_boxes),
          boxes.true_areas.tolist(),
          boxes.crowds.tolist(),
          strict=True,
        ),
        start=1,
      )
    ],
  }
  results = [
    {"image_id": ids[image], "category_id": category_ids[index], "bbox": box, "score": score}
    for image, index, box, score in zip(
      boxes.images.tolist(),
      boxes.classes.tolist(),
      _sides(boxes.boxes),
      boxes.scores.tolist(),
      strict=True,
    )
  ]
  return content, results


def _sides(corners: Floats) -> list[list[float]]:
  """Returns boxes as (x, y, width, height)."""
  ymin, xmin, ymax, xmax = corners.T
  sides: list[list[float]] = np.stack([xmin, ymin, xmax - xmin, ymax - ymin], axis=1).tolist()
  return sides


@dataclasses.dataclass(frozen=True)
class EvaluatedWith:
  """How boxes were detected that are kept in a file.

  Attributes:
    step: train step of the weights.
    data_dir: the prepared data.
    part: the part of it that was evaluated.
    score_threshold: detections at or below it were dropped.
    max_detections: the largest number of detections of an image.
  """

  step: int
  data_dir: str
  part: str
  score_threshold: float
  max_detections: int


_ARRAYS = (
  "image_ids",
  "true_images",
  "true_classes",
  "true_boxes",
  "true_areas",
  "crowds",
  "images",
  "classes",
)


def save_boxes(path: Path, boxes: EvaluatedBoxes, made_with: EvaluatedWith) -> None:
  """Writes boxes into a compressed file; a process that is killed leaves no half of it."""
  about = {
    "format_version": FORMAT_VERSION,
    **dataclasses.asdict(made_with),
    "categories": [dataclasses.asdict(category) for category in boxes.label_map.categories],
    "file_names": boxes.file_names,
  }
  unfinished = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    with unfinished.open("wb") as file:
      np.savez_compressed(
        file,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        # A detector gives float32.
        boxes=boxes.boxes.astype(np.float32),
        scores=boxes.scores.astype(np.float32),
        **{name: getattr(boxes, name) for name in _ARRAYS},
      )
    unfinished.replace(path)
  except OSError:
    unfinished.unlink(missing_ok=True)
    raise


# What NumPy, zipfile and JSON raise at bytes that are not, or not any more, an archive of arrays.
_DAMAGED = (
  OSError,
  ValueError,
  KeyError,
  TypeError,
  AttributeError,
  EOFError,
  RuntimeError,
  MemoryError,
  zipfile.BadZipFile,
  zlib.error,
  tokenize.TokenError,
)


def load_boxes(path: Path) -> tuple[EvaluatedBoxes, EvaluatedWith]:
  """Reads what `save_boxes` wrote; the file may come from a stranger.

  Raises:
    UserError: it is something else, damaged, or of another version.
  """
  try:
    # Read at once: arrays of an archive are otherwise read from the file one by one.
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
      about = parse_json(arrays["about"].tobytes())
      if about.pop("format_version") != FORMAT_VERSION:
        raise UserError(
          f"{path} was written by another version of this program. Evaluate the run again: nasfpn "
          "train --mode evaluate."
        )
      label_map = LabelMap(
        tuple(Category(int(row["id"]), str(row["name"])) for row in about.pop("categories"))
      )
      boxes = EvaluatedBoxes(
        label_map=label_map,
        file_names=tuple(map(str, about.pop("file_names"))),
        boxes=arrays["boxes"].astype(np.float64),
        scores=arrays["scores"].astype(np.float64),
        **{name: arrays[name] for name in _ARRAYS},
      )
    _check(boxes)
    return boxes, EvaluatedWith(**about)
  except _DAMAGED as error:
    raise UserError(
      f"{path} cannot be read ({error}). Delete it and evaluate the run again: nasfpn train --mode "
      "evaluate."
    ) from error


def _check(boxes: EvaluatedBoxes) -> None:
  """Raises a `ValueError` unless arrays belong together."""
  annotated = (boxes.true_images, boxes.true_classes, boxes.true_areas, boxes.crowds)
  detected = (boxes.images, boxes.classes, boxes.scores)
  if (
    {array.shape for array in annotated} != {(len(boxes.true_images),)}
    or {array.shape for array in detected} != {(len(boxes.images),)}
    or boxes.true_boxes.shape != (len(boxes.true_images), 4)
    or boxes.boxes.shape != (len(boxes.images), 4)
    or len(boxes.file_names) != len(boxes.image_ids)
  ):
    raise ValueError("its arrays do not fit together")
  if (np.diff(boxes.images) < 0).any() or (np.diff(boxes.true_images) < 0).any():
    raise ValueError("its boxes are not in the order of the images")
  for indices, number in (
    (boxes.true_images, len(boxes.image_ids)),
    (boxes.images, len(boxes.image_ids)),
    (boxes.true_classes, boxes.num_classes),
    (boxes.classes, boxes.num_classes),
  ):
    if indices.size and not (indices.min() >= 0 and indices.max() < number):
      raise ValueError("an index is out of range")
