"""Turns a decoded image into the network's input; evaluation and serving share this code.

The result equals Model Garden's `normalize_image` followed by `resize_and_crop_image`. Here the
image is resized first: normalising commutes with it, and the network's input is usually smaller.
"""

import tensorflow as tf
from official.vision.ops import preprocess_ops


def resize_and_pad(image: tf.Tensor, image_size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
  """Fits an image into the network's input, keeping its aspect ratio, at the top left.

  Args:
    image: uint8 [h, w, 3], RGB; or a batch of images of one size, [batch, h, w, 3].
    image_size: height and width of the network's input in pixels.

  Returns:
    float32 [height, width, 3], or a batch of that, normalised with ImageNet's mean and deviation,
    zero where there is no image; and the float32 [2] height and width that an image takes in it.
  """
  scaled_size = fitted_size(image, tf.constant(image_size, tf.float32))
  resized = tf.image.resize(image, tf.cast(scaled_size, tf.int32))
  return pad(normalize(resized), image_size), scaled_size


def fit_pixels(image: tf.Tensor, image_size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
  """Fits an image as `resize_and_pad` does, but leaves normalising to the network.

  Args:
    image: uint8 [h, w, 3], RGB.
    image_size: height and width of the network's input in pixels.

  Returns:
    float32 [height, width, 3] of values 0 to 255, ImageNet's mean where there is no image, which
    normalises to zero; and the float32 [2] height and width that the image takes in it.
  """
  scaled_size = fitted_size(image, tf.constant(image_size, tf.float32))
  resized = tf.image.resize(image, tf.cast(scaled_size, tf.int32))
  mean = tf.constant(preprocess_ops.MEAN_RGB)
  return pad(resized - mean, image_size) + mean, scaled_size


def fitted_size(image: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
  """Returns the largest size of the image's aspect ratio within a box.

  Args:
    image: [..., h, w, 3].
    box: float32 [2], height and width.

  Returns:
    float32 [2], whole numbers of pixels, at least one.
  """
  original_size = tf.cast(tf.shape(image)[-3:-1], tf.float32)
  scale = tf.reduce_min(box / original_size)
  return tf.maximum(tf.round(original_size * scale), 1.0)


def normalize(image: tf.Tensor) -> tf.Tensor:
  """Returns images [..., h, w, 3] of values 0 to 255 with ImageNet's mean 0 and deviation 1."""
  shape = tf.shape(image)
  # Row by row: broadcasting along the three channels, as Model Garden does, is 6 times slower.
  rows = tf.reshape(image, [-1, shape[-2] * 3])
  mean = tf.tile(tf.constant(preprocess_ops.MEAN_RGB), [shape[-2]])
  deviation = tf.tile(tf.constant(preprocess_ops.STDDEV_RGB), [shape[-2]])
  return tf.reshape((rows - mean) / deviation, shape)


def pad(image: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
  """Returns images with zeros below and to their right, of static shape [..., height, width, 3]."""
  height, width = image_size
  shape = tf.shape(image)
  batch = image.shape[:-3]
  padding = [[0, height - shape[-3]], [0, width - shape[-2]], [0, 0]]
  padded = tf.pad(image, [[0, 0]] * batch.rank + padding)
  return tf.ensure_shape(padded, [*batch, height, width, 3])
