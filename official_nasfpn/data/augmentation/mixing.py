"""Augmentations that make one view of several images: mosaic, copy-paste of boxes, mixup.

Model Garden has a mosaic and a mixup (`official.projects.yolo.ops.mosaic`), and they are not used:
they draw from stateful generators (of 64 mosaics 51 were the same in two runs with one seed, parsed
in parallel), and keep 400 decoded images in four shuffle buffers. Their beta distribution is kept,
and the border that a mosaic's middle keeps to.
"""

import functools
from collections.abc import Sequence

import tensorflow as tf

from official_nasfpn.data import preprocessing
from official_nasfpn.data.augmentation.views import (
  GREY,
  Photo,
  View,
  areas,
  boxes_in_crop,
  drop_slivers,
  flipped,
  take,
)
from official_nasfpn.data.config import InputConfig

# Images in a mosaic.
MOSAIC_IMAGES = 4
# The middle of a mosaic stays this far from its border, in shares of the side; as Model Garden's.
_MOSAIC_BORDER = 0.25
# Boxes that one image gets, at most.
MAX_PASTED = 3
# Of width and height of the view: a larger box is scaled down.
_MAX_PASTED_SIDE = 0.5
# Places that are tried for each box.
_NUM_PLACES = 8
# Both parameters of the beta distribution of mixup's weights, as Model Garden's: about a half.
_MIXUP_BETA = 8.0


def mosaic(
  photos: Sequence[Photo], config: InputConfig, image_size: tuple[int, int], seed: tf.Tensor
) -> View:
  """Joins four images, each flipped, scaled and cropped at random, around a point.

  Scales are drawn from `scale_min / 2` to `scale_max`: a mosaic shows objects smaller, and more of
  them. An image fills the width or the height of its tile, whatever was drawn. Boxes of which less
  than `min_visible` is left are dropped.

  Args:
    photos: `MOSAIC_IMAGES` images.
    config: as for `plain_view`.
    image_size: height and width of the network's input, which are the view's.
    seed: int64 [2], decides all.
  """
  seeds = tf.random.experimental.stateless_split(seed, MOSAIC_IMAGES + 1)
  size = tf.constant(image_size, tf.float32)
  share = _MOSAIC_BORDER + (1 - 2 * _MOSAIC_BORDER) * tf.random.stateless_uniform([2], seeds[0])
  middle = tf.round(share * size)
  # A function is traced once for all four, which a training's start is shorter by.
  make_tile = tf.function(
    functools.partial(_tile, config=config, image_size=image_size), autograph=False
  )
  # 0 is above or left of the middle, 1 below or right.
  places = tf.constant([[0, 0], [0, 1], [1, 0], [1, 1]], tf.float32)
  tiles = [
    make_tile(photo, places[number], middle, seeds[number + 1])
    for number, photo in enumerate(photos)
  ]
  rows = [tf.concat([tiles[first].image, tiles[first + 1].image], axis=1) for first in (0, 2)]
  return View(
    tf.ensure_shape(tf.concat(rows, axis=0), [*image_size, 3]),
    tf.concat([tile.boxes for tile in tiles], axis=0),
    tf.concat([tile.classes for tile in tiles], axis=0),
  )


def _tile(
  photo: Photo,
  place: tf.Tensor,
  middle: tf.Tensor,
  seed: tf.Tensor,
  config: InputConfig,
  image_size: tuple[int, int],
) -> View:
  """Returns a tile of a mosaic, its boxes in pixels of the mosaic.

  An image that does not fill the tile lies at the mosaic's middle.
  """
  scale, offset_y, offset_x, flip = tf.unstack(tf.random.stateless_uniform([4], seed))
  if config.horizontal_flip:
    photo = flipped(photo, flip)
  least = config.scale_min / 2
  scale = least + scale * (config.scale_max - least)
  size = tf.constant(image_size, tf.float32)
  tile_size = tf.where(place == 0, middle, size - middle)
  scaled_size = tf.maximum(
    preprocessing.fitted_size(photo.image, tf.round(scale * size)),
    # Its tile it fills from side to side, at least.
    preprocessing.fitted_size(photo.image, tile_size),
  )
  surplus = tf.maximum(scaled_size - tile_size, 0.0)
  offset = tf.floor(surplus * tf.stack([offset_y, offset_x]))
  crop_size = tf.minimum(scaled_size, tile_size)
  resized = tf.image.resize(photo.image, tf.cast(scaled_size, tf.int32))
  begin, extent = tf.cast(offset, tf.int32), tf.cast(crop_size, tf.int32)
  cropped = tf.slice(resized, tf.pad(begin, [[0, 1]]), tf.concat([extent, [3]], axis=0))
  before = tf.where(place == 0, tile_size - crop_size, 0.0)
  image = _on_grey(cropped, before, tile_size)
  boxes, classes = boxes_in_crop(
    photo.boxes, photo.classes, scaled_size, offset, crop_size, config.min_visible
  )
  return View(image, boxes + tf.tile(before + place * middle, [2]), classes)


def _on_grey(image: tf.Tensor, before: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
  """Returns a grey image of a size, with an image that begins at row and column `before`."""
  begin = tf.cast(before, tf.int32)
  end = tf.cast(size, tf.int32) - begin - tf.shape(image)[:2]
  padding = tf.pad(tf.stack([begin, end], axis=1), [[0, 1], [0, 0]])
  return tf.pad(image, padding, constant_values=GREY)


def paste_boxes(
  view: View, photo: Photo, config: InputConfig, image_size: tuple[int, int], seed: tf.Tensor
) -> View:
  """Pastes one to three boxes of another image, each with what is around its object.

  There are no masks, so rectangles are pasted. A box has the size that its image would have by
  the scales of the recipe, and at most half of the view's sides. It goes where, of eight places,
  it hides least of the view's boxes. A box that it cuts straight is made smaller; one of which
  less than `min_visible` is left is dropped.

  Args:
    view: what is pasted on.
    photo: the other image; without boxes it changes nothing.
    config: `scale_min`, `scale_max`, `horizontal_flip` and `min_visible`.
    image_size: height and width of the network's input.
    seed: int64 [2], decides all.
  """
  seeds = tf.random.experimental.stateless_split(seed, MAX_PASTED + 2)
  number, scale, flip = tf.unstack(tf.random.stateless_uniform([3], seeds[0]))
  if config.horizontal_flip:
    photo = flipped(photo, flip)
  size = tf.constant(image_size, tf.float32)
  scale = config.scale_min + scale * (config.scale_max - config.scale_min)
  original_size = tf.cast(tf.shape(photo.image)[:2], tf.float32)
  scale = preprocessing.fitted_size(photo.image, tf.round(scale * size)) / original_size
  count = 1 + tf.cast(number * MAX_PASTED, tf.int32)
  order = tf.argsort(tf.random.stateless_uniform([tf.shape(photo.boxes)[0]], seeds[1]))
  chosen = order[:count]
  boxes = photo.boxes * tf.tile(original_size, [2])

  @functools.partial(tf.function, autograph=False)
  def paste(view: View, index: tf.Tensor, seed: tf.Tensor) -> View:
    patch, kind = _cut_out(photo.image, boxes[index]), photo.classes[index]
    return _paste(view, patch, kind, scale, config.min_visible, seed)

  for number in range(MAX_PASTED):
    view = tf.cond(
      number < tf.shape(chosen)[0],
      lambda view=view, number=number: paste(view, chosen[number], seeds[number + 2]),
      lambda view=view: view,
    )
  return view


def _cut_out(image: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
  """Returns the pixels of an image that a box touches, at least one."""
  corner = tf.minimum(tf.cast(tf.floor(box[:2] + 1e-3), tf.int32), tf.shape(image)[:2] - 1)
  end = tf.maximum(tf.cast(tf.math.ceil(box[2:] - 1e-3), tf.int32), corner + 1)
  return image[corner[0] : end[0], corner[1] : end[1]]


def _paste(
  view: View,
  patch: tf.Tensor,
  kind: tf.Tensor,
  scale: tf.Tensor,
  min_visible: float,
  seed: tf.Tensor,
) -> View:
  """Pastes pixels of an object, where they hide least of other boxes, and adds its box."""
  room = tf.cast(tf.shape(view.image)[:2], tf.float32)
  wanted = tf.cast(tf.shape(patch)[:2], tf.float32) * scale
  wanted *= tf.minimum(1.0, tf.reduce_min(_MAX_PASTED_SIDE * room / wanted))
  extent = tf.clip_by_value(tf.round(wanted), 1.0, room)
  draws = tf.random.stateless_uniform([_NUM_PLACES, 2], seed)
  # A draw just below 1 may be rounded up.
  corners = tf.minimum(tf.floor(draws * (room - extent + 1)), room - extent)
  places = tf.concat([corners, corners + extent], axis=1)
  hidden = _overlaps(places, view.boxes) / tf.maximum(areas(view.boxes), 1.0)
  place = places[tf.argmin(tf.reduce_sum(hidden, axis=1))]
  boxes, classes = _not_hidden(view.boxes, view.classes, place, min_visible)
  top, left, bottom, right = tf.unstack(tf.cast(place, tf.int32))
  pixels = tf.image.resize(patch, tf.cast(extent, tf.int32))
  middle = tf.concat(
    [view.image[top:bottom, :left], pixels, view.image[top:bottom, right:]], axis=1
  )
  image = tf.concat([view.image[:top], middle, view.image[bottom:]], axis=0)
  return View(
    tf.ensure_shape(image, view.image.shape),
    tf.concat([boxes, place[tf.newaxis]], axis=0),
    tf.concat([classes, kind[tf.newaxis]], axis=0),
  )


def _overlaps(places: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
  """Returns the areas [m, n] that boxes [m, 4] and [n, 4] share."""
  begin = tf.maximum(places[:, tf.newaxis, :2], boxes[:, :2])
  end = tf.minimum(places[:, tf.newaxis, 2:], boxes[:, 2:])
  return tf.reduce_prod(tf.maximum(end - begin, 0.0), axis=-1)


def _not_hidden(
  boxes: tf.Tensor, classes: tf.Tensor, place: tf.Tensor, min_visible: float
) -> tuple[tf.Tensor, tf.Tensor]:
  """Makes boxes smaller that a rectangle cuts from side to side; drops those that it hides."""
  whole = areas(boxes)
  left_over = whole - _overlaps(place[tf.newaxis], boxes)[0]
  kept = left_over >= min_visible * whole
  boxes, classes = take(boxes, classes, kept)
  ymin, xmin, ymax, xmax = tf.unstack(boxes, axis=1)
  top, left, bottom, right = tf.unstack(place)
  rows_covered = (top <= ymin) & (bottom >= ymax)
  columns_covered = (left <= xmin) & (right >= xmax)
  meet_in_y, meet_in_x = (top < ymax) & (bottom > ymin), (left < xmax) & (right > xmin)
  cut_in_y, cut_in_x = columns_covered & meet_in_y, rows_covered & meet_in_x
  smaller = tf.stack(
    [
      tf.where(cut_in_y & (top <= ymin), bottom, ymin),
      tf.where(cut_in_x & (left <= xmin), right, xmin),
      tf.where(cut_in_y & (bottom >= ymax), top, ymax),
      tf.where(cut_in_x & (right >= xmax), left, xmax),
    ],
    axis=1,
  )
  # With min_visible = 0 nothing may be left of one.
  return drop_slivers(smaller, classes)


def mixup(view: View, other: View, seed: tf.Tensor) -> View:
  """Blends two views, about half and half, and takes the boxes of both.

  Args:
    view: the one.
    other: the other one; the smaller is on grey.
    seed: int64 [2], decides the weights.
  """
  draws = tf.random.stateless_gamma([2], seed, alpha=_MIXUP_BETA)
  weight = draws[0] / tf.reduce_sum(draws)
  sizes = [tf.cast(tf.shape(each.image)[:2], tf.float32) for each in (view, other)]
  size = tf.maximum(*sizes)
  one, two = (_on_grey(each.image, tf.zeros([2]), size) for each in (view, other))
  return View(
    weight * one + (1 - weight) * two,
    tf.concat([view.boxes, other.boxes], axis=0),
    tf.concat([view.classes, other.classes], axis=0),
  )
