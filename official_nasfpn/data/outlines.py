"""Boxes of COCO's segmentations: polygons and run-length encoded masks."""

from collections.abc import Mapping, Sequence
from typing import Any

from official_nasfpn.data.json_numbers import number, whole_number

# A polygon of fewer points has no area.
_MIN_COORDINATES = 6


def box_of_outline(segmentation: Any) -> list[float] | None:
  """Returns the box around a segmentation, as x, y, width and height.

  Of polygons it is exactly their extent, which is how the boxes of COCO's own polygons came about.

  Args:
    segmentation: a list of polygons, each x, y, x, y, ...; one such polygon; or a mask, run-length
      encoded as a list or as COCO's text.

  Returns:
    None if it is nothing of this, or encloses nothing.
  """
  if isinstance(segmentation, Mapping):
    return _box_of_mask(segmentation)
  if not isinstance(segmentation, Sequence) or isinstance(segmentation, str) or not segmentation:
    return None
  is_list = isinstance(segmentation[0], list)
  polygons = [_coordinates(part) for part in (segmentation if is_list else [segmentation])]
  if None in polygons:
    return None
  xs = [x for polygon in polygons for x in polygon[::2]]
  ys = [y for polygon in polygons for y in polygon[1::2]]
  box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
  return box if box[2] > 0 and box[3] > 0 else None


def _coordinates(polygon: Any) -> list[float] | None:
  if not isinstance(polygon, list) or len(polygon) < _MIN_COORDINATES or len(polygon) % 2:
    return None
  numbers = [number(value) for value in polygon]
  return None if None in numbers else numbers


def _box_of_mask(encoded: Mapping[str, Any]) -> list[float] | None:
  # Imported where there is a mask: it takes half a second.
  from faster_coco_eval.core import mask

  size, counts = encoded.get("size"), encoded.get("counts")
  if not isinstance(size, list) or len(size) != 2:
    return None
  height, width = map(whole_number, size)
  if not height or not width or height < 0 or width < 0:
    return None
  try:
    if isinstance(counts, list):
      rle = mask.frPyObjects(
        {"size": [height, width], "counts": [whole_number(run) for run in counts]}, height, width
      )
    else:
      rle = {"size": [height, width], "counts": str(counts).encode("ascii")}
    x, y, box_width, box_height = map(float, mask.toBbox(rle))
  # What the library says of runs that do not fit, of broken text, and of numbers it cannot hold.
  except (ValueError, RuntimeError, TypeError, OverflowError):
    return None
  return [x, y, box_width, box_height] if box_width > 0 and box_height > 0 else None
