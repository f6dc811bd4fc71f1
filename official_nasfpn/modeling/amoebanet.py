"""AmoebaNet-D as a detector's backbone, from the cells that evolution found (Real et al. 2019)."""

import functools
from collections.abc import Callable

import tensorflow as tf
import tf_keras

from official_nasfpn.modeling.amoebanet_cells import (
  NORMAL_CELL,
  NORMAL_CELLS_PER_STAGE,
  NUM_FILTERS,
  NUM_STEM_FILTERS,
  REDUCTION_CELL,
  Cell,
)


def build_amoebanet(
  image_size: tuple[int, int], width: float, norm: Callable[[], tf_keras.layers.Layer]
) -> tf_keras.Model:
  """Builds the trunk of AmoebaNet-D, 98.86 M parameters at width 1.

  Args:
    image_size: height and width of its input, in pixels, multiples of 32.
    width: channels of every layer, relative to the published network.
    norm: makes a batch norm.

  Returns:
    A functional model from float32 images [batch, height, width, 3] to {"3": C3, "4": C4, "5": C5}
    of 1024, 2048 and 4096 channels: the last normal cell of each stage.
  """
  filters = round(NUM_FILTERS * width)
  image = tf_keras.Input([*image_size, 3])
  stem = norm()(_conv(round(NUM_STEM_FILTERS * width), 3, 2)(image))
  states = [None, stem]
  for cell_filters in (filters // 4, filters // 2):
    states.append(_cell(REDUCTION_CELL, states[-1], states[-2], cell_filters, 2, norm))
  outputs = {}
  for level in (3, 4, 5):
    if level > 3:
      filters *= 2
      states.append(_cell(REDUCTION_CELL, states[-1], states[-2], filters, 2, norm))
    for _ in range(NORMAL_CELLS_PER_STAGE):
      states.append(_cell(NORMAL_CELL, states[-1], states[-2], filters, 1, norm))
    outputs[str(level)] = states[-1]
  return tf_keras.Model(image, outputs, name="backbone")


def _cell(
  cell: Cell,
  current: tf.Tensor,
  previous: tf.Tensor | None,
  filters: int,
  stride: int,
  norm: Callable[[], tf_keras.layers.Layer],
) -> tf.Tensor:
  if previous is None:
    previous = current
  elif previous.shape[1:3] != current.shape[1:3]:
    previous = _factorized_reduction(previous, filters, norm)
  elif previous.shape[-1] != filters:
    previous = _relu_conv_norm(previous, filters, 1, 1, norm)
  states = [_relu_conv_norm(current, filters, 1, 1, norm), previous]
  for pair in cell.sums:
    # The sums within a reduction cell have its resolution already.
    terms = [
      OPS[op](states[index], filters, stride if index < 2 else 1, norm) for index, op in pair
    ]
    states.append(tf_keras.layers.Add()(terms))
  return tf_keras.layers.Concatenate()([states[index] for index in cell.outputs])


def _conv(filters: int, kernel: int | tuple[int, int], stride: int | tuple[int, int]):
  return tf_keras.layers.Conv2D(
    filters,
    kernel,
    stride,
    padding="same",
    use_bias=False,
    kernel_initializer=tf_keras.initializers.VarianceScaling(scale=2.0, mode="fan_out"),
  )


def _relu_conv_norm(features, filters, kernel, stride, norm):
  return norm()(_conv(filters, kernel, stride)(tf_keras.layers.ReLU()(features)))


def _factorized_reduction(features, filters, norm):
  """Halves the resolution: half of the channels from even, half from odd rows and columns."""
  features = tf_keras.layers.ReLU()(features)
  shifted = tf_keras.layers.ZeroPadding2D(((0, 1), (0, 1)))(features)
  shifted = tf_keras.layers.Cropping2D(((1, 0), (1, 0)))(shifted)
  # A strided 1x1 convolution reads every second pixel of every second row.
  halves = [_conv(filters // 2, 1, 2)(features), _conv(filters - filters // 2, 1, 2)(shifted)]
  return norm()(tf_keras.layers.Concatenate()(halves))


def _identity(features, filters, stride, norm):
  if stride == 1 and features.shape[-1] == filters:
    return features
  return _pointwise(features, filters, stride, norm)


def _pointwise(features, filters, stride, norm):
  return _relu_conv_norm(features, filters, 1, stride, norm)


def _bottlenecked(kernels, features, filters, stride, norm):
  """Convolves a quarter of the channels; with several kernels, each strides along its own axis."""
  features = _relu_conv_norm(features, filters // 4, 1, 1, norm)
  for kernel in kernels:
    strides = tuple(stride if side > 1 else 1 for side in kernel)
    features = _relu_conv_norm(features, filters // 4, kernel, strides, norm)
  return _relu_conv_norm(features, filters, 1, 1, norm)


def _pooled(pooling, size, features, filters, stride, norm):
  features = pooling(size, stride, padding="same")(features)
  if features.shape[-1] == filters:
    return features
  return norm()(_conv(filters, 1, 1)(features))


OPS: dict[str, Callable[..., tf.Tensor]] = {
  "identity": _identity,
  "1x1": _pointwise,
  "3x3": functools.partial(_bottlenecked, ((3, 3),)),
  "1x7_7x1": functools.partial(_bottlenecked, ((1, 7), (7, 1))),
  "max_2x2": functools.partial(_pooled, tf_keras.layers.MaxPooling2D, 2),
  "max_3x3": functools.partial(_pooled, tf_keras.layers.MaxPooling2D, 3),
  "avg_3x3": functools.partial(_pooled, tf_keras.layers.AveragePooling2D, 3),
}
