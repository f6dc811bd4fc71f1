"""The embedded dataset: drawn shapes on uneven, noisy, unevenly lit backgrounds, as COCO JSON.

Hard enough that a broken detector shows (sizes over a factor of 8, overlaps, low contrast, gaps in
the category ids), easy enough that a small one learns it in minutes on a laptop.
"""

import colorsys
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from official_nasfpn.data.label_map import Category
from official_nasfpn.errors import UserError

# Ids with gaps, as in COCO: code that takes a class index for a category id fails.
CATEGORIES = (
  Category(3, "circle"),
  Category(7, "square"),
  Category(11, "triangle"),
  Category(42, "cross"),
)
# Each class has a typical hue in degrees: as in photographs, the outline is not the only cue, and a
# small network learns the classes in minutes.
_HUES = {"circle": 10, "square": 215, "triangle": 125, "cross": 290}
_HUE_SPREAD = 22
# Side of a shape relative to the longer side of the image: 15 to 120 pixels at 128.
_MIN_SIDE, _MAX_SIDE = 15 / 128, 120 / 128
_MAX_SHAPES = 5
# Visible share of every shape: with less it could not be recognised.
_MIN_VISIBLE = 0.6
_EMPTY_IMAGES = 0.03
# Shapes are drawn this many times larger and averaged down: smooth edges.
_OVERSAMPLING = 3


@dataclass(frozen=True)
class ShapesConfig:
  """Size of the embedded dataset.

  Attributes:
    num_images: number of images.
    image_size: typical side of an image in pixels; sides vary by a fifth either way.
  """

  num_images: int = 720
  image_size: int = 160

  def __post_init__(self) -> None:
    if self.num_images < 1:
      raise UserError(f"num_images must be at least 1, not {self.num_images}.")
    if self.image_size < 64:
      raise UserError(f"image_size must be at least 64, not {self.image_size}.")


@dataclass(frozen=True)
class _Shape:
  category: Category
  mask: np.ndarray  # float32 [h, w] in [0, 1], over the whole image.
  texture: np.ndarray  # float32 [h, w, 3], its colours.


def write_shapes_dataset(output_dir: str | Path, config: ShapesConfig, seed: int) -> None:
  """Writes `annotations.json` (COCO) and `images/000001.jpg`, ...

  Args:
    output_dir: an existing folder.
    config: how many images of which size.
    seed: the same seed gives the same files, on the same versions of NumPy and Pillow.
  """
  output_dir = Path(output_dir)
  (output_dir / "images").mkdir()
  images, annotations = [], []
  for image_id in range(1, config.num_images + 1):
    rng = np.random.default_rng([seed, image_id])
    pixels, objects = _draw_image(rng, config.image_size)
    file_name = f"{image_id:06d}.jpg"
    quality = int(rng.integers(80, 96))
    Image.fromarray(pixels).save(output_dir / "images" / file_name, quality=quality)
    height, width, _ = pixels.shape
    images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
    for category, box, area in objects:
      annotations.append(
        {
          "id": len(annotations) + 1,
          "image_id": image_id,
          "category_id": category.id,
          "bbox": box,
          "area": area,
          "iscrowd": 0,
        }
      )
  content = {
    "images": images,
    "annotations": annotations,
    "categories": [{"id": category.id, "name": category.name} for category in CATEGORIES],
  }
  (output_dir / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


def _draw_image(
  rng: np.random.Generator, image_size: int
) -> tuple[np.ndarray, list[tuple[Category, list[float], float]]]:
  """Returns uint8 [h, w, 3] and, per object, its category, COCO box and visible area."""
  height, width = rng.integers(round(image_size * 0.8), round(image_size * 1.2) + 1, 2)
  canvas = _background(rng, height, width)
  shapes: list[_Shape] = []
  owner = np.full((height, width), -1)
  num_shapes = 0 if rng.random() < _EMPTY_IMAGES else int(rng.integers(1, _MAX_SHAPES + 1))
  for _ in range(num_shapes):
    shape = _random_shape(rng, canvas)
    covered = np.where(shape.mask > 0.5, len(shapes), owner)
    # Drawn only if it leaves enough of every shape below it.
    if all(_visible(covered, i, s) >= _MIN_VISIBLE for i, s in enumerate(shapes)):
      owner = covered
      shapes.append(shape)
      canvas += shape.mask[..., None] * (shape.texture - canvas)
  objects = []
  for index, shape in enumerate(shapes):
    rows, columns = np.nonzero(owner == index)
    left, top = int(columns.min()), int(rows.min())
    right, bottom = int(columns.max()) + 1, int(rows.max()) + 1
    box = [float(left), float(top), float(right - left), float(bottom - top)]
    objects.append((shape.category, box, float(len(rows))))
  return _photograph(rng, canvas), objects


def _visible(owner: np.ndarray, index: int, shape: _Shape) -> float:
  return np.count_nonzero(owner == index) / np.count_nonzero(shape.mask > 0.5)


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
  """Returns float32 [h, w, 3]: a gradient between two colours, with soft blotches."""
  gradient = _gradient(rng, height, width)[..., None]
  # Paler than shapes: half way to grey.
  first, second = (0.5 * (c + c.mean()) for c in rng.uniform(30, 225, (2, 3)))
  canvas = first + gradient * (second - first) * rng.uniform(0.2, 1.0)
  coarse = rng.normal(0, 1, (6, 6, 3)) * rng.uniform(0, 18)
  return (canvas + _enlarged(coarse, height, width)).astype(np.float32)


def _random_shape(rng: np.random.Generator, canvas: np.ndarray) -> _Shape:
  height, width, _ = canvas.shape
  # Between uniform in size and uniform in its logarithm: a fifth is below 32 of 128 pixels.
  side = max(height, width) * _MIN_SIDE * (_MAX_SIDE / _MIN_SIDE) ** (rng.random() ** 0.6)
  side = min(side, 0.95 * min(height, width))
  category = CATEGORIES[rng.integers(len(CATEGORIES))]
  outline = _outline(category.name, rng) * side * rng.uniform([0.8, 0.8], [1.0, 1.0])
  outline -= outline.min(axis=0)
  room = np.maximum(np.array([width, height]) - outline.max(axis=0), 0)
  outline += room * rng.random(2)
  mask = _filled(outline, height, width)

  # A colour that stands out from what is below it, if the hue leaves one.
  below = canvas[mask > 0.5].mean(axis=0)
  colours = [_colour(rng, category) for _ in range(20)]
  colour = next((c for c in colours if np.abs(c - below).max() > 80), colours[-1])
  shade = 1 + (_gradient(rng, height, width) - 0.5) * rng.uniform(0, 0.5)
  if rng.random() < 0.3:
    shade *= 1 + 0.15 * np.sign(np.sin(_gradient(rng, height, width) * rng.uniform(20, 60)))
  return _Shape(category, mask, (colour * shade[..., None]).astype(np.float32))


def _colour(rng: np.random.Generator, category: Category) -> np.ndarray:
  """Returns red, green and blue in 0..255, mostly of the category's hue."""
  hue = rng.normal(_HUES[category.name], _HUE_SPREAD) / 360 % 1
  return 255 * np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.5, 1), rng.uniform(0.3, 1)))


def _outline(name: str, rng: np.random.Generator) -> np.ndarray:
  """Returns the corners [n, 2] of a shape of side about 1, turned at random."""
  if name == "circle":
    corners = _polar(np.full(48, 0.5))
  elif name == "square":
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.5
  elif name == "triangle":
    corners = _polar(np.full(3, 0.58))
  else:
    arm = 0.16
    corner = np.array([[arm, -0.5], [arm, -arm], [0.5, -arm]])
    corners = np.concatenate([corner @ _turn(math.pi / 2 * i).T for i in range(4)])
  return corners @ _turn(rng.uniform(-0.35, 0.35)).T


def _polar(radii: np.ndarray) -> np.ndarray:
  angles = np.arange(len(radii)) * 2 * math.pi / len(radii) - math.pi / 2
  return np.stack([np.cos(angles), np.sin(angles)], axis=-1) * radii[:, None]


def _turn(angle: float) -> np.ndarray:
  return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _filled(outline: np.ndarray, height: int, width: int) -> np.ndarray:
  """Returns the share of each pixel that lies inside the outline, float32 [h, w]."""
  large = Image.new("L", (width * _OVERSAMPLING, height * _OVERSAMPLING))
  ImageDraw.Draw(large).polygon([tuple(p) for p in outline * _OVERSAMPLING], fill=255)
  return np.asarray(large.reduce(_OVERSAMPLING), np.float32) / 255


def _gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
  """Returns a linear ramp from 0 to 1 in a random direction, [h, w]."""
  angle = rng.uniform(0, 2 * math.pi)
  y, x = np.mgrid[0:height, 0:width]
  ramp = x * math.cos(angle) + y * math.sin(angle)
  return (ramp - ramp.min()) / (ramp.max() - ramp.min())


def _enlarged(coarse: np.ndarray, height: int, width: int) -> np.ndarray:
  channels = [
    Image.fromarray(coarse[..., c].astype(np.float32)).resize((width, height), Image.BICUBIC)
    for c in range(coarse.shape[-1])
  ]
  return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def _photograph(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
  """Returns uint8 pixels under uneven light of a random strength and colour, with noise."""
  height, width, _ = canvas.shape
  light = rng.uniform(0.6, 1.15) * rng.uniform(0.92, 1.08, 3)
  falloff = 1 - _gradient(rng, height, width)[..., None] * rng.uniform(0, 0.45)
  noise = rng.normal(0, rng.uniform(2, 12), canvas.shape)
  return np.clip(canvas * light * falloff + noise, 0, 255).astype(np.uint8)
