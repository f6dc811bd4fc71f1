"""Pictures of what was found: images with their boxes, or with those that are meant."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from official_nasfpn.data.coco_json import Box
from official_nasfpn.data.doctor.examination import Examination, ExaminedImage, open_upright
from official_nasfpn.data.doctor.findings import Finding
from official_nasfpn.data.drawing import draw_boxes
from official_nasfpn.printable import printable

# Bytes of all pictures together in the page.
_BUDGET = 5_000_000
# The longer side in pixels.
_SIDE = 480
_QUALITY = 80
_LONGEST_LABEL = 30
# More boxes would hide the image.
_MOST_BOXES = 60


@dataclass(frozen=True)
class Picture:
  """An image in the page.

  Attributes:
    name: its file and split.
    url: JPEG as a `data:` URL.
  """

  name: str
  url: str


def draw_findings(
  examination: Examination, findings: Sequence[Finding]
) -> dict[str, list[Picture]]:
  """Returns pictures of each finding by its title, as many as the page has room for."""
  pictures: dict[str, list[Picture]] = {}
  room = _BUDGET
  for finding in findings:
    for place in finding.places:
      picture = _draw(examination, finding, place)
      if picture is None:
        continue
      room -= len(picture.url)
      if room < 0:
        return pictures
      pictures.setdefault(finding.title, []).append(picture)
  return pictures


def _draw(examination: Examination, finding: Finding, place: int) -> Picture | None:
  image = examination.images[place]
  if image.path is None or image.size is None:
    return None
  try:
    picture = open_upright(image.path.read_bytes(), image.size)
  # It could be decoded before; it may be gone since.
  except Exception:
    return None
  factor = _SIDE / max(picture.size)
  size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
  picture = picture.resize(size, Image.Resampling.LANCZOS)
  boxes = [mark.box for mark in finding.marks if mark.place == place] or _given(image, finding)
  boxes = list(boxes)[:_MOST_BOXES]
  scale = np.array([size[0] / image.size[0], size[1] / image.size[1]])
  corners = np.array([_corners(box) for box in boxes]).reshape(-1, 4) * np.tile(scale[::-1], 2)
  names = [
    _label(examination.label_map.name(box.class_index)) if box.class_index >= 0 else ""
    for box in boxes
  ]
  classes = np.array([max(box.class_index, 0) for box in boxes], np.int64)
  drawn = draw_boxes(picture, corners, classes, names, _SIDE)
  stream = io.BytesIO()
  drawn.save(stream, "JPEG", quality=_QUALITY)
  url = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
  return Picture(f"{image.name} ({image.split})", url)


def _given(image: ExaminedImage, finding: Finding) -> Sequence[Box]:
  """Returns the boxes as they were given where cleaning has changed what is to be seen."""
  if not finding.key.startswith("boxes_"):
    return image.boxes
  known = [row["bbox"] for row in image.rows if _is_box(row.get("bbox"))]
  return [
    Box(float(x), float(y), float(w), float(h), class_index=-1, area=1.0, is_crowd=False)
    for x, y, w, h in known
  ]


def _is_box(box: object) -> bool:
  return (
    isinstance(box, list | tuple)
    and len(box) == 4
    and all(isinstance(value, int | float) and np.isfinite(value) for value in box)
  )


def _corners(box: Box) -> tuple[float, float, float, float]:
  return box.y, box.x, box.y + box.height, box.x + box.width


def _label(name: str) -> str:
  text = " ".join(printable(name).split())
  return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"
