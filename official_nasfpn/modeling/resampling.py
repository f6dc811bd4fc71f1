"""Feature maps that come at one level and are wanted at others (section 3.1: merging cell)."""

import tensorflow as tf
from official.vision.ops import spatial_transform_ops


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
      self._at_level[level] = _resample(self.features, 2.0 ** (self.level - level))
    return self._at_level[level]

  def global_max(self) -> tf.Tensor:
    """Returns the largest value of each channel, [batch, 1, 1, channels]."""
    # Resampling by nearest neighbour or by max pooling does not change the maximum, so it is taken
    # from the map as it came, which is smaller than the one upsampled for a cell.
    if self._global_max is None:
      self._global_max = tf.reduce_max(self.features, axis=[1, 2], keepdims=True)
    return self._global_max


def max_pool(features: tf.Tensor, stride: int) -> tf.Tensor:
  """Returns maxima over windows of `stride` x `stride` that do not overlap."""
  return tf.nn.max_pool2d(features, ksize=stride, strides=stride, padding="SAME")


def _resample(features: tf.Tensor, scale: float) -> tf.Tensor:
  if scale > 1:
    return spatial_transform_ops.nearest_upsampling(features, int(scale))
  return max_pool(features, int(1 / scale))
