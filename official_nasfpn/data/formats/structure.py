"""What readers of formats return, images with boxes, and the COCO structure made of them."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from official_nasfpn.data.json_numbers import whole_number
from official_nasfpn.data.report import Report

SPLITS = ("train", "val", "test")
_ROUNDING = 5e-6


@dataclass(frozen=True)
class Split:
  """One split of a dataset as parsed COCO JSON.

  Attributes:
    name: one of `SPLITS`; empty where the annotations tell no splits apart.
    content: with the lists of COCO JSON.
    images_dir: the folder that file names are relative to.
    origin: the file or folder that was given, for messages.
    files: the annotation files that were read.
    format: the key of `reading.FORMATS`.
    ids_are_ours: whether category ids were made up here, so that only names mean something.
  """

  name: str
  content: Mapping[str, Any]
  images_dir: Path
  origin: Path
  files: tuple[Path, ...]
  format: str
  ids_are_ours: bool = False

  @property
  def num_images(self) -> int:
    return len(self.content["images"])

  def fingerprint(self) -> str:
    """Returns a hash of all annotation files; of a single file, that of its bytes."""
    if len(self.files) == 1:
      return hashlib.sha256(self.files[0].read_bytes()).hexdigest()
    hasher = hashlib.sha256()
    for file in self.files:
      hasher.update(f"{os.path.relpath(file, self.origin)}\n".encode())
      hasher.update(hashlib.sha256(file.read_bytes()).digest())
    return hasher.hexdigest()


@dataclass(frozen=True)
class LabelledBox:
  """One object.

  Attributes:
    label: name of its class.
    bbox: x, y, width and height in pixels, not yet checked.
    is_crowd: whether it stands for a group of objects.
    category_id: of its class, where the format has ids: names need not be unique then.
  """

  label: str
  bbox: tuple[float, float, float, float]
  is_crowd: bool = False
  category_id: int | None = None


@dataclass(frozen=True)
class LabelledImage:
  """One image and its objects.

  Attributes:
    file: its path, also where there is no such file.
    size: width and height by the annotations; None where they do not tell.
    boxes: its objects.
    split: one of `SPLITS`, or empty.
  """

  file: Path
  size: tuple[int, int] | None
  boxes: Sequence[LabelledBox]
  split: str = ""


@dataclass(frozen=True)
class LabelledDataset:
  """All that a reader found.

  Attributes:
    images: in a fixed order.
    files: the annotation files.
    categories: ids and names where the format has them, and its boxes ids, too; None to number the
      names that occur.
  """

  images: Sequence[LabelledImage]
  files: Sequence[Path]
  categories: Mapping[int, str] | None = None


# Reads annotations, a file or a folder, with the folder of images where one was given.
Reader = Callable[[Path, Path | None, Report], LabelledDataset]


def as_splits(dataset: LabelledDataset, origin: Path, format_name: str) -> list[Split]:
  """Returns the COCO structure of each split, with the same categories in all of them."""
  categories = dataset.categories
  if categories is None:
    names = sorted({box.label for image in dataset.images for box in image.boxes})
    categories = dict(enumerate(names, start=1))
  by_split: dict[str, list[LabelledImage]] = {}
  for image in dataset.images:
    by_split.setdefault(image.split, []).append(image)
  files = tuple(dataset.files)
  return [
    _split(name, images, categories, origin, files, format_name, dataset.categories is None)
    for name, images in sorted(by_split.items(), key=lambda item: ("", *SPLITS).index(item[0]))
  ]


def _split(
  name: str,
  images: Sequence[LabelledImage],
  categories: Mapping[int, str],
  origin: Path,
  annotation_files: tuple[Path, ...],
  format_name: str,
  ids_are_ours: bool,
) -> Split:
  id_of = {label: id_ for id_, label in categories.items()}
  files = [Path(os.path.abspath(image.file)) for image in images]
  folder = Path(os.path.commonpath([file.parent for file in files]))
  rows: list[dict[str, Any]] = []
  annotations: list[dict[str, Any]] = []
  for id_, (image, file) in enumerate(zip(images, files, strict=True), start=1):
    row = {"id": id_, "file_name": file.relative_to(folder).as_posix()}
    if image.size:
      row |= {"width": image.size[0], "height": image.size[1]}
    rows.append(row)
    for box in image.boxes:
      annotations.append(
        {
          "id": len(annotations) + 1,
          "image_id": id_,
          # An id that no category has is reported, and the box dropped.
          "category_id": id_of[box.label] if box.category_id is None else box.category_id,
          "bbox": list(box.bbox),
          "iscrowd": int(box.is_crowd),
        }
      )
  content = {
    "images": rows,
    "annotations": annotations,
    "categories": [{"id": id_, "name": label} for id_, label in categories.items()],
  }
  return Split(name, content, folder, origin, annotation_files, format_name, ids_are_ours)


_SPLIT_WORDS = {
  "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
  "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
_SPLIT = re.compile(rf"(?<![a-z])({'|'.join(_SPLIT_WORDS)})(?:[-_]?(?:19|20)\d\d)?(?![a-z0-9])")


def split_named(text: str) -> str:
  """Returns the split that a name stands for, as in instances_val2017; empty if it names none."""
  found = {_SPLIT_WORDS[word] for word in _SPLIT.findall(text.lower())}
  return found.pop() if len(found) == 1 else ""


def split_of_path(path: Path, root: Path) -> str:
  """Returns the split by the folders between a root and a file, the innermost that names one."""
  folders = path.parent.relative_to(root).parts if path.is_relative_to(root) else ()
  return next((split for name in reversed(folders) if (split := split_named(name))), "")


def outline_box(
  points: Iterable[tuple[float, float]],
) -> tuple[float, float, float, float]:
  """Returns x, y, width and height of the box around points."""
  x, y = zip(*points, strict=True)
  return min(x), min(y), max(x) - min(x), max(y) - min(y)


def box_of_shares(
  left: float, top: float, width: float, height: float, size: tuple[int, int]
) -> tuple[float, float, float, float]:
  """Returns a box in pixels of one in shares of the image's sides.

  What lies beyond the border by no more than the rounding of six digits lies on it.

  Args:
    left: the left edge.
    top: the top edge.
    width: of the box.
    height: of the box.
    size: width and height of the image in pixels.
  """
  edges = [left, top, left + width, top + height]
  for place, edge in enumerate(edges):
    for border in (0.0, 1.0):
      if abs(edge - border) < _ROUNDING:
        edges[place] = border
  x, y = edges[0] * size[0], edges[1] * size[1]
  return x, y, edges[2] * size[0] - x, edges[3] * size[1] - y


def stated_size(width: Any, height: Any) -> tuple[int, int] | None:
  """Returns an image's width and height as annotations spell them; None if they are no sizes."""
  columns, rows = whole_number(width), whole_number(height)
  return (columns, rows) if columns and rows and columns > 0 and rows > 0 else None
