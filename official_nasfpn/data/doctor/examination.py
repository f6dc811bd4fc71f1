"""Looks at every image and every box of a dataset; nothing is written and TensorFlow not needed."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from official_nasfpn.data.coco_json import (
  AnnotatedImage,
  Box,
  CocoDataset,
  clean_boxes,
  coco_dataset,
  note_number_of_boxes,
)
from official_nasfpn.data.formats.source import Source
from official_nasfpn.data.formats.structure import Split
from official_nasfpn.data.image_files import (
  FoundImage,
  ImageFile,
  find_image_file,
  without_ambiguous,
)
from official_nasfpn.data.image_headers import (
  declared_orientation,
  image_format,
  open_image,
  refuse_bomb,
)
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
    split: what its split is for, "train" or "val", or the name of one that is not prepared; "all"
      where there are no splits.
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
    label_map: the classes, those of the training split; boxes of all splits are read by it.
    other_label_maps: those that other splits have, by name.
    splits: their names, the training split first.
    images: of all splits.
    report: what preparing the dataset would report.
  """

  label_map: LabelMap
  other_label_maps: Mapping[str, LabelMap]
  splits: tuple[str, ...]
  images: Sequence[ExaminedImage]
  report: Report


def examine(source: Source, num_threads: int, report: Report) -> Examination:
  """Decodes all images of all splits, those that are not prepared included.

  Args:
    source: what `read_source` has returned.
    num_threads: images decoded at the same time.
    report: what reading has reported; what is found is added.

  Raises:
    UserError: preparing it would fail before an image is decoded.
  """
  names = _names(source)
  prepared = [coco_dataset(split.content, split.origin, report) for split in source.splits]
  found = without_ambiguous(
    [_with_files(dataset, split) for dataset, split in zip(prepared, source.splits, strict=True)],
    report,
  )
  label_maps = [dataset.label_map for dataset in prepared]
  work = [(name, image) for name, images in zip(names, found, strict=False) for image in images]
  other_label_maps = dict(zip(names[1:], label_maps[1:], strict=False))
  for name, split in zip(names[len(prepared) :], source.others, strict=True):
    # Nobody needs an image of it now.
    if split.num_images:
      dataset = coco_dataset(split.content, split.origin, report)
      other_label_maps[name] = dataset.label_map
      work += [(name, image) for image in _with_files(dataset, split)]

  def look(item: tuple[str, FoundImage]) -> ExaminedImage:
    name, (image, file) = item
    examined = _examine_image(name, image, file, label_maps[0])
    bar.update()
    return examined

  with progress_bar(len(work), "Checking", "image") as bar, ThreadPoolExecutor(num_threads) as pool:
    images = list(pool.map(look, work))
  for image in images:
    report.add(image.report)
  return Examination(label_maps[0], other_label_maps, tuple(names), images, report)


def _names(source: Source) -> list[str]:
  """Returns a name for each split: what it is for, or its own where it is not prepared."""
  if not source.train.name and source.val is None and not source.others:
    return ["all"]
  names = ["train", "val"][: len(source.splits)]
  for split in source.others:
    own = split.name or "rest"
    # Two folders that were given can both have a split "train".
    numbered = (f"{own} {number}" for number in itertools.count(2))
    names.append(next(name for name in itertools.chain([own], numbered) if name not in names))
  return names


def _with_files(dataset: CocoDataset, split: Split) -> list[FoundImage]:
  return [(image, find_image_file(split.images_dir, image.file_name)) for image in dataset.images]


def _examine_image(
  split: str, image: AnnotatedImage, file: ImageFile | None, label_map: LabelMap
) -> ExaminedImage:
  report, name = Report(), image.file_name
  path = file.path if file else None
  size, file_hash, pixel_hash, looks = None, "", "", None
  if path is None:
    report.note("images_missing", name)
  else:
    try:
      data = path.read_bytes()
      file_hash = hashlib.sha256(data).hexdigest()
      picture, turned = _open(data, image.size)
      size = picture.size
      hasher = hashlib.sha256(repr(size).encode())
      hasher.update(picture.tobytes())
      pixel_hash = hasher.hexdigest()
      looks = _looks(picture)
      if turned:
        report.note("images_turned", name)
      # A JPEG or PNG that TensorFlow cannot decode is, too, which only TensorFlow can tell.
      if image_format(data) == "other":
        report.note("images_reencoded", name)
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
    note_number_of_boxes(boxes, report, name)
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
  return _open(data, annotated_size)[0]


def _open(data: bytes, annotated_size: tuple[int, int] | None) -> tuple[Image.Image, bool]:
  """Returns what `open_upright` does, and whether it was turned."""
  refuse_bomb(data)
  orientation = declared_orientation(data)
  with open_image(data) as picture:
    picture.load()
    turned = must_turn(orientation, picture.size, annotated_size)
    if turned:
      ImageOps.exif_transpose(picture, in_place=True)
    return to_rgb(picture), turned


def _looks(picture: Image.Image) -> np.ndarray:
  """Returns the difference hash of an image (Krawetz 2013), as imagehash's dhash has it.

  It stays about the same when an image is scaled, compressed or made a little brighter. imagehash
  itself would bring PyWavelets for these lines.
  """
  grey = picture.convert("L").resize((_GRID + 1, _GRID), Image.Resampling.LANCZOS)
  values = np.asarray(grey, np.int16)
  return np.packbits(values[:, 1:] > values[:, :-1])
