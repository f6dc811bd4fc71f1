"""YOLO: a text file for each image, a line for each object, numbers as shares of the image's sides.

Folders are those of Ultralytics and Roboflow (data.yaml), Label Studio (classes.txt beside images/
and labels/), CVAT (obj.names, obj_train_data/) and darknet (everything in one folder). The labels
of `images/a/1.jpg` are `labels/a/1.txt`, as Ultralytics has it, or `1.txt` beside the image. An
image without a file of labels is background: that is how YOLO writes it.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from official_nasfpn.data.formats.image_files import files_below, most_alike
from official_nasfpn.data.formats.structure import (
  LabelledBox,
  LabelledDataset,
  LabelledImage,
  box_of_shares,
  outline_box,
)
from official_nasfpn.data.formats.yolo_images import images_by_split
from official_nasfpn.data.image_headers import upright_size
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError

_YAML = frozenset((".yaml", ".yml"))
_NAME_FILES = (
  "classes.txt",
  "obj.names",
  "_darknet.labels",
  "labels.txt",
  "predefined_classes.txt",
)
# Text files beside labels that are none.
_NO_LABELS = frozenset(
  (*_NAME_FILES, "train.txt", "val.txt", "valid.txt", "test.txt", "trainval.txt", "notes.txt")
)
# Boxes beyond this are not a slip at the border but pixels.
_LARGEST_SHARE = 2.0


@dataclass(frozen=True)
class _Line:
  """One object of a label file, in shares of the image's sides.

  Attributes:
    file: where it stands.
    index: of its class.
    numbers: x and y of the centre, width and height; or x and y of each corner.
  """

  file: Path
  index: int
  numbers: tuple[float, ...]


def read_yolo(path: Path, images: Path | None, report: Report) -> LabelledDataset:
  """Reads a YOLO folder, or the folder of a data.yaml.

  Raises:
    UserError: there are no names of classes, no images, rotated boxes, pixels, or detections.
  """
  settings_file = _settings_file(path)
  root = path.parent if path.is_file() else path
  settings = _read_yaml(settings_file) if settings_file else {}
  names, names_file = _names(root, settings, settings_file)
  found = images_by_split(root, settings, settings_file, images, report)
  if not found:
    raise UserError(f"{images or root} holds no images; give the folder that has them to --images.")
  label_files = {
    file for file in files_below(root, frozenset((".txt",))) if not _is_no_label_file(file)
  }
  has_points = bool(settings.get("kpt_shape"))
  lines_of: dict[Path, list[_Line]] = {}
  used = []
  labels_of = _labels_of(found, label_files)
  for image in found:
    labels = labels_of.get(image)
    if labels is None:
      report.note("images_without_labels", image.name)
      continue
    used.append(labels)
    lines_of[image] = list(_read_lines(labels, has_points, report))
  for file in sorted(label_files - set(used)):
    report.note("labels_without_image", str(file.relative_to(root)))
  lines = [line for of_image in lines_of.values() for line in of_image]
  _refuse_pixels(lines)
  sizes = {image: upright_size(image) for image in found}
  _refuse_rotated(lines)
  return LabelledDataset(
    [
      LabelledImage(
        image, None, _boxes(lines_of.get(image, ()), sizes[image], names, report), split
      )
      for image, split in found.items()
    ],
    [file for file in (settings_file, names_file) if file] + used,
    names,
  )


def _settings_file(path: Path) -> Path | None:
  """Returns the data.yaml: the file given, or the one in the folder that names classes."""
  if path.is_file():
    return path if path.suffix.lower() in _YAML else None
  files = sorted(file for file in path.iterdir() if file.suffix.lower() in _YAML)
  files = [file for file in files if isinstance(_read_yaml(file).get("names"), list | dict)]
  if len(files) > 1:
    named = [file for file in files if file.stem == "data"]
    if not named:
      names = ", ".join(file.name for file in files)
      raise UserError(f"{path} has several YAML files with names of classes, {names}: give one.")
    files = named
  return files[0] if files else None


def _read_yaml(file: Path) -> Mapping[str, Any]:
  try:
    content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
  except OSError as error:
    raise UserError(f"Cannot read {str(file)!r}: {error.strerror}.") from error
  except (ValueError, yaml.YAMLError, RecursionError) as error:
    raise UserError(f"{file} is not YAML: {' '.join(str(error).split())}.") from error
  return content if isinstance(content, dict) else {}


def _names(
  root: Path, settings: Mapping[str, Any], settings_file: Path | None
) -> tuple[dict[int, str], Path | None]:
  """Returns the name of each class index, and the list of names where they come from one."""
  given = settings.get("names")
  names = given.values() if isinstance(given, dict) else given if isinstance(given, list) else ()
  if any(isinstance(name, list | dict) for name in names):
    raise UserError(f"{settings_file}: 'names' must be a list of names, without lists in it.")
  if isinstance(given, list):
    return {index: str(name) for index, name in enumerate(given)}, None
  if isinstance(given, dict):
    try:
      return {int(index): str(name) for index, name in sorted(given.items())}, None
    except (TypeError, ValueError) as error:
      raise UserError(f"{settings_file}: 'names' has an index that is no number.") from error
  files = [file for name in _NAME_FILES for file in sorted(root.rglob(name))]
  if not files:
    raise UserError(
      f"{root} is YOLO without names of its classes: write them into {root / 'classes.txt'}, one "
      "on each line, that of class 0 first, or give a data.yaml with `names`."
    )
  texts = {file.read_text(encoding="utf-8-sig", errors="replace").strip() for file in files}
  if len(texts) > 1:
    raise UserError(f"{files[0]} and {files[-1]} name different classes; leave one of them.")
  return {index: name.strip() for index, name in enumerate(texts.pop().splitlines())}, files[0]


def _is_no_label_file(file: Path) -> bool:
  return file.name in _NO_LABELS or file.name.lower().startswith(("readme", "license"))


def _labels_of(images: Iterable[Path], label_files: Collection[Path]) -> dict[Path, Path]:
  """Returns the labels of images: below labels/ instead of images/, beside them, or by their name.

  Labels that have their place beside one image are not those of another one with its name.
  """
  found: dict[Path, Path] = {}
  expected: dict[Path, Path] = {}
  for image in images:
    beside = image.with_suffix(".txt")
    parts = beside.parts
    places = [
      Path(*parts[:index], "labels", *parts[index + 1 :])
      for index in reversed(range(len(parts) - 1))
      if parts[index] == "images"
    ] + [beside]
    expected[image] = places[0]
    if file := next((place for place in places if place in label_files), None):
      found[image] = file
  by_stem: dict[str, list[Path]] = {}
  for file in sorted(set(label_files) - set(found.values())):
    by_stem.setdefault(file.stem, []).append(file)
  for image, place in expected.items():
    if image not in found and (file := most_alike(by_stem.get(place.stem, ()), place)):
      found[image] = file
  return found


def _read_lines(file: Path, has_points: bool, report: Report) -> Iterator[_Line]:
  for number, text in enumerate(
    file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1
  ):
    fields = text.split()
    if not fields:
      continue
    try:
      index, numbers = float(fields[0]), tuple(float(field) for field in fields[1:])
    except ValueError:
      index, numbers = math.nan, ()
    if len(numbers) == 5 and not has_points:
      raise UserError(
        f"{file}, line {number}, has six numbers, which is a detection with its score and not an "
        "annotation; give what was annotated."
      )
    if has_points:
      numbers = numbers[:4]
    is_box = len(numbers) == 4 or (len(numbers) >= 6 and len(numbers) % 2 == 0)
    if not index.is_integer() or not is_box or not all(map(math.isfinite, numbers)):
      report.note("boxes_unreadable", f"{file.name}, line {number}: {text[:60]}")
      continue
    yield _Line(file, int(index), numbers)


def _refuse_pixels(lines: Sequence[_Line]) -> None:
  beyond = [line for line in lines if max(map(abs, line.numbers)) > _LARGEST_SHARE]
  if beyond and 2 * len(beyond) > len(lines):
    numbers = " ".join(f"{value:g}" for value in beyond[0].numbers[:8])
    raise UserError(
      f"{beyond[0].file} has pixels, {numbers}, where YOLO has shares of the image's sides, from 0 "
      "to 1: divide them by its width and height."
    )


def _refuse_rotated(lines: Sequence[_Line]) -> None:
  """Refuses YOLO-OBB, whose lines all have four corners; outlines of one dataset vary in number."""
  outlines = [line for line in lines if len(line.numbers) > 4]
  if not outlines or any(len(line.numbers) != 8 for line in outlines):
    return
  tilted = next((line for line in outlines if _is_tilted(line.numbers)), None)
  if tilted:
    raise UserError(
      f"{tilted.file} has rotated boxes (YOLO-OBB, four corners on each line), and boxes here are "
      "upright. Export them as upright boxes: YOLO for detection, or COCO JSON."
    )


def _is_tilted(numbers: Sequence[float]) -> bool:
  """Returns whether four corners are not those of an upright box."""
  return any(len({round(value, 3) for value in numbers[start::2]}) > 2 for start in (0, 1))


def _boxes(
  lines: Sequence[_Line],
  size: tuple[int, int] | None,
  names: Mapping[int, str],
  report: Report,
) -> list[LabelledBox]:
  if size is None:
    # Most such images are broken, which is said when they are decoded.
    for line in lines:
      report.note("boxes_without_size", line.file.name)
    return []
  boxes = []
  for line in lines:
    if len(line.numbers) == 4:
      x, y, w, h = line.numbers
      x, y = x - w / 2, y - h / 2
    else:
      points = zip(line.numbers[::2], line.numbers[1::2], strict=True)
      x, y, w, h = outline_box(points)
      report.note("boxes_from_outlines", line.file.name)
    label = names.get(line.index, str(line.index))
    boxes.append(LabelledBox(label, box_of_shares(x, y, w, h, size), category_id=line.index))
  return boxes
