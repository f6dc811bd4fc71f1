"""Label Studio's own JSON: a list of tasks, with boxes in percent of the image's sides.

The long form, JSON, has `annotations` with results; the short one, JSON-MIN, has them in the task.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from official_nasfpn.data.foreign_formats import IMAGE_SUFFIXES
from official_nasfpn.data.formats.image_files import ImageFiles
from official_nasfpn.data.formats.structure import (
  LabelledBox,
  LabelledDataset,
  LabelledImage,
  box_of_shares,
  outline_box,
  stated_size,
)
from official_nasfpn.data.image_headers import upright_size
from official_nasfpn.data.json_numbers import number
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json

# Label Studio puts this before the name of what is uploaded.
_UPLOAD = re.compile(r"(?<![^/])[0-9a-f]{8}-(?=[^/]+$)")
_LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels")


def read_label_studio(path: Path, images: Path | None, report: Report) -> LabelledDataset:
  """Reads a JSON export of Label Studio, or the folder that holds one.

  Raises:
    UserError: it is no such export.
  """
  file = path if path.is_file() else _only_json(path)
  try:
    tasks = parse_json(file.read_text(encoding="utf-8-sig"))
  except (OSError, ValueError) as error:
    raise UserError(f"{file} is not JSON: {error}.") from error
  if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
    raise UserError(f"{file} is no export of Label Studio, which is a list of tasks.")
  files = ImageFiles(images or file.parent)
  found = []
  for place, task in enumerate(tasks, start=1):
    name = _image_name(task)
    if not name:
      report.note("boxes_unreadable", f"task {task.get('id', place)} has no image")
      continue
    image = files.find(name) or files.find(_UPLOAD.sub("", name)) or files.root / name
    name = image.name
    results = _results(task, name, report)
    size = next((size for row in results if (size := _size(row))), None)
    # What was annotated may be a scaled copy; percents are of the file.
    actual = upright_size(image, size) or size
    boxes = [box for row in results if (box := _box(row, actual, name, report)) is not None]
    found.append(LabelledImage(image, size, boxes))
  if not found:
    raise UserError(f"{file} has no task with an image.")
  return LabelledDataset(found, [file])


def _only_json(folder: Path) -> Path:
  files = sorted(folder.rglob("*.json"))
  if len(files) != 1:
    raise UserError(f"{folder} has {len(files)} JSON files: give the one of Label Studio.")
  return files[0]


def _image_name(task: Mapping[str, Any]) -> str:
  """Returns the path in a task's address; its first folders may be those of Label Studio."""
  data = task.get("data") if isinstance(task.get("data"), dict) else task
  for key, value in data.items() if isinstance(data, dict) else ():
    if isinstance(value, str) and (key in ("image", "img") or _is_image(value)):
      address = urlsplit(value)
      # Local storage: /data/local-files/?d=folder/a.jpg
      local = parse_qs(address.query).get("d", [""])[0]
      return (local or unquote(address.path)).replace("\\", "/").strip("/")
  return ""


def _is_image(value: str) -> bool:
  return Path(urlsplit(value).path).suffix.lower() in IMAGE_SUFFIXES


def _results(task: Mapping[str, Any], name: str, report: Report) -> list[Mapping[str, Any]]:
  """Returns the shapes of a task; of several annotators those of the first."""
  given = task.get("annotations", task.get("completions"))
  if isinstance(given, list):
    rows = [row for row in given if isinstance(row, dict) and not row.get("was_cancelled")]
    if len(rows) > 1:
      report.note("images_annotated_twice", f"{name}: {len(rows)}")
    return [row for row in (rows[0].get("result") or [] if rows else []) if isinstance(row, dict)]
  shapes = [value for value in task.values() if isinstance(value, list)]
  return [row for rows in shapes for row in rows if isinstance(row, dict)]


def _size(row: Mapping[str, Any]) -> tuple[int, int] | None:
  return stated_size(row.get("original_width"), row.get("original_height"))


def _box(
  row: Mapping[str, Any], size: tuple[int, int] | None, name: str, report: Report
) -> LabelledBox | None:
  value = row["value"] if isinstance(row.get("value"), dict) else row
  labels = next((value[key] for key in _LABELS if value.get(key)), None)
  if labels is None and row.get("type") in ("rectangle", "polygon", "ellipse", "choices"):
    return None  # The same shape comes again, with its label.
  if size is None:
    report.note("boxes_without_size", f"{row.get('type', 'a shape')} in {name}")
    return None
  angle = number(value.get("rotation") or 0)
  points = [] if angle is None else _points(value, math.radians(angle), size)
  if not isinstance(labels, Sequence) or not points:
    report.note("boxes_unreadable", f"{row.get('type', 'a shape')} in {name}")
    return None
  if "points" in value:
    report.note("boxes_from_outlines", name)
  elif angle:
    report.note("boxes_of_rotated", f"{labels[0]} in {name}")
  left, top, width, height = outline_box([(x / 100, y / 100) for x, y in points])
  return LabelledBox(str(labels[0]), box_of_shares(left, top, width, height, size))


def _points(
  value: Mapping[str, Any], angle: float, size: tuple[int, int]
) -> list[tuple[float, float]]:
  """Returns points around a shape in percent, the outermost among them; none if it is none.

  Args:
    value: numbers of the shape, in percent.
    angle: it is turned clockwise by so many radians; an outline never is.
    size: width and height of the image, which say how percents turn.
  """
  try:
    if "points" in value:
      return [(float(x), float(y)) for x, y in value["points"]]
    x, y = float(value["x"]), float(value["y"])
    cos, sin, ratio = math.cos(angle), math.sin(angle), size[0] / size[1]
    if "radiusX" in value:
      # x and y are of its centre, around which it is turned: so does the editor draw it.
      rx, ry = float(value["radiusX"]), float(value["radiusY"])
      rx, ry = math.hypot(rx * cos, ry * sin / ratio), math.hypot(rx * sin * ratio, ry * cos)
      return [(x - rx, y - ry), (x + rx, y + ry)]
    w, h = float(value["width"]), float(value["height"])
  except (KeyError, TypeError, ValueError, OverflowError):
    return []
  # A rectangle is turned around its upper left corner.
  corners = ((0.0, 0.0), (w, 0.0), (w, h), (0.0, h))
  return [
    (x + cos * right - sin * down / ratio, y + sin * right * ratio + cos * down)
    for right, down in corners
  ]
