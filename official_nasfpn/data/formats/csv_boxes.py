"""CSV: a table with a row for each box, in the columns of the tools that write such tables.

Columns are known by the names in their first row: TensorFlow's and Roboflow's (filename, width,
height, class, xmin, ymin, xmax, ymax), Kaggle's (image_id, bbox), OpenImages' (ImageID, LabelName,
XMin, XMax, YMin, YMax), VIA's (filename, region_shape_attributes, region_attributes), x, y, w and
h, and likewise. Without names it is keras-retinanet's (file, x1, y1, x2, y2, class), make-sense's
(class, x, y, width, height, file, image width, image height) or AutoML's (split, file, class,
corners as shares). Corners are edges: a box over a whole image of width W is xmin 0, xmax W.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from official_nasfpn.data.coco_json import crowd_of
from official_nasfpn.data.formats.image_files import ImageFiles
from official_nasfpn.data.formats.structure import (
  LabelledBox,
  LabelledDataset,
  LabelledImage,
  box_of_shares,
  outline_box,
  split_named,
  split_of_path,
  stated_size,
)
from official_nasfpn.data.image_headers import upright_size
from official_nasfpn.data.json_numbers import number
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json

_SEPARATORS = (",", ";", "\t", "|")
# Names of columns, in small letters and without anything between the words.
_COLUMNS = {
  "file": (
    "filename", "file", "image", "imagename", "imagepath", "path", "imagefile", "img", "imgname",
    "imgpath", "imageid", "imgid", "filepath",
  ),
  "label": (
    "class", "label", "classname", "labelname", "name", "category", "categoryname", "object", "tag",
    "classid", "categoryid", "labelid",
  ),
  "xmin": ("xmin", "x1", "left", "bboxxmin", "boxxmin", "xtl", "minx", "bboxx1", "bboxleft"),
  "ymin": ("ymin", "y1", "top", "bboxymin", "boxymin", "ytl", "miny", "bboxy1", "bboxtop"),
  "xmax": ("xmax", "x2", "right", "bboxxmax", "boxxmax", "xbr", "maxx", "bboxx2", "bboxright"),
  "ymax": ("ymax", "y2", "bottom", "bboxymax", "boxymax", "ybr", "maxy", "bboxy2", "bboxbottom"),
  "x": ("x", "bboxx", "boxx"),
  "y": ("y", "bboxy", "boxy"),
  "w": ("w", "bboxwidth", "boxwidth", "bboxw", "boxw"),
  "h": ("h", "bboxheight", "boxheight", "bboxh", "boxh"),
  "bbox": ("bbox", "box", "boundingbox"),
  "width": ("width", "imagewidth", "imgwidth"),
  "height": ("height", "imageheight", "imgheight"),
  "split": ("split", "set", "subset", "usage", "partition"),
  "crowd": ("isgroupof", "iscrowd"),
  "shape": ("regionshapeattributes",),
  "attributes": ("regionattributes",),
}  # fmt: skip
_HEADLESS = {
  "keras-retinanet": ("file", "xmin", "ymin", "xmax", "ymax", "label"),
  "make-sense": ("label", "x", "y", "w", "h", "file", "width", "height"),
  "AutoML": ("split", "file", "label", "xmin", "ymin", "", "", "xmax", "ymax", "", ""),
}
_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class _Row:
  """One row: cells by what they are, and where it stands."""

  cells: Mapping[str, str]
  where: str
  split: str


def read_csv(path: Path, images: Path | None, report: Report) -> LabelledDataset:
  """Reads a table of boxes, or a folder with a table in the folder of each split.

  Raises:
    UserError: no table is there, or its columns are not known.
  """
  tables = [path] if path.is_file() else _tables(path)
  root = images or (path.parent if path.is_file() else path)
  files = ImageFiles(root)
  rows_of: dict[tuple[Path, str], list[_Row]] = {}
  for table in tables:
    for row in _rows(table, path):
      name = row.cells.get("file", "")
      if not name:
        report.note("boxes_unreadable", f"{row.where} names no image")
        continue
      image = files.find(name, table.parent) or root / name.replace("\\", "/").lstrip("/")
      rows_of.setdefault((image, row.split), []).append(row)
  if not rows_of:
    raise UserError(f"{tables[0]} has no rows.")
  boxes_of = {key: _raw_boxes(rows, report) for key, rows in rows_of.items()}
  values = [value for boxes in boxes_of.values() for _, box, _ in boxes for value in box]
  # Shares may go a little beyond the border.
  are_shares = any(value % 1 for value in values) and max(map(abs, values)) < 1.5
  found = []
  for (image, split), boxes in boxes_of.items():
    size = _size(rows_of[image, split])
    if are_shares:
      # What a table says of the size may be of a scaled copy; shares are of the file, and as it
      # lies in there where the table has that size.
      actual = upright_size(image, size) or size
      for label, _, _ in boxes:
        problem = "boxes_shares" if actual else "boxes_without_size"
        report.note(problem, f"{label} in {image.name}")
      boxes = [(label, box_of_shares(*box, actual), crowd) for label, box, crowd in boxes if actual]
    labelled = [LabelledBox(label, box, crowd) for label, box, crowd in boxes]
    found.append(LabelledImage(image, size, labelled, split))
  used = {image.file for image in found}
  for file in files.files:
    if file not in used:
      report.note("images_unlisted", str(file.relative_to(files.root)))
  return LabelledDataset(found, tables)


def _tables(path: Path) -> list[Path]:
  tables = sorted(file for ending in ("*.csv", "*.tsv") for file in path.rglob(ending))
  by_split: dict[str, list[Path]] = {}
  for table in tables:
    by_split.setdefault(_split_of_table(table, path), []).append(table)
  for several in by_split.values():
    if len(several) > 1:
      names = ", ".join(str(table) for table in several[:4])
      raise UserError(f"{path} has {len(several)} tables for one split: give one of {names}.")
  if not tables:
    raise UserError(f"{path} has no table, a .csv or .tsv.")
  return tables


def _split_of_table(table: Path, root: Path) -> str:
  """Returns the split by the names of a table below a folder; a table that is given is of none."""
  if not root.is_dir():
    return ""
  return split_named(table.stem) or split_of_path(table, root)


def _rows(table: Path, root: Path) -> Iterator[_Row]:
  split = _split_of_table(table, root)
  text = _text(table)
  lines = [line for line in text.splitlines() if line.strip()]
  if not lines:
    raise UserError(f"{table} is empty.")
  separator = max(_SEPARATORS, key=lines[0].count)
  reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
  try:
    content = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
  except csv.Error as error:
    raise UserError(f"{table} is not CSV: {error}.") from error
  if not content:
    raise UserError(f"{table} has separators and nothing between them.")
  columns, has_header = _columns(content[0][1], table)
  for line_number, cells in content[1 if has_header else 0 :]:
    by_column = {
      column: cell.strip() for column, cell in zip(columns, cells, strict=False) if column
    }
    if separator != ",":
      # Where numbers have a decimal comma, something else separates the cells.
      by_column = {
        column: cell.replace(",", ".") if re.fullmatch(r"-?\d+,\d+", cell) else cell
        for column, cell in by_column.items()
      }
    own = split_named(by_column.get("split", "")) if "split" in columns else split
    yield _Row(by_column, f"{table.name}, line {line_number}", own)


def _text(table: Path) -> str:
  try:
    data = table.read_bytes()
  except OSError as error:
    raise UserError(f"Cannot read {str(table)!r}: {error.strerror}.") from error
  is_utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
  try:
    return data.decode("utf-16" if is_utf16 else "utf-8-sig")
  except UnicodeDecodeError:
    # What Excel writes in the West.
    return data.decode("cp1252", errors="replace")


def _columns(first: Sequence[str], table: Path) -> tuple[tuple[str, ...], bool]:
  """Returns what each column is, and whether the first row says so."""
  words = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in first]
  known = {name: column for column, names in _COLUMNS.items() for name in names}
  columns = [known.get(word, "") for word in words]
  if {"x", "y", "width", "height"} <= set(columns) and not {"w", "xmax"} & set(columns):
    # Beside x and y they are those of the box; the image's are called image_width.
    columns = [
      {"width": "w", "height": "h"}.get(column, column) if word in ("width", "height") else column
      for column, word in zip(columns, words, strict=True)
    ]
  # Of two columns for one thing the better name counts: `filename` before `image_id`.
  for column in set(columns) - {""}:
    places = [index for index, other in enumerate(columns) if other == column]
    names = _COLUMNS[column]
    best = min(places, key=lambda index: names.index(words[index]) if words[index] in names else 0)
    columns = [
      "" if other == column and index != best else other for index, other in enumerate(columns)
    ]
  has_box = any(
    needed <= set(columns)
    for needed in (set(_CORNERS), {"x", "y", "w", "h"}, {"xmin", "ymin", "w", "h"}, {"bbox"},
                   {"shape"})
  )  # fmt: skip
  if "file" in columns and has_box:
    return tuple(columns), True
  for headless in _HEADLESS.values():
    if len(first) == len(headless) and _fits(first, headless):
      return headless, False
  raise UserError(
    f"{table}: its columns are not known: {', '.join(first)[:120]}. The first row must name them, "
    "such as: filename, class, xmin, ymin, xmax, ymax."
  )


def _fits(row: Sequence[str], columns: Sequence[str]) -> bool:
  cells = dict(zip(columns, row, strict=True))
  is_split = "split" not in cells or bool(split_named(cells["split"])) or not cells["split"]
  numbers = [cells[name] for name in (*_CORNERS, "x", "y", "w", "h") if name in cells]
  return is_split and (not any(numbers) or all(number(cell) is not None for cell in numbers))


def _raw_boxes(
  rows: Sequence[_Row], report: Report
) -> list[tuple[str, tuple[float, float, float, float], bool]]:
  """Returns label, box and whether it is a crowd of each row; a row without a box is background."""
  boxes = []
  for row in rows:
    if _is_background(row.cells):
      continue
    label, box = _label(row.cells), _box(row.cells)
    if not label or box is None:
      report.note("boxes_unreadable", row.where)
      continue
    stated = row.cells.get("crowd", "")
    # OpenImages has -1 where nobody has looked.
    is_crowd = crowd_of("" if number(stated) == -1 else stated)
    if is_crowd is None:
      report.note("boxes_malformed", f"{row.where}: {stated!r}")
      continue
    boxes.append((label, box, is_crowd))
  return boxes


def _is_background(cells: Mapping[str, str]) -> bool:
  names = (*_CORNERS, "x", "y", "w", "h", "bbox")
  return not any(cells.get(name) for name in names) and cells.get("shape", "{}") in ("", "{}")


def _label(cells: Mapping[str, str]) -> str:
  if "attributes" not in cells:
    # A table of one class may leave it out.
    return cells.get("label", "object")
  try:
    attributes = parse_json(cells["attributes"])
  except ValueError:
    return ""
  names = [value for value in attributes.values() if isinstance(value, str) and value]
  return names[0] if names else ""


def _box(cells: Mapping[str, str]) -> tuple[float, float, float, float] | None:
  """Returns x, y, width and height; None where a number is missing."""
  if "bbox" in cells:
    numbers = [float(text) for text in _NUMBER.findall(cells["bbox"])]
    return (numbers[0], numbers[1], numbers[2], numbers[3]) if len(numbers) == 4 else None
  if "shape" in cells:
    return _via_box(cells["shape"])
  starts = [number(cells.get(name) or cells.get(f"{name}min", "")) for name in ("x", "y")]
  sides = [number(cells.get(name, "")) for name in ("w", "h")]
  ends = [number(cells.get(name, "")) for name in ("xmax", "ymax")]
  x, y = starts
  if x is None or y is None:
    return None
  if ends[0] is not None and ends[1] is not None:
    return x, y, ends[0] - x, ends[1] - y
  return (x, y, sides[0], sides[1]) if sides[0] is not None and sides[1] is not None else None


def _via_box(text: str) -> tuple[float, float, float, float] | None:
  try:
    shape = parse_json(text)
    if shape["name"] == "rect":
      return (float(shape["x"]), float(shape["y"]), float(shape["width"]), float(shape["height"]))
    if shape["name"] in ("circle", "ellipse"):
      rx, ry = float(shape.get("rx", shape.get("r"))), float(shape.get("ry", shape.get("r")))
      return float(shape["cx"]) - rx, float(shape["cy"]) - ry, 2 * rx, 2 * ry
    points = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
    return outline_box([(float(x), float(y)) for x, y in points])
  except (ValueError, KeyError, TypeError):
    return None


def _size(rows: Sequence[_Row]) -> tuple[int, int] | None:
  return stated_size(rows[0].cells.get("width"), rows[0].cells.get("height"))
