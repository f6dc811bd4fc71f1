"""Random brightness, contrast and saturation, in one pass over the pixels."""

import tensorflow as tf

# As `tf.image.rgb_to_grayscale`.
_LUMA = (0.2989, 0.5870, 0.1140)


def jitter_colors(image: tf.Tensor, strength: float, seed: tf.Tensor) -> tf.Tensor:
  """Multiplies brightness, contrast and saturation by three factors around 1.

  What `preprocess_ops.color_jitter` of Model Garden does, which draws from stateful generators and
  takes a pass, and a rounding to 8 bits, for each of the three.

  Args:
    image: float32 [h, w, 3] of values 0 to 255.
    strength: the factors are drawn from [1 - strength, 1 + strength].
    seed: int64 [2], decides the factors.
  """
  factors = 1 + strength * (2 * tf.random.stateless_uniform([3], seed) - 1)
  return change_colors(image, *tf.unstack(factors))


def change_colors(
  image: tf.Tensor, brightness: tf.Tensor, contrast: tf.Tensor, saturation: tf.Tensor
) -> tf.Tensor:
  """Returns the image with brightness, contrast and saturation multiplied, in this order.

  Contrast is around the mean of each channel, saturation around the pixel's grey, as in
  `tf.image.adjust_contrast` and Pillow's `Color`.

  Args:
    image: float32 [h, w, 3] of values 0 to 255, as is what is returned.
    brightness: factor, scalar.
    contrast: factor, scalar.
    saturation: factor, scalar.
  """
  shape = tf.shape(image)
  pixels = tf.reshape(image, [-1, 3])
  # Grey pixels stay as they are, whatever the saturation.
  grey = tf.tile(tf.constant(_LUMA)[:, tf.newaxis], [1, 3])
  colors = saturation * tf.eye(3) + (1 - saturation) * grey
  mean = tf.reduce_mean(pixels, axis=0, keepdims=True)
  shift = tf.matmul(brightness * (1 - contrast) * mean, colors)
  mixed = tf.matmul(pixels, brightness * contrast * colors)
  # Row by row, as in `preprocessing.normalize`.
  rows = tf.reshape(mixed, [shape[0], shape[1] * 3]) + tf.tile(shift[0], [shape[1]])
  return tf.reshape(tf.clip_by_value(rows, 0.0, 255.0), shape)
