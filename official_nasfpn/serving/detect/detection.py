"""Runs a detector over images, batch by batch."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from official_nasfpn.data.detections import Detections
from official_nasfpn.data.image_encoding import BrokenImageError, EncodedImage, read_image
from official_nasfpn.serving.detect.video_files import Frame


@dataclass(frozen=True)
class InputImage:
  """An image file to detect in.

  Attributes:
    path: the file.
    id: its `image_id` in COCO results.
    annotated_size: width and height by the annotations, if there are any.
  """

  path: Path
  id: int
  annotated_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class DetectedImage:
  """An image and its detections.

  Attributes:
    source: the file, or which frame of a video it is.
    encoded: the image as the detector got it.
    detections: those of this image.
  """

  source: InputImage | Frame
  encoded: EncodedImage
  detections: Detections


# From encoded images to the detections of each.
Detect = Callable[[Sequence[bytes]], list[Detections]]


def detect_files(
  detect: Detect,
  images: Sequence[InputImage],
  batch_size: int,
  on_broken: Callable[[InputImage, str], object],
) -> Iterator[DetectedImage]:
  """Detects objects in image files.

  Args:
    detect: the detector.
    images: the files.
    batch_size: images sent to the detector together.
    on_broken: called with every file that is not a whole image, and the reason; the other images
      are not affected.

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
  """Detects objects in encoded images, holding no more than a batch of them.

  Args:
    detect: the detector.
    images: the source of each image, and its bytes.
    batch_size: images sent to the detector together.

  Yields:
    Every image, in order.
  """
  images = iter(images)
  while batch := list(itertools.islice(images, batch_size)):
    found = detect([encoded.data for _, encoded in batch])
    for (source, encoded), detections in zip(batch, found, strict=True):
      yield DetectedImage(source, encoded, detections)


def result_rows(image: DetectedImage) -> list[dict]:
  """Returns the detections of one image as in COCO's results, boxes as (x, y, width, height)."""
  detections = image.detections
  corners = detections.boxes.astype(np.float64)[:, [1, 0, 3, 2]]
  corners[:, 2:] -= corners[:, :2]
  return [
    {"category_id": category_id, "bbox": box, "score": score}
    for category_id, box, score in zip(
      detections.category_ids.tolist(), corners.tolist(), detections.scores.tolist(), strict=True
    )
  ]


def exit_row(image: DetectedImage) -> dict[str, int]:
  """Returns the exit that a budget chose, for the row of an image; empty without a budget."""
  number = image.detections.exit_number
  return {} if number is None else {"exit": number}
