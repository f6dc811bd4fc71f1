"""Feature maps resampled to other levels (section 3.1: merging cell)."""

from collections.abc import Callable

import tensorflow as tf


class Candidate:
  """One candidate feature layer of a pyramid: a map, and what cells derive from it.

  Several cells may ask for the same candidate at the same level; each derived map is computed once.
  """

  def __init__(self, level: int, features: tf.Tensor):
    """Wraps a feature map.

    Args:
      level: its level; its stride is 2^level.
      features: [batch, height, width, channels].
    """
    self.level = level
    self.features = features
    self._at_level = {level: features}
    self._global_max: tf.Tensor | None = None

  def at_level(self, level: int) -> tf.Tensor:
    """Returns the map resampled to `level`: nearest upsampling, or max pooling without overlap."""
    if level not in self._at_level:
      if level < self.level:
        resampled = upsample(self.features, 2 ** (self.level - level))
      else:
        resampled = max_pool(self.features, 2 ** (level - self.level))
      self._at_level[level] = resampled
    return self._at_level[level]

  def global_max(self) -> tf.Tensor:
    """Returns the largest value of each channel, [batch, 1, 1, channels]."""
    # Resampling by nearest neighbour or by max pooling does not change the maximum, so it is taken
    # from the map as it came, which is smaller than the one upsampled for a cell.
    if self._global_max is None:
      self._global_max = global_max(self.features)
    return self._global_max


@tf.custom_gradient
def global_max(
  features: tf.Tensor,
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
  """Returns the largest value of each channel, [batch, 1, 1, channels]."""

  # TensorFlow's own gradient divides by the number of values that equal the maximum. XLA computes
  # the values a second time, rounds otherwise, finds none and makes NaN of it. It is slower, too.
  def gradient(upstream: tf.Tensor) -> tf.Tensor:
    shape = tf.shape(features)
    values = tf.reshape(features, [shape[0], shape[1] * shape[2], shape[3]])
    largest = tf.argmax(values, axis=1, output_type=tf.int32)
    is_largest = tf.range(tf.shape(values)[1])[:, tf.newaxis] == largest[:, tf.newaxis]
    return tf.reshape(tf.cast(is_largest, upstream.dtype), shape) * upstream

  return tf.reduce_max(features, axis=[1, 2], keepdims=True), gradient


def max_pool(features: tf.Tensor, stride: int) -> tf.Tensor:
  """Returns maxima over windows of `stride` x `stride` that do not overlap."""
  return tf.nn.max_pool2d(features, ksize=stride, strides=stride, padding="SAME")


def upsample(features: tf.Tensor, factor: int) -> tf.Tensor:
  """Returns the map with every value repeated `factor` times in height and in width."""

  # Model Garden's `nearest_upsampling` tiles in six dimensions: forward and backward together took
  # 3 to 5 times as long on a CPU, and mobile runtimes do not take six dimensions. The gradient is
  # spelt out because XLA has none for this operation.
  @tf.custom_gradient
  def repeat(features: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    def gradient(upstream: tf.Tensor) -> tf.Tensor:
      mean = tf.nn.avg_pool2d(upstream, ksize=factor, strides=factor, padding="VALID")
      return mean * factor**2

    height, width = features.shape[1:3]
    if height is None or width is None:
      size = tf.shape(features)[1:3] * factor
    else:
      size = [height * factor, width * factor]
    return tf.raw_ops.ResizeNearestNeighbor(images=features, size=size), gradient

  return repeat(features)
