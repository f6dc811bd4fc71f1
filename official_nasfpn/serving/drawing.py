"""Detections drawn on images, to be looked at."""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Far apart in hue and lightness, so that neighbours in the label map differ at a glance.
PALETTE = (
  "#e6194b", "#2ca02c", "#ffd21f", "#2f6fde", "#ff7f0e", "#9b3fd1", "#17becf", "#f032e6",
  "#a4d65e", "#8c564b", "#00a98f", "#ff9da7", "#6b6ecf", "#bcbd22", "#b5179e", "#4cc9f0",
)  # fmt: skip
# Smaller pictures are enlarged: a label on 128 pixels would hide what it names.
_MIN_SIDE = 512


def draw_detections(
  image: Image.Image,
  detections: Mapping[str, np.ndarray],
  label_names: Sequence[str],
  score_threshold: float = 0.3,
  min_side: int = _MIN_SIDE,
) -> Image.Image:
  """Draws boxes with class names and scores.

  Args:
    image: the picture, as the detector saw it.
    detections: of this image: `boxes` [n, 4] as (ymin, xmin, ymax, xmax) in its pixels, `scores`
      [n], `classes` [n] class indices.
    label_names: by class index.
    score_threshold: weaker detections are not drawn.
    min_side: a picture whose longer side is shorter than this is enlarged by a whole factor.

  Returns:
    A new RGB picture.
  """
  factor = max(1, round(min_side / max(image.size)))
  size = (image.width * factor, image.height * factor)
  picture = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
  draw = ImageDraw.Draw(picture)
  unit = max(picture.size)
  line_width = max(2, round(unit / 280))
  font = _font(max(11, round(unit / 42)))

  # The best last, so that nothing covers it; all labels after all boxes.
  kept = [i for i in np.argsort(detections["scores"]) if detections["scores"][i] >= score_threshold]
  boxes = np.asarray(detections["boxes"], np.float64) * factor
  for index in kept:
    ymin, xmin, ymax, xmax = _drawable(boxes[index], picture.size)
    draw.rectangle((xmin, ymin, xmax, ymax), outline=_color(detections, index), width=line_width)
  for index in kept:
    text = f"{label_names[detections['classes'][index]]} {detections['scores'][index]:.2f}"
    box = _drawable(boxes[index], picture.size)
    _draw_label(draw, text, box, _color(detections, index), font, picture.size)
  return picture


def contact_sheet(
  images: Sequence[Image.Image], columns: int = 4, cell_width: int = 480, gap: int = 12
) -> Image.Image:
  """Joins pictures into one, row by row, on white.

  Args:
    images: of any sizes; each is fitted into its cell.
    columns: pictures per row.
    cell_width: in pixels. A cell has the median aspect ratio of the pictures.
    gap: pixels around every picture.
  """
  columns = min(columns, len(images))
  rows = math.ceil(len(images) / columns)
  ratio = float(np.median([image.height / image.width for image in images]))
  cell = (cell_width, round(cell_width * ratio))
  sheet = Image.new("RGB", (gap + columns * (cell[0] + gap), gap + rows * (cell[1] + gap)), "white")
  for index, image in enumerate(images):
    scale = min(cell[0] / image.width, cell[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    fitted = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    left = gap + index % columns * (cell[0] + gap) + (cell[0] - size[0]) // 2
    top = gap + index // columns * (cell[1] + gap) + (cell[1] - size[1]) // 2
    sheet.paste(fitted, (left, top))
  return sheet


def _color(detections: Mapping[str, np.ndarray], index: int) -> str:
  return PALETTE[detections["classes"][index] % len(PALETTE)]


def _drawable(box: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
  """Returns whole pixels inside the picture; Pillow draws the last row and column too."""
  width, height = size
  ymin, xmin = max(0, round(box[0])), max(0, round(box[1]))
  ymax, xmax = min(height - 1, round(box[2]) - 1), min(width - 1, round(box[3]) - 1)
  return ymin, xmin, max(ymin, ymax), max(xmin, xmax)


def _draw_label(
  draw: ImageDraw.ImageDraw,
  text: str,
  box: tuple[int, int, int, int],
  color: str,
  font: ImageFont.FreeTypeFont,
  size: tuple[int, int],
) -> None:
  """Writes on a patch of the box's colour: above the box, or inside it where there is no room."""
  ymin, xmin, _, _ = box
  ascent, descent = font.getmetrics()
  margin = max(2, round(font.size / 5))
  width = math.ceil(draw.textlength(text, font=font)) + 2 * margin
  height = ascent + descent + margin
  left = max(0, min(xmin, size[0] - width))
  top = ymin - height if ymin >= height else ymin
  draw.rectangle((left, top, left + width - 1, top + height - 1), fill=color)
  draw.text((left + margin, top + margin / 2), text, fill=_ink(color), font=font)


def _ink(color: str) -> str:
  """Returns black or white, whichever is easier to read on a colour."""
  red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
  return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
  # It comes with matplotlib and knows Greek, Cyrillic and Arabic letters; Pillow's own does not.
  folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
  return ImageFont.truetype(folder / "DejaVuSans-Bold.ttf", size)
