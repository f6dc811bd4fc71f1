"""What training sees of one image: flipped, scaled, cropped; and which boxes that leaves."""

from typing import NamedTuple

import tensorflow as tf
from official.vision.ops import box_ops, preprocess_ops

from official_nasfpn.data import preprocessing
from official_nasfpn.data.config import MIN_BOX_SIDE, InputConfig

# ImageNet's mean colour as one grey, where a view has no image: about zero after normalisation.
GREY = sum(preprocess_ops.MEAN_RGB) / 3
# A box that is whole must not be dropped for the rounding of its area.
_ROUNDING = 0.999
# A random crop has this share of the image's area and these ratios of width and height, as SSD's.
_CROP_AREA = (0.3, 1.0)
_CROP_RATIO = (0.5, 2.0)
_CROP_ATTEMPTS = 50


class Photo(NamedTuple):
  """A decoded image file.

  Attributes:
    image: uint8 [h, w, 3].
    boxes: float32 [n, 4], (ymin, xmin, ymax, xmax) relative to the image.
    classes: int32 [n], class indices.
  """

  image: tf.Tensor
  boxes: tf.Tensor
  classes: tf.Tensor


class View(NamedTuple):
  """What the network is to see of one or several images.

  Attributes:
    image: float32 [h, w, 3] of values 0 to 255, not larger than the network's input.
    boxes: float32 [n, 4], (ymin, xmin, ymax, xmax) in its pixels.
    classes: int32 [n], class indices.
  """

  image: tf.Tensor
  boxes: tf.Tensor
  classes: tf.Tensor


def plain_view(
  photo: Photo, config: InputConfig, image_size: tuple[int, int], seed: tf.Tensor
) -> View:
  """Returns an image flipped, scaled and cropped at random, as the paper's recipes have it.

  Args:
    photo: the image.
    config: `horizontal_flip`, `scale_min` and `scale_max`.
    image_size: height and width of the network's input.
    seed: int64 [2], decides all.
  """
  # Scale, two offsets and flip. Model Garden draws them from stateful generators with a fixed seed,
  # which replay one stream after every restart and on every host.
  scale, offset_y, offset_x, flip = tf.unstack(tf.random.stateless_uniform([4], seed))
  if config.horizontal_flip:
    photo = flipped(photo, flip)
  size = tf.constant(image_size, tf.float32)
  scale = config.scale_min + scale * (config.scale_max - config.scale_min)
  scaled_size = preprocessing.fitted_size(photo.image, tf.round(scale * size))
  offset = tf.floor(tf.maximum(scaled_size - size, 0.0) * tf.stack([offset_y, offset_x]))
  resized = tf.image.resize(photo.image, tf.cast(scaled_size, tf.int32))
  top, left = tf.unstack(tf.cast(offset, tf.int32))
  cropped = resized[top : top + image_size[0], left : left + image_size[1]]
  return View(cropped, *boxes_in_crop(photo.boxes, photo.classes, scaled_size, offset, size))


def flipped(photo: Photo, draw: tf.Tensor) -> Photo:
  """Returns the image mirrored, boxes included, if the draw is below a half."""
  image, boxes = tf.cond(
    draw < 0.5,
    lambda: (
      preprocess_ops.horizontal_flip_image(photo.image),
      preprocess_ops.horizontal_flip_boxes(photo.boxes),
    ),
    lambda: (photo.image, photo.boxes),
  )
  return Photo(image, boxes, photo.classes)


def random_crop(photo: Photo, min_visible: float, seed: tf.Tensor) -> Photo:
  """Returns a random part of the image that has at least one of its objects whole.

  The crops of Model Garden (`random_crop`, `SSDRandomCrop`) draw from stateful generators: the same
  seed gives other crops when images are parsed in parallel.

  Args:
    photo: the image. One without boxes is cropped anywhere.
    min_visible: boxes of which the part has a smaller share are dropped.
    seed: int64 [2], decides all.
  """
  has_boxes = tf.shape(photo.boxes)[0] > 0
  begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
    tf.shape(photo.image),
    tf.clip_by_value(photo.boxes, 0.0, 1.0)[tf.newaxis],
    seed,
    min_object_covered=tf.where(has_boxes, 1.0, 0.0),
    aspect_ratio_range=_CROP_RATIO,
    area_range=_CROP_AREA,
    # If none of them will do, the whole image is taken.
    max_attempts=_CROP_ATTEMPTS,
    use_image_if_no_bounding_boxes=True,
  )
  image = tf.slice(photo.image, begin, extent)
  whole = tf.cast(tf.shape(photo.image)[:2], tf.float32)
  part = tf.cast(tf.shape(image)[:2], tf.float32)
  offset = tf.cast(begin[:2], tf.float32)
  boxes, classes = boxes_in_crop(photo.boxes, photo.classes, whole, offset, part, min_visible)
  return Photo(image, boxes / tf.tile(part, [2]), classes)


def boxes_in_crop(
  boxes: tf.Tensor,
  classes: tf.Tensor,
  scaled_size: tf.Tensor,
  offset: tf.Tensor,
  crop_size: tf.Tensor,
  min_visible: float = 0.0,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Moves relative boxes to pixels of a crop of the scaled image; drops those outside.

  Args:
    boxes: float32 [n, 4], relative to the image.
    classes: int32 [n].
    scaled_size: float32 [2], height and width of the scaled image.
    offset: float32 [2], the crop's first row and column in it.
    crop_size: float32 [2].
    min_visible: boxes of which less than this share is in the crop are dropped, too.
  """
  cropped = preprocess_ops.resize_and_crop_boxes(boxes, scaled_size, crop_size, offset)
  return _visible(cropped, classes, areas(boxes) * tf.reduce_prod(scaled_size), min_visible)


def boxes_inside(
  boxes: tf.Tensor, classes: tf.Tensor, size: tf.Tensor, min_visible: float
) -> tuple[tf.Tensor, tf.Tensor]:
  """Clips boxes in pixels to an image; drops those of which less than `min_visible` is inside."""
  return _visible(box_ops.clip_boxes(boxes, size), classes, areas(boxes), min_visible)


def areas(boxes: tf.Tensor) -> tf.Tensor:
  """Returns the areas [n] of boxes [n, 4]."""
  return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _visible(
  boxes: tf.Tensor, classes: tf.Tensor, whole_areas: tf.Tensor, min_visible: float
) -> tuple[tf.Tensor, tf.Tensor]:
  if min_visible:
    visible = areas(boxes) >= _ROUNDING * min_visible * whole_areas
    boxes, classes = take(boxes, classes, visible)
  return drop_slivers(boxes, classes)


def drop_slivers(boxes: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Drops boxes in pixels with a side of less than a pixel."""
  sides = boxes[:, 2:] - boxes[:, :2]
  return take(boxes, classes, tf.reduce_all(sides >= MIN_BOX_SIDE, axis=-1))


def take(boxes: tf.Tensor, classes: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the boxes [n, 4] and classes [n] where the mask [n] is true."""
  # `tf.boolean_mask` makes four times as many operations, and tracing them takes longer than most.
  index = tf.where(mask)[:, 0]
  return tf.gather(boxes, index), tf.gather(classes, index)
