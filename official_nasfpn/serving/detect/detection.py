"""Runs a SavedModel over images, batch by batch."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from official_nasfpn.data.image_encoding import BrokenImageError, EncodedImage
from official_nasfpn.serving.detect.image_files import read_image
from official_nasfpn.serving.detect.video_files import Frame
from official_nasfpn.serving.detectors.loading import ExportedDetector


@dataclass(frozen=True)
class InputImage:
  """An image file to look at.

  Attributes:
    path: the file.
    id: its `image_id` in COCO results.
    annotated_size: width and height by the annotations, where there are any.
  """

  path: Path
  id: int
  annotated_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class DetectedImage:
  """What was found in one image.

  Attributes:
    source: the file, or which frame of a video it is.
    encoded: the image as the detector got it.
    detections: `boxes` float32 [n, 4] as (ymin, xmin, ymax, xmax) in pixels, `scores` float32 [n]
      best first, `classes` int32 [n] class indices, `category_ids` int64 [n].
    exit_number: the exit taken, where a budget chose it; else None.
  """

  source: InputImage | Frame
  encoded: EncodedImage
  detections: Mapping[str, np.ndarray]
  exit_number: int | None = None


# Takes encoded images and gives what a `SavedDetector` gives.
Detect = Callable[[Sequence[bytes]], dict[str, np.ndarray]]


def detect_files(
  detect: Detect,
  images: Sequence[InputImage],
  batch_size: int,
  on_broken: Callable[[InputImage, str], object],
) -> Iterator[DetectedImage]:
  """Detects objects in image files.

  Args:
    detect: what to run.
    images: the files.
    batch_size: images sent to the detector together.
    on_broken: is told of every file that is no whole image, and why; the rest of its batch is not
      affected.

  Yields:
    Every readable image, in order.
  """

  def whole_images() -> Iterator[tuple[InputImage, EncodedImage]]:
    for image in images:
      try:
        encoded = read_image(image.path, image.annotated_size)
      except BrokenImageError as error:
        on_broken(image, str(error))
      else:
        yield image, encoded

  yield from detect_images(detect, whole_images(), batch_size)


def detect_images(
  detect: Detect, images: Iterable[tuple[InputImage | Frame, EncodedImage]], batch_size: int
) -> Iterator[DetectedImage]:
  """Detects objects in encoded images, of which no more than a batch is held.

  Args:
    detect: what to run.
    images: what each is, and its bytes.
    batch_size: images sent to the detector together.

  Yields:
    Every image, in order.
  """
  images = iter(images)
  while batch := list(itertools.islice(images, batch_size)):
    outputs = detect([encoded.data for _, encoded in batch])
    for row, (source, encoded) in enumerate(batch):
      exit_number = int(outputs["exit"][row]) if "exit" in outputs else None
      yield DetectedImage(source, encoded, _rows(outputs, row), exit_number)


def detect_one(
  detector: ExportedDetector, encoded: bytes, exit_number: int | None = None
) -> dict[str, np.ndarray]:
  """Returns the detections of one image, as a `DetectedImage` has them."""
  return _rows(detector([encoded], exit_number), 0)


def result_rows(image: DetectedImage) -> list[dict]:
  """Returns the detections of one image as in COCO's results, boxes as (x, y, width, height)."""
  found = image.detections
  corners = found["boxes"].astype(np.float64)[:, [1, 0, 3, 2]]
  corners[:, 2:] -= corners[:, :2]
  return [
    {"category_id": category_id, "bbox": box, "score": score}
    for category_id, box, score in zip(
      found["category_ids"].tolist(), corners.tolist(), found["scores"].tolist(), strict=True
    )
  ]


def exit_row(image: DetectedImage) -> dict[str, int]:
  """Returns what is written down of the exit that a budget chose for an image; else nothing."""
  return {} if image.exit_number is None else {"exit": image.exit_number}


def _rows(outputs: Mapping[str, np.ndarray], image: int) -> dict[str, np.ndarray]:
  """Returns what was detected in one image of a batch, without the padding."""
  count = outputs["num_detections"][image]
  # What has one value an image is not of its detections.
  return {name: values[image, :count] for name, values in outputs.items() if values.ndim > 1}
