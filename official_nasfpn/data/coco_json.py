"""Reading COCO JSON: refused when it is not COCO, cleaned and reported on when it is untidy."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from official_nasfpn.data.dataset_info import FILLER_ID
from official_nasfpn.data.foreign_formats import (
  JSON_LINES,
  is_json_lines,
  not_coco,
  recognize_json,
  refuse_foreign_annotations,
)
from official_nasfpn.data.foreign_text import clean_name
from official_nasfpn.data.json_numbers import number, whole_number
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.data.outlines import box_of_outline
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json

# So many detections of a class in an image count in COCO's AP.
_MANY_BOXES = 100
# Marks an annotation whose box was made while parsing.
_FROM_OUTLINE = "box from outline"


@dataclass(frozen=True)
class AnnotatedImage:
  """One image as the JSON describes it.

  Attributes:
    id: the dataset's id of the image.
    file_name: path below the images directory.
    size: width and height that the JSON states; None if it states none.
    annotations: its COCO annotations, not yet checked.
    text_id: what the dataset calls it where that is text, and the id a number given to it.
  """

  id: int
  file_name: str
  size: tuple[int, int] | None
  annotations: tuple[Mapping[str, Any], ...]
  text_id: str | None = None


@dataclass(frozen=True)
class Box:
  """One object, inside its image.

  Attributes:
    x: left edge in pixels.
    y: top edge in pixels.
    width: width in pixels.
    height: height in pixels.
    class_index: position in the label map.
    area: the object's area in square pixels, which COCO's metrics by size use.
    is_crowd: whether the box stands for a group of objects.
  """

  x: float
  y: float
  width: float
  height: float
  class_index: int
  area: float
  is_crowd: bool


@dataclass(frozen=True)
class CocoDataset:
  """The content of one COCO JSON file."""

  images: tuple[AnnotatedImage, ...]
  label_map: LabelMap


def coco_dataset(content: Mapping[str, Any], path: str | Path, report: Report) -> CocoDataset:
  """Returns the images, annotations and categories of parsed COCO JSON.

  Args:
    content: as `parse_coco_json` and the readers of other formats return it.
    path: where it comes from, for messages.
    report: receives what is wrong but can be left out.

  Raises:
    UserError: entries lack what they must have.
  """
  label_map = _label_map(content["categories"], path, report)
  annotations = defaultdict(list)
  for row in content["annotations"]:
    id_ = _whole_number(_field(row, "image_id", "annotations", path), "an image_id", path)
    annotations[id_].append(row)

  images: dict[int, AnnotatedImage] = {}
  names_of_id: dict[int, dict[PurePosixPath, str]] = {}
  entries: Counter[int] = Counter()
  for row in content["images"]:
    id_ = _whole_number(_field(row, "id", "images", path), "an image's id", path)
    if id_ == FILLER_ID:
      raise UserError(f"{path}: an image's id is {id_}, which marks rows without an image here.")
    file_name = _text(_field(row, "file_name", "images", path), "an image's file_name", path)
    size = _size(row, file_name, report)
    entries[id_] += 1
    names_of_id.setdefault(id_, {}).setdefault(PurePosixPath(file_name), file_name)
    if known := images.get(id_):
      # Of two sizes neither is believed.
      size, file_name = (known.size if known.size == size else None), known.file_name
    images[id_] = AnnotatedImage(
      id_, file_name, size, tuple(annotations.get(id_, ())), row.get("text_id")
    )
  if not images:
    raise UserError(f"{path}: the list 'images' is empty.")
  # Nobody knows which of the files the boxes of such an id are on.
  ambiguous = {id_: names for id_, names in names_of_id.items() if len(names) > 1}
  for id_, image in images.items():
    if entries[id_] > 1 and id_ not in ambiguous:
      report.note("images_duplicate_id", f"{id_} {image.file_name}")
  for id_, names in ambiguous.items():
    del images[id_]
    boxes = len(annotations.get(id_, ()))
    report.note("images_ambiguous_id", f"{id_}: {' and '.join(names.values())}, {boxes} boxes")
  if not images:
    raise UserError(
      f"{path}: every id in 'images' stands for several files, so that no box has an image of its "
      "own. Number the images anew."
    )
  for id_, rows in annotations.items():
    if id_ not in images and id_ not in ambiguous:
      for row in rows:
        report.note("boxes_unknown_image", f"annotation {row.get('id')} of image {id_}")
  return CocoDataset(tuple(images.values()), label_map)


def note_other_size(image: AnnotatedImage, size: tuple[int, int], report: Report) -> None:
  """Reports an image whose file has another width or height than the JSON states."""
  if image.size is not None and image.size != size:
    stated, actual = (f"{width}x{height}" for width, height in (image.size, size))
    report.note(
      "images_other_size", f"{image.file_name}: {stated} in the JSON, {actual} in the file"
    )


def clean_boxes(
  annotations: Sequence[Mapping[str, Any]],
  size: tuple[int, int],
  label_map: LabelMap,
  report: Report,
  where: str,
) -> list[Box]:
  """Returns the boxes of one image that can be used, clipped at its border.

  Model Garden drops a box that reaches 1e-5 pixels beyond the border, rounding noise included;
  here what is inside is kept.

  Args:
    annotations: COCO annotations.
    size: width and height of the image file.
    label_map: the categories to keep.
    report: receives what was dropped or clipped.
    where: the image's name in the report.
  """
  class_indices = {category.id: index for index, category in enumerate(label_map.categories)}
  width, height = size
  boxes = []
  for row in annotations:
    example = f"annotation {row.get('id')} of {where}"
    class_index = class_indices.get(whole_number(row.get("category_id")))
    if class_index is None:
      report.note("boxes_unknown_category", f"{example}: {row.get('category_id')!r}")
      continue
    numbers = _four_numbers(row.get("bbox"))
    if numbers is None:
      report.note("boxes_malformed", f"{example}: {row.get('bbox')!r}")
      continue
    is_crowd = crowd_of(row.get("iscrowd"))
    if is_crowd is None:
      report.note("boxes_malformed", f"{example}: iscrowd {row['iscrowd']!r}")
      continue
    x, y, box_width, box_height = numbers
    if box_width <= 0 or box_height <= 0:
      report.note("boxes_no_area", f"{example}: {row['bbox']}")
      continue
    left, right = max(x, 0.0), min(x + box_width, float(width))
    top, bottom = max(y, 0.0), min(y + box_height, float(height))
    if left >= right or top >= bottom:
      report.note("boxes_outside", f"{example}: {row['bbox']} in {width}x{height}")
      continue
    if (left, top) != (x, y) or right < x + box_width or bottom < y + box_height:
      report.note("boxes_clipped", f"{example}: {row['bbox']} in {width}x{height}")
    if is_crowd:
      report.note("boxes_crowd", example)
    if _FROM_OUTLINE in row:
      report.note("boxes_from_outlines", example)
    area = number(row.get("area"))
    # Larger than the image, it is of something else, or no area at all.
    if area is None or not 0 < area <= width * height:
      area = (right - left) * (bottom - top)
    boxes.append(Box(left, top, right - left, bottom - top, class_index, area, is_crowd))
  return boxes


def note_number_of_boxes(boxes: Sequence[Box], report: Report, where: str) -> None:
  """Reports an image without boxes, or with very many.

  Args:
    boxes: those of the image that are kept.
    report: receives it.
    where: the image's name in the report.
  """
  if not boxes:
    report.note("images_without_boxes", where)
  if len(boxes) > _MANY_BOXES:
    report.note("images_many_boxes", f"{where}: {len(boxes)}")


def crowd_of(value: Any) -> bool | None:
  """Returns what an annotation says of being a crowd, however it is spelt; None if neither."""
  if value is None or value == "":
    return False
  if isinstance(value, str) and value.strip().lower() in ("true", "false"):
    return value.strip().lower() == "true"
  found = value if isinstance(value, bool) else number(value)
  return None if found is None else bool(found)


def coco_content(
  images: Sequence[Mapping[str, Any]], boxes: Sequence[Sequence[Box]], label_map: LabelMap
) -> dict[str, Any]:
  """Returns what a COCO JSON of cleaned boxes holds, to evaluate against.

  Args:
    images: COCO's rows of images, with at least an `id`.
    boxes: the boxes of each image, in the same order.
    label_map: gives the dataset's own category ids back.
  """
  annotations: list[dict[str, Any]] = []
  for image, image_boxes in zip(images, boxes, strict=True):
    # Numbered anew from 1: COCO's evaluation takes a match with annotation 0 for no match.
    annotations += annotation_rows(image["id"], image_boxes, label_map, len(annotations) + 1)
  return {
    "info": {},
    "licenses": [],
    "images": list(images),
    "annotations": annotations,
    "categories": category_rows(label_map),
  }


def annotation_rows(
  image_id: int, boxes: Sequence[Box], label_map: LabelMap, first_id: int
) -> list[dict[str, Any]]:
  """Returns COCO's annotations of an image.

  Args:
    image_id: of the image.
    boxes: its boxes.
    label_map: gives the dataset's own category ids back.
    first_id: the annotations are numbered from here.
  """
  return [
    {
      "id": id_,
      "image_id": image_id,
      "category_id": label_map.category_id(box.class_index),
      "bbox": [box.x, box.y, box.width, box.height],
      "area": box.area,
      "iscrowd": int(box.is_crowd),
    }
    for id_, box in enumerate(boxes, start=first_id)
  ]


def category_rows(label_map: LabelMap) -> list[dict[str, Any]]:
  """Returns COCO's categories of a dataset, in its own ids."""
  return [
    {"id": category.id, "name": category.name}
    | ({"text_id": category.text_id} if category.text_id is not None else {})
    for category in label_map.categories
  ]


def parse_coco_json(path: Path) -> dict[str, Any]:
  """Returns the JSON object of a file, with its three COCO lists checked to be there.

  Raises:
    UserError: the file is missing, or is not COCO JSON.
  """
  refuse_foreign_annotations(path)
  try:
    with path.open(encoding="utf-8-sig") as file:
      # Outlines make up most of a COCO file, and only boxes are needed: dropped while parsing,
      # they take no memory.
      content = parse_json(file.read(), object_hook=_with_box_for_outline)
  except OSError as error:
    raise UserError(f"Cannot read the annotations {str(path)!r}: {error.strerror}.") from error
  except ValueError as error:
    if is_json_lines(path):
      raise not_coco(path, JSON_LINES) from error
    raise UserError(f"{path} is not JSON: {error}.") from error
  if seen := recognize_json(content, path.parent):
    raise not_coco(path, seen)
  expected = "COCO JSON is an object with the lists 'images', 'annotations' and 'categories'"
  if not isinstance(content, dict):
    raise UserError(f"{path} holds a {type(content).__name__}; {expected}.")
  for key in ("images", "annotations", "categories"):
    if not isinstance(content.get(key), list):
      state = f"its {key!r} is no list" if key in content else f"it has no {key!r}"
      found = ", ".join(repr(name) for name in list(content)[:8]) or "nothing"
      raise UserError(f"{path} is not COCO JSON: {state}. {expected}; found: {found}.")
  return content


def _with_box_for_outline(value: dict[str, Any]) -> dict[str, Any]:
  """Returns an annotation without its outline; with its box, if it has none of its own."""
  outline = value.pop("segmentation", None)
  if outline:
    own = _four_numbers(value.get("bbox"))
    if own is None or own[2] <= 0 or own[3] <= 0:
      box = box_of_outline(outline)
      if box:
        value |= {"bbox": box, _FROM_OUTLINE: True}
  return value


def _label_map(rows: Sequence[Any], path: str | Path, report: Report) -> LabelMap:
  """Returns the categories in the order of their ids, their names cleaned and told apart."""
  names = {}
  text_ids = {}
  for row in rows:
    id_ = _whole_number(_field(row, "id", "categories", path), "a category's id", path)
    name = _text(_field(row, "name", "categories", path), "a category's name", path)
    clean = clean_name(name) or f"category {id_}"
    if clean != name:
      report.note("categories_cleaned", f"{name!r} is {clean!r}")
    if id_ in names:
      raise UserError(f"{path}: category id {id_} stands for more than one category.")
    names[id_] = clean
    text_ids[id_] = row.get("text_id")
  if not names:
    raise UserError(f"{path}: the list 'categories' is empty, so there is nothing to detect.")
  counts = Counter(names.values())
  for id_, name in names.items():
    if counts[name] > 1:
      names[id_] = f"{name} ({id_})"
      report.note("categories_same_name", f"{name!r} is {names[id_]!r}")
  return LabelMap(tuple(Category(id_, names[id_], text_ids[id_]) for id_ in sorted(names)))


def _size(row: Mapping[str, Any], file_name: str, report: Report) -> tuple[int, int] | None:
  """Returns width and height of an image's row; None where it has none that can be."""
  given = row.get("width"), row.get("height")
  width, height = map(whole_number, given)
  if width and height and width > 0 and height > 0:
    return width, height
  if any(side not in (None, "") for side in given):
    report.note("images_no_size", f"{file_name}: {given[0]!r} x {given[1]!r}")
  return None


def _field(row: Any, key: str, list_name: str, path: str | Path) -> Any:
  if not isinstance(row, dict) or key not in row:
    raise UserError(f"{path}: an entry of {list_name!r} has no {key!r}: {repr(row)[:100]}.")
  return row[key]


def _whole_number(value: Any, what: str, path: str | Path) -> int:
  found = whole_number(value)
  if found is None:
    shown = repr(value)[:100]
    raise UserError(f"{path}: {what} is {shown}; ids must be whole numbers of at most 64 bits.")
  return found


def _text(value: Any, what: str, path: str | Path) -> str:
  if isinstance(value, bool) or not isinstance(value, str | int | float):
    raise UserError(f"{path}: {what} is {repr(value)[:100]}; it must be text.")
  return str(value)


def _four_numbers(value: Any) -> tuple[float, float, float, float] | None:
  if not isinstance(value, list) or len(value) != 4:
    return None
  x, y, width, height = map(number, value)
  if x is None or y is None or width is None or height is None:
    return None
  return x, y, width, height
