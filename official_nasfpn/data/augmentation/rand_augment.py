"""RandAugment (Cubuk et al. 2019) for images with boxes: a few operations, drawn from fourteen.

The operations on colours are Model Garden's (`official.vision.ops.augment`). Its policy is not, nor
are its rotation, shears and translations:

- It draws from stateful generators: of 64 images parsed in parallel, 26 were the same in two runs
  with one seed.
- It fills what a shift or a rotation leaves empty by mirroring the image, its objects too, which
  then have no boxes. Here it is grey.
- Its magnitudes are those of ImageNet's policy: at half of the greatest, colours, contrast,
  brightness and sharpness stay as they are, and `Solarize` inverts all that is brighter than the
  middle; at the greatest it inverts every pixel, because the threshold 256 is 0 in 8 bits. Here
  every operation grows with the magnitude, in both directions.
"""

import functools
import math
from collections.abc import Callable

import tensorflow as tf
from official.vision.ops import augment

from official_nasfpn.data.augmentation.views import GREY, View, boxes_inside

GREATEST_MAGNITUDE = 10
# At the greatest magnitude. A third of the side is what 100 pixels are of ImageNet's 331.
_GREATEST_ANGLE = math.radians(30)
_GREATEST_SHEAR = 0.3
_GREATEST_SHIFT = 0.3
_GREATEST_CHANGE = 0.9
_FEWEST_BITS = 4

# Takes a view and -1 or 1, the direction.
_Operation = Callable[[View, tf.Tensor], View]


def rand_augment(
  view: View, count: int, magnitude: float, min_visible: float, seed: tf.Tensor
) -> tuple[View, tf.Tensor]:
  """Applies operations that are drawn, one after the other.

  Args:
    view: the view.
    count: how many; some of them do nothing, as in the paper.
    magnitude: how much each changes, above 0 and up to `GREATEST_MAGNITUDE`.
    min_visible: boxes of which less than this share stays inside the view are dropped.
    seed: int64 [2], decides all.

  Returns:
    The new view, of the same size, and the names of the operations, string [count].
  """
  operations = _operations(magnitude / GREATEST_MAGNITUDE, min_visible)
  draws = tf.random.stateless_uniform([count, 2], seed)
  chosen = tf.cast(draws[:, 0] * len(operations), tf.int32)
  directions = tf.sign(draws[:, 1] - 0.5)

  # Traced once, however many times it is called.
  @functools.partial(tf.function, autograph=False)
  def apply(view: View, index: tf.Tensor, direction: tf.Tensor) -> View:
    branches = [functools.partial(operation, view, direction) for operation in operations.values()]
    return tf.switch_case(index, branches)

  for number in range(count):
    view = apply(view, chosen[number], directions[number])
  return view, tf.gather(tf.constant(list(operations)), chosen)


def _operations(strength: float, min_visible: float) -> dict[str, _Operation]:
  """Returns the paper's fourteen operations by name, for a strength above 0 and up to 1."""
  change = _GREATEST_CHANGE * strength
  bits = 8 - round((8 - _FEWEST_BITS) * strength)
  threshold = min(255, round(256 * (1 - strength)))
  angle, shear = _GREATEST_ANGLE * strength, _GREATEST_SHEAR * strength
  shift = _GREATEST_SHIFT * strength
  warp = functools.partial(_warp, min_visible=min_visible)
  return {
    "nothing": lambda view, sign: view,
    "auto-contrast": _pixels(lambda image: augment.autocontrast(image)),
    "equalize": _pixels(lambda image: augment.equalize(image)),
    "posterize": _pixels(lambda image: augment.posterize(image, bits)),
    "solarize": _pixels(lambda image: augment.solarize(image, threshold)),
    "colour": _more_or_less(augment.color, change),
    "contrast": _more_or_less(augment.contrast, change),
    "brightness": _more_or_less(augment.brightness, change),
    "sharpness": _more_or_less(augment.sharpness, change),
    "rotate": lambda view, sign: warp(view, _turned(sign * angle)),
    "shear x": lambda view, sign: warp(view, ((1.0, sign * shear), (0.0, 1.0))),
    "shear y": lambda view, sign: warp(view, ((1.0, 0.0), (sign * shear, 1.0))),
    "shift x": lambda view, sign: warp(view, _UNTURNED, (sign * shift, 0.0)),
    "shift y": lambda view, sign: warp(view, _UNTURNED, (0.0, sign * shift)),
  }


def _pixels(change: Callable[[tf.Tensor], tf.Tensor]) -> _Operation:
  """Returns the operation of a function of 8-bit pixels."""

  def operation(view: View, sign: tf.Tensor) -> View:
    del sign
    pixels = tf.cast(tf.round(tf.clip_by_value(view.image, 0.0, 255.0)), tf.uint8)
    image = tf.cast(change(pixels), tf.float32)
    return view._replace(image=tf.ensure_shape(image, [None, None, 3]))

  return operation


def _more_or_less(enhance: Callable[[tf.Tensor, float], tf.Tensor], change: float) -> _Operation:
  """Returns the operation of a Model Garden function with a factor, 1 being no change."""

  def operation(view: View, sign: tf.Tensor) -> View:
    # Python's numbers, because those functions compare the factor.
    return tf.cond(
      sign > 0,
      lambda: _pixels(lambda image: enhance(image, 1 + change))(view, sign),
      lambda: _pixels(lambda image: enhance(image, 1 - change))(view, sign),
    )

  return operation


_Matrix = tuple[tuple[float | tf.Tensor, float | tf.Tensor], ...]
_UNTURNED = ((1.0, 0.0), (0.0, 1.0))


def _turned(angle: tf.Tensor) -> _Matrix:
  return ((tf.cos(angle), -tf.sin(angle)), (tf.sin(angle), tf.cos(angle)))


def _warp(
  view: View,
  matrix: _Matrix,
  shift: tuple[float | tf.Tensor, float | tf.Tensor] = (0.0, 0.0),
  *,
  min_visible: float,
) -> View:
  """Moves every point (x, y) of the view, relative to its middle, by a linear map and a shift.

  Args:
    view: the view; the result has its size.
    matrix: of the map, its determinant 1.
    shift: shares of width and height.
    min_visible: boxes of which less than this share stays inside are dropped.
  """
  (a, b), (c, d) = matrix
  height, width = tf.unstack(tf.cast(tf.shape(view.image)[:2], tf.float32))
  shift_x, shift_y = shift[0] * width, shift[1] * height
  # Where a pixel comes from: the inverse map. Pixels are counted by their middles.
  x, y = (width - 1) / 2, (height - 1) / 2
  from_x = x - d * (x + shift_x) + b * (y + shift_y)
  from_y = y + c * (x + shift_x) - a * (y + shift_y)
  image = tf.raw_ops.ImageProjectiveTransformV3(
    images=view.image[tf.newaxis],
    transforms=tf.stack([d, -b, from_x, -c, a, from_y, 0.0, 0.0])[tf.newaxis],
    output_shape=tf.shape(view.image)[:2],
    interpolation="BILINEAR",
    fill_mode="CONSTANT",
    fill_value=GREY,
  )[0]
  ymin, xmin, ymax, xmax = tf.unstack(view.boxes, axis=1)
  corners_x = tf.stack([xmin, xmax, xmin, xmax]) - width / 2
  corners_y = tf.stack([ymin, ymin, ymax, ymax]) - height / 2
  moved_x = a * corners_x + b * corners_y + width / 2 + shift_x
  moved_y = c * corners_x + d * corners_y + height / 2 + shift_y
  boxes = tf.stack(
    [
      tf.reduce_min(moved_y, axis=0),
      tf.reduce_min(moved_x, axis=0),
      tf.reduce_max(moved_y, axis=0),
      tf.reduce_max(moved_x, axis=0),
    ],
    axis=1,
  )
  size = tf.stack([height, width])
  return View(image, *boxes_inside(boxes, view.classes, size, min_visible))
