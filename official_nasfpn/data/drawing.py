"""Boxes drawn on images, annotated or detected, to be looked at."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from official_nasfpn.data.detections import Detections
from official_nasfpn.data.fonts import drawable, font_for
from official_nasfpn.data.pixels import to_rgb

# Far apart in hue and lightness, so that neighbours in the label map differ at a glance.
PALETTE = (
  "#e6194b", "#2ca02c", "#ffd21f", "#2f6fde", "#ff7f0e", "#9b3fd1", "#17becf", "#f032e6",
  "#a4d65e", "#8c564b", "#00a98f", "#ff9da7", "#6b6ecf", "#bcbd22", "#b5179e", "#4cc9f0",
)  # fmt: skip
# Left, top, right and bottom pixel, all of them painted.
Patch = tuple[int, int, int, int]
# Smaller pictures are enlarged: a label on 128 pixels would hide what it names.
MIN_SIDE = 640
_CELL_COLOR = "#e9ebee"
_CAPTION_LINES = 2


def draw_detections(
  image: Image.Image, detections: Detections, min_score: float = 0.3, min_side: int = MIN_SIDE
) -> Image.Image:
  """Draws detections with class names and scores.

  Args:
    image: the picture, as the detector saw it.
    detections: of this image.
    min_score: weaker detections are not drawn.
    min_side: as in `draw_boxes`.

  Returns:
    A new RGB picture.
  """
  drawn = detections.above(min_score)
  texts = [f"{detection.label} {detection.score:.2f}" for detection in drawn]
  return draw_boxes(image, drawn.boxes, drawn.classes, texts, min_side)


def draw_boxes(
  image: Image.Image,
  boxes: np.ndarray,
  classes: np.ndarray,
  texts: Sequence[str],
  min_side: int = MIN_SIDE,
) -> Image.Image:
  """Draws boxes, each with a text.

  Args:
    image: the picture.
    boxes: [n, 4] as (ymin, xmin, ymax, xmax) in its pixels, the most important first.
    classes: int [n], class indices, which choose the colours.
    texts: one for each box.
    min_side: a picture whose longer side is shorter than this is enlarged by a whole factor.

  Returns:
    A new RGB picture.
  """
  factor = max(1, round(min_side / max(image.size)))
  size = (image.width * factor, image.height * factor)
  picture = to_rgb(image).resize(size, Image.Resampling.BICUBIC)
  draw = ImageDraw.Draw(picture)
  unit = max(picture.size)
  line_width = max(2, round(unit / 280))
  font = font_for(texts, max(11, round(unit / 48)))
  texts = [drawable(text, font) for text in texts]

  places = [_on_picture(box, picture.size) for box in np.asarray(boxes, np.float64) * factor]
  colors = [PALETTE[index % len(PALETTE)] for index in classes]
  # Places for all labels first, the best choosing first.
  patches: list[Patch] = []
  for index, (box, text) in enumerate(zip(places, texts, strict=True)):
    others = places[:index] + places[index + 1 :]
    patches.append(_place_label(_label_size(draw, text, font), box, patches, others, picture.size))
  # A label hides no box, and a box no text; what is better stands on top.
  best_last = list(reversed(list(zip(texts, patches, places, colors, strict=True))))
  for _, patch, _, color in best_last:
    draw.rectangle(patch, fill=color)
  for _, _, box, color in best_last:
    draw.rectangle(box, outline=color, width=line_width)
  for text, patch, _, color in best_last:
    _write_label(draw, text, patch, color, font)
  return picture


def contact_sheet(
  images: Sequence[Image.Image], columns: int = 4, cell_width: int = 480, gap: int = 12
) -> Image.Image:
  """Joins pictures into one, row by row.

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
    left = gap + index % columns * (cell[0] + gap)
    top = gap + index // columns * (cell[1] + gap)
    sheet.paste(_CELL_COLOR, (left, top, left + cell[0], top + cell[1]))
    sheet.paste(fitted, (left + (cell[0] - size[0]) // 2, top + (cell[1] - size[1]) // 2))
  return sheet


def side_by_side(panels: Sequence[tuple[str, Image.Image]], gap: int = 12) -> Image.Image:
  """Joins pictures of one image into one, in a row, each below its title.

  Args:
    panels: title and picture, all pictures of one size.
    gap: pixels between and around them.
  """
  width, height = panels[0][1].size
  font = font_for([title for title, _ in panels], max(14, round(max(width, height) / 36)))
  title_height = sum(font.getmetrics()) + gap
  size = (gap + len(panels) * (width + gap), title_height + height + gap)
  sheet = Image.new("RGB", size, "white")
  draw = ImageDraw.Draw(sheet)
  for index, (title, picture) in enumerate(panels):
    left = gap + index * (width + gap)
    draw.text((left, gap / 2), drawable(title, font), fill="black", font=font)
    sheet.paste(picture, (left, title_height))
  return sheet


def titled_rows(
  rows: Sequence[tuple[str, Sequence[tuple[str, Image.Image]]]], gap: int = 12
) -> Image.Image:
  """Joins rows of pictures into one, each below its title, and a caption below every picture.

  Args:
    rows: title, and captions with their pictures; all pictures of one size.
    gap: pixels between and around them.
  """
  width, height = rows[0][1][0][1].size
  captions = [caption for _, pictures in rows for caption, _ in pictures]
  font, small = font_for([title for title, _ in rows], 20), font_for(captions, 13)
  title_height, line_height = sum(font.getmetrics()), sum(small.getmetrics())
  caption_height = _CAPTION_LINES * line_height
  row_height = title_height + height + caption_height + 2 * gap
  columns = max(len(pictures) for _, pictures in rows)
  size = (gap + columns * (width + gap), gap + len(rows) * row_height)
  sheet = Image.new("RGB", size, "white")
  draw = ImageDraw.Draw(sheet)
  for row, (title, pictures) in enumerate(rows):
    top = gap + row * row_height
    draw.text((gap, top), drawable(title, font), fill="black", font=font)
    for column, (caption, picture) in enumerate(pictures):
      left = gap + column * (width + gap)
      sheet.paste(picture, (left, top + title_height + gap // 2))
      bottom = top + title_height + gap // 2 + height
      for line, text in enumerate(_lines(draw, drawable(caption, small), small, width)):
        draw.text((left, bottom + line * line_height), text, fill="#444444", font=small)
  return sheet


def _lines(
  draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: int
) -> list[str]:
  """Returns a text in lines that are not wider; what a caption has no lines for is left out."""
  lines: list[str] = []
  for word in text.split():
    if lines and draw.textlength(f"{lines[-1]} {word}", font=font) <= width:
      lines[-1] += f" {word}"
    else:
      lines.append(word)
  return lines[:_CAPTION_LINES]


def _on_picture(box: np.ndarray, size: tuple[int, int]) -> Patch:
  """Returns whole pixels inside the picture; Pillow draws the last row and column too."""
  width, height = size
  ymin, xmin = max(0, round(box[0])), max(0, round(box[1]))
  ymax, xmax = min(height - 1, round(box[2]) - 1), min(width - 1, round(box[3]) - 1)
  return xmin, ymin, max(xmin, xmax), max(ymin, ymax)


def _label_size(
  draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont
) -> tuple[int, int]:
  margin = _margin(font)
  width = math.ceil(draw.textlength(text, font=font)) + 2 * margin
  return width, sum(font.getmetrics()) + margin


def _margin(font: ImageFont.FreeTypeFont) -> int:
  return max(2, round(font.size / 5))


def _place_label(
  label: tuple[int, int],
  box: Patch,
  labels: Sequence[Patch],
  boxes: Sequence[Patch],
  size: tuple[int, int],
) -> Patch:
  """Returns the place at a box where a label hides least: above, below, or inside of it.

  Args:
    label: its width and height.
    box: whose label it is.
    labels: those that have a place.
    boxes: all others.
    size: of the picture.
  """
  width, height = label
  xmin, ymin, _, ymax = box
  left = max(0, min(xmin, size[0] - width))
  tops = [ymin - height, ymax + 1, ymin, ymax - height + 1]
  places = [
    (left, top, left + width - 1, top + height - 1)
    for top in tops
    if top >= 0 and top + height <= size[1]
  ]
  places = places or [(left, max(0, ymin), left + width - 1, max(0, ymin) + height - 1)]

  def hidden(place: Patch) -> tuple[float, float]:
    # Of a small box its own label hides most.
    shares = [_overlap(place, other) / _area(other) for other in (*boxes, box)]
    return sum(_overlap(place, other) for other in labels), round(sum(shares), 2)

  return min(places, key=hidden)


def _overlap(one: Patch, other: Patch) -> int:
  """Returns how many pixels two patches share."""
  width = min(one[2], other[2]) - max(one[0], other[0]) + 1
  height = min(one[3], other[3]) - max(one[1], other[1]) + 1
  return max(width, 0) * max(height, 0)


def _area(patch: Patch) -> int:
  return _overlap(patch, patch)


def _write_label(
  draw: ImageDraw.ImageDraw, text: str, patch: Patch, color: str, font: ImageFont.FreeTypeFont
) -> None:
  margin = _margin(font)
  draw.text((patch[0] + margin, patch[1] + margin / 2), text, fill=_ink(color), font=font)


def _ink(color: str) -> str:
  """Returns black or white, whichever is easier to read on a colour."""
  red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
  return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"
