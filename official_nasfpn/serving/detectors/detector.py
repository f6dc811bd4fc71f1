"""An export in use: images in, detections out, whatever its format."""

import io
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, overload

import numpy as np
from PIL import Image

from official_nasfpn.data.detections import Detections, split_batch
from official_nasfpn.data.image_encoding import BrokenImageError, is_misread, read_image
from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.serving.checksums import check_files
from official_nasfpn.serving.encoded_images import check_encoded
from official_nasfpn.serving.exit_choice import check_exit_choice
from official_nasfpn.serving.export_folder import find_export

# uint8 [height, width, 3] in RGB, a file, or the bytes of a file.
ImageInput = np.ndarray | str | os.PathLike[str] | bytes | bytearray | memoryview
_ONE_IMAGE = (np.ndarray, str, os.PathLike, bytes, bytearray, memoryview)


class Runtime(Protocol):
  """Runs the model of an export; this folder has a class for each format."""

  def __call__(
    self, encoded: Sequence[bytes], exit_number: int | None, budget_ms: float | None
  ) -> dict[str, np.ndarray]:
    """Detects as `Detector.__call__` does; `exit_number` and `budget_ms` have been checked."""


class Detector:
  """A detector that was exported, ready to detect.

      detector = Detector("EXPORT")
      for detection in detector.detect("photo.jpg", min_score=0.3):
        print(detection.label, detection.score, detection.box)

  Attributes:
    path: the folder of the model, the newest where a folder of several was given.
    format: its format, such as "saved_model" or "onnx".
    label_map: the classes.
    record: what the export was made from: checksums of the run's files, the checkpoint's step, the
      precision.
    exits: the numbers of an anytime detector's exits to choose from; empty for others, and for
      formats that hold one exit, chosen when it was exported.
    exit_latency: the time of each of these exits, as measured at export.
  """

  def __init__(self, path: str | os.PathLike[str]):
    """Loads an export.

    Args:
      path: folder that `nasfpn export` wrote, in any format, or one of the numbered in it.

    Raises:
      UserError: it is no such folder, it is damaged or differs from its sums, or its runtime is not
        installed.
    """
    export = find_export(Path(path))
    export.format.require_runtime(f"The export {path}")
    check_files(export.path)
    self.path = export.path
    self.format = export.format.name
    self.label_map = LabelMap.load(export.label_map_file)
    self.record = export.record()
    self.exit_latency = export.exit_latency()
    self.exits = tuple(latency.exit for latency in self.exit_latency)
    self._runtime: Runtime = export.format.load_runtime()(export)

  @overload
  def detect(  # type: ignore[overload-overlap]  # A str is a sequence of str, too.
    self,
    images: ImageInput,
    min_score: float = 0.0,
    exit_number: int | None = None,
    budget_ms: float | None = None,
    batch_size: int = 8,
  ) -> Detections: ...
  @overload
  def detect(
    self,
    images: Sequence[ImageInput],
    min_score: float = 0.0,
    exit_number: int | None = None,
    budget_ms: float | None = None,
    batch_size: int = 8,
  ) -> list[Detections]: ...
  def detect(
    self,
    images: ImageInput | Sequence[ImageInput],
    min_score: float = 0.0,
    exit_number: int | None = None,
    budget_ms: float | None = None,
    batch_size: int = 8,
  ) -> Detections | list[Detections]:
    """Detects objects.

    Args:
      images: one image or a list of them, of any and of mixed sizes: uint8 [height, width, 3] in
        RGB, a file of any format that Pillow reads, or the bytes of one. Files and bytes are turned
        upright as their EXIF orientation says, as `nasfpn detect` turns them.
      min_score: weaker detections are left out. What is below `Detector.score_threshold` of the
        run's settings is left out by the export itself.
      exit_number: one of `exits` of an anytime detector; None takes the last.
      budget_ms: milliseconds for each batch, for anytime detectors: the last exit that is fast
        enough is taken, by the times measured at export. `Detections.expected_ms` tells whether the
        budget is met.
      batch_size: images that are computed together.

    Returns:
      The detections of the image, or a list of them, in the order of the images. Boxes are in
      pixels of the upright image.

    Raises:
      UserError: an image cannot be read, there is no such exit, the detector has no exits, or
        `batch_size` is below 1.
    """
    self.check_choice(exit_number, budget_ms)
    if batch_size < 1:
      raise UserError(f"batch_size is {batch_size}: give 1 or more.")
    if isinstance(images, _ONE_IMAGE) or not isinstance(images, Sequence):
      return self.detect([images], min_score, exit_number, budget_ms)[0]
    detections = []
    encoded = (_encode(image, index, len(images)) for index, image in enumerate(images))
    while batch := list(itertools.islice(encoded, batch_size)):
      detections += split_batch(self._runtime(batch, exit_number, budget_ms))
    return [found.above(min_score) for found in detections]

  def __call__(
    self,
    encoded: Sequence[bytes],
    exit_number: int | None = None,
    budget_ms: float | None = None,
  ) -> dict[str, np.ndarray]:
    """Detects objects in one batch, just as a server of the export does.

    Args:
      encoded: JPEG or PNG images, of any and of mixed sizes. An EXIF orientation is not followed.
      exit_number: see `detect`.
      budget_ms: see `detect`; for all of the images together.

    Returns:
      The arrays of `data.detections.BATCH_ARRAYS`, labels as bytes; with a budget those of
      `BUDGET_ARRAYS`, too. Of no image they have no row.

    Raises:
      UserError: there is no such exit, or an image is not the bytes of one or cannot be decoded;
        its position is named.
    """
    self.check_choice(exit_number, budget_ms)
    images = check_encoded(encoded)
    for index, image in enumerate(images):
      if is_misread(image):
        raise UserError(
          f"Image {index} of {len(images)}, counted from 0, is a BMP with a palette, whose "
          "colours TensorFlow does not read: send it as a PNG, or use `detect`."
        )
    return self._runtime(images, exit_number, budget_ms)

  def check_choice(self, exit_number: int | None, budget_ms: float | None) -> None:
    """Raises a `UserError` unless there is such an exit, or exits for such a budget to choose."""
    check_exit_choice(exit_number, budget_ms)
    if exit_number is not None and exit_number not in self.exits:
      has = f"the exits {', '.join(map(str, self.exits))}" if self.exits else "one exit only"
      raise UserError(f"There is no exit {exit_number}: {self.path} has {has}.")
    if budget_ms is not None and not self.exits:
      raise UserError(f"{self.path} has one exit only, so a budget has nothing to choose from.")


def _encode(image: object, index: int, count: int) -> bytes:
  """Returns an image as bytes that every export reads.

  Raises:
    UserError: it cannot be read.
  """
  if isinstance(image, np.ndarray):
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
      raise UserError(
        f"Image {index} of {count}, counted from 0, is an array of {image.dtype} "
        f"{list(image.shape)}: give uint8 [height, width, 3] in RGB."
      )
    buffer = io.BytesIO()
    # It loses nothing and takes no time.
    Image.fromarray(image).save(buffer, "BMP")
    return buffer.getvalue()
  if isinstance(image, bytearray | memoryview):
    image = bytes(image)
  if not isinstance(image, str | os.PathLike | bytes):
    raise UserError(
      f"Image {index} of {count}, counted from 0, is of type {type(image).__name__}: give an array "
      "uint8 [height, width, 3] in RGB, a file, or the bytes of a file; of a Pillow image "
      "`numpy.asarray(image.convert('RGB'))`."
    )
  try:
    return read_image(image).data
  except BrokenImageError as error:
    name = f"of {len(image)} bytes" if isinstance(image, bytes) else os.fspath(image)
    raise UserError(
      f"Image {index} of {count}, counted from 0, {name}, cannot be used: {error}."
    ) from error
