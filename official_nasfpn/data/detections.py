"""Detections: those of one image as a type, those of a batch as arrays under fixed names."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from PIL import Image

from official_nasfpn.errors import UserError

# (ymin, xmin, ymax, xmax) in pixels of the image.
Box = tuple[float, float, float, float]


class ArraySpec(NamedTuple):
  """An array of a batch.

  Attributes:
    dtype: NumPy's; in graphs and over gRPC strings are bytes in UTF-8.
    shape: None where a size depends on the batch or on `Detector.max_detections`.
  """

  dtype: type[np.generic]
  shape: tuple[int | None, ...]


# The detections of a batch of images: what an export gives, whatever its format, and what a model
# server sends. An image has `num_detections` of them, best first; the rows after those are zero.
BATCH_ARRAYS = MappingProxyType(
  {
    # (ymin, xmin, ymax, xmax) in pixels of each image.
    "boxes": ArraySpec(np.float32, (None, None, 4)),
    "scores": ArraySpec(np.float32, (None, None)),
    # The position of the class in the label map, from 0.
    "classes": ArraySpec(np.int32, (None, None)),
    # The dataset's own ids, and the names of the classes.
    "category_ids": ArraySpec(np.int64, (None, None)),
    "labels": ArraySpec(np.str_, (None, None)),
    "num_detections": ArraySpec(np.int32, (None,)),
  }
)
# What is added where a budget chooses the exit; both are the same for all images of a batch.
BUDGET_ARRAYS = MappingProxyType(
  {
    # The exit taken: the last that is fast enough, or the first where none is.
    "exit": ArraySpec(np.int32, (None,)),
    # Milliseconds of the whole batch at that exit, by the times measured at export (nine of ten are
    # faster): more than the budget where not even the first exit is fast enough.
    "expected_ms": ArraySpec(np.float32, (None,)),
  }
)


@dataclasses.dataclass(frozen=True)
class Detection:
  """One object.

  Attributes:
    label: the name of its class.
    score: in [0, 1].
    box: (ymin, xmin, ymax, xmax) in pixels of the image.
  """

  label: str
  score: float
  box: Box


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
  """The objects detected in one image, best first; iterating gives each as a `Detection`.

  Attributes:
    boxes: float32 [n, 4] as (ymin, xmin, ymax, xmax) in pixels of the image.
    scores: float32 [n].
    classes: int32 [n], class indices.
    category_ids: int64 [n], the dataset's own.
    labels: names of the classes, n of them.
    exit_number: the exit taken, where a budget chose it; else None.
    expected_ms: with a budget, milliseconds that all images of the batch take at that exit, by the
      times measured at export: more than the budget where not even the first exit is fast enough.
      None without a budget, and from exports that do not tell.
  """

  boxes: np.ndarray
  scores: np.ndarray
  classes: np.ndarray
  category_ids: np.ndarray
  labels: tuple[str, ...]
  exit_number: int | None = None
  expected_ms: float | None = None

  def __len__(self) -> int:
    return len(self.labels)

  def __iter__(self) -> Iterator[Detection]:
    for label, score, box in zip(
      self.labels, self.scores.tolist(), self.boxes.tolist(), strict=True
    ):
      yield Detection(label, score, tuple(box))

  def above(self, min_score: float) -> "Detections":
    """Returns those with a score of `min_score` or more."""
    kept = self.scores >= min_score
    return dataclasses.replace(
      self,
      boxes=self.boxes[kept],
      scores=self.scores[kept],
      classes=self.classes[kept],
      category_ids=self.category_ids[kept],
      labels=tuple(np.array(self.labels, object)[kept]),
    )

  def draw(
    self, image: "np.ndarray | Image.Image | str | os.PathLike[str] | bytes", min_score: float = 0.3
  ) -> Image.Image:
    """Returns a picture of the image with boxes, class names and scores; a notebook shows it.

    Args:
      image: the image that they were detected in: uint8 [height, width, 3], a picture of Pillow, a
        file, or its bytes. Files and bytes are shown upright, as `serving.Detector` reads them.
      min_score: weaker detections are not drawn.

    Raises:
      UserError: the image cannot be read.
    """
    # Imported here: a client over REST needs neither fonts nor TensorFlow.
    from official_nasfpn.data.drawing import draw_detections
    from official_nasfpn.data.pixels import BrokenImageError

    try:
      if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
      elif not isinstance(image, Image.Image):
        from official_nasfpn.data.image_encoding import decoded_picture, read_image

        image = decoded_picture(read_image(image).data)
      return draw_detections(image, self, min_score)
    except BrokenImageError as error:
      name = (
        f"The image {os.fspath(image)}" if isinstance(image, str | os.PathLike) else "The image"
      )
      raise UserError(f"{name} cannot be drawn on: {error}.") from error


def split_batch(arrays: Mapping[str, np.ndarray]) -> list[Detections]:
  """Returns the detections of every image of a batch.

  Args:
    arrays: those of `BATCH_ARRAYS`, and perhaps of `BUDGET_ARRAYS`; labels as str or as bytes.
  """
  images = []
  for index, count in enumerate(arrays["num_detections"]):
    labels = arrays["labels"][index, :count].tolist()
    images.append(
      Detections(
        **{
          name: arrays[name][index, :count]
          for name in ("boxes", "scores", "classes", "category_ids")
        },
        labels=tuple(t.decode(errors="replace") if isinstance(t, bytes) else t for t in labels),
        exit_number=int(arrays["exit"][index]) if "exit" in arrays else None,
        expected_ms=float(arrays["expected_ms"][index]) if "expected_ms" in arrays else None,
      )
    )
  return images
