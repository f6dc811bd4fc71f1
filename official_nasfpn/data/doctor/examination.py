"""Looks at every image and every box of a dataset; nothing is written and TensorFlow not needed."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from official_nasfpn.data.coco_json import AnnotatedImage, Box, clean_boxes, coco_dataset
from official_nasfpn.data.formats.source import Source
from official_nasfpn.data.formats.structure import Split
from official_nasfpn.data.image_files import find_image_file
from official_nasfpn.data.image_headers import declared_orientation, open_image, refuse_bomb
from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.data.pixels import BrokenImageError, must_turn, to_rgb
from official_nasfpn.data.report import Report
from official_nasfpn.progress import progress_bar

# The side of the grid whose neighbours are compared: 256 comparisons describe how an image looks.
_GRID = 16


@dataclass(frozen=True)
class ExaminedImage:
  """One image.

  Attributes:
    split: name of its split; "all" where there are none.
    name: as the annotations call it.
    path: the file; None if it is not there.
    size: width and height as it is shown; None if it cannot be decoded.
    file_hash: of its bytes; empty if it is not there.
    pixel_hash: of its pixels; empty if it cannot be decoded.
    looks: uint8 [32], whether each place of a 16 x 16 grid is brighter than its right neighbour;
      None if it cannot be decoded.
    boxes: what training would get.
    rows: the annotations as they were given, in COCO's form.
    report: what preparing it would report.
  """

  split: str
  name: str
  path: Path | None
  size: tuple[int, int] | None
  file_hash: str
  pixel_hash: str
  looks: np.ndarray | None
  boxes: Sequence[Box]
  rows: Sequence[Mapping[str, Any]]
  report: Report


@dataclass(frozen=True)
class Examination:
  """All that was seen.

  Attributes:
    label_map: the classes.
    splits: their names, the training split first.
    images: of all splits.
    report: what preparing the dataset would report.
  """

  label_map: LabelMap
  splits: tuple[str, ...]
  images: Sequence[ExaminedImage]
  report: Report


def examine(source: Source, num_threads: int, report: Report) -> Examination:
  """Decodes all images of all splits, those that are not prepared included.

  Args:
    source: what `read_source` has returned.
    num_threads: images decoded at the same time.
    report: what reading has reported; what is found is added.
  """
  splits = [*source.splits, *source.others]
  names = [_name(split, place, len(splits)) for place, split in enumerate(splits)]
  datasets = [
    coco_dataset(split.content, split.origin, report) if split.num_images else None
    for split in splits
  ]
  assert datasets[0] is not None
  label_map = datasets[0].label_map
  work = [
    (name, split, image)
    for name, split, dataset in zip(names, splits, datasets, strict=True)
    for image in (dataset.images if dataset else ())
  ]

  def look(item: tuple[str, Split, AnnotatedImage]) -> ExaminedImage:
    name, split, image = item
    examined = _examine_image(name, image, split.images_dir, label_map)
    bar.update()
    return examined

  with progress_bar(len(work), "Checking", "image") as bar, ThreadPoolExecutor(num_threads) as pool:
    images = list(pool.map(look, work))
  for image in images:
    report.add(image.report)
  return Examination(label_map, tuple(dict.fromkeys(names)), images, report)


def _name(split: Split, place: int, num_splits: int) -> str:
  if split.name:
    return split.name
  # Two files that were given as --annotations and --val_annotations.
  return "all" if num_splits == 1 else ("train", "val")[place] if place < 2 else f"rest {place}"


def _examine_image(
  split: str, image: AnnotatedImage, images_dir: Path, label_map: LabelMap
) -> ExaminedImage:
  report = Report()
  file, name = find_image_file(images_dir, image.file_name), image.file_name
  path = file.path if file else None
  size, file_hash, pixel_hash, looks = None, "", "", None
  if path is None:
    report.note("images_missing", name)
  else:
    try:
      data = path.read_bytes()
      file_hash = hashlib.sha256(data).hexdigest()
      picture = open_upright(data, image.size)
      size = picture.size
      hasher = hashlib.sha256(repr(size).encode())
      hasher.update(picture.tobytes())
      pixel_hash = hasher.hexdigest()
      looks = _looks(picture)
    except BrokenImageError as error:
      report.note("images_broken", f"{name}: {error}")
    # Pillow's parsers raise whatever they stumble over in a damaged file.
    except Exception:
      report.note("images_broken", name)
  boxes: Sequence[Box] = ()
  if size is not None:
    if image.size not in (None, size):
      stated = "{}x{}".format(*image.size) if image.size else ""
      report.note("images_other_size", f"{name}: {stated} stated, {size[0]}x{size[1]} in the file")
    boxes = clean_boxes(image.annotations, size, label_map, report, name)
    if not boxes:
      report.note("images_without_boxes", name)
  return ExaminedImage(
    split, name, path, size, file_hash, pixel_hash, looks, boxes, image.annotations, report
  )


def open_upright(data: bytes, annotated_size: tuple[int, int] | None) -> Image.Image:
  """Returns an image in RGB, turned as `image_encoding.encode_image` turns it.

  Args:
    data: content of the image file.
    annotated_size: width and height by the annotations, if they tell.

  Raises:
    BrokenImageError: it has more pixels than can be trained with, or none that can be shown.
  """
  refuse_bomb(data)
  orientation = declared_orientation(data)
  with open_image(data) as picture:
    picture.load()
    if must_turn(orientation, picture.size, annotated_size):
      ImageOps.exif_transpose(picture, in_place=True)
    return to_rgb(picture)


def _looks(picture: Image.Image) -> np.ndarray:
  """Returns the difference hash of an image (Krawetz 2013), as imagehash's dhash has it.

  It stays about the same when an image is scaled, compressed or made a little brighter. imagehash
  itself would bring PyWavelets for these lines.
  """
  grey = picture.convert("L").resize((_GRID + 1, _GRID), Image.Resampling.LANCZOS)
  values = np.asarray(grey, np.int16)
  return np.packbits(values[:, 1:] > values[:, :-1])
