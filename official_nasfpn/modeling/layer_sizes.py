"""What layers cost, in closed form: parameters and multiply-adds, with nothing built."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Size:
  """What a part of a network costs.

  Attributes:
    parameters: trainable numbers.
    multiply_adds: multiplications of its convolutions for one image; additions of biases, batch
      norms, activations, merging and resampling are not counted.
  """

  parameters: int = 0
  multiply_adds: int = 0

  def __add__(self, other: Size) -> Size:
    return Size(self.parameters + other.parameters, self.multiply_adds + other.multiply_adds)


@dataclasses.dataclass(frozen=True)
class MapShape:
  """The shape of a feature map, or of an image.

  Attributes:
    height: in pixels.
    width: in pixels.
    channels: values at each pixel.
  """

  height: int
  width: int
  channels: int

  @property
  def positions(self) -> int:
    return self.height * self.width

  def after(self, stride: int | tuple[int, int], channels: int | None = None) -> MapShape:
    """Returns the shape of the output of a layer with this stride; sides are rounded up."""
    vertical, horizontal = _pair(stride)
    return MapShape(
      -(-self.height // vertical), -(-self.width // horizontal), channels or self.channels
    )


class LayerCounter:
  """Adds up the layers of a network, map by map.

  Every method takes the shape of a map and returns that of the layer's output.

  Attributes:
    size: the size of all layers so far.
  """

  def __init__(self) -> None:
    self.size = Size()

  def convolution(
    self,
    features: MapShape,
    channels: int,
    kernel: int | tuple[int, int] = 3,
    stride: int | tuple[int, int] = 1,
    *,
    bias: bool = False,
    norm: bool = True,
    separable: bool = False,
  ) -> MapShape:
    """Counts a convolution with 'same' padding, and the batch norm behind it.

    Args:
      features: its input.
      channels: of its output.
      kernel: side of the kernel, or its height and width.
      stride: in both directions, or the vertical and the horizontal one.
      bias: whether it has one.
      norm: whether a batch norm follows.
      separable: whether it is a depthwise separable one.
    """
    output = features.after(stride, channels)
    self.size += convolution_size(
      features.channels, channels, output.positions, kernel, bias=bias, separable=separable
    )
    return self.norm(output) if norm else output

  def depthwise(self, features: MapShape, kernel: int = 3, stride: int = 1) -> MapShape:
    """Counts a depthwise convolution without bias, and the batch norm behind it."""
    output = features.after(stride)
    weights = kernel**2 * features.channels
    self.size += Size(weights, weights * output.positions)
    return self.norm(output)

  def norm(self, features: MapShape) -> MapShape:
    """Counts a batch norm: a scale and an offset for each channel."""
    self.size += Size(2 * features.channels)
    return features


def convolution_size(
  inputs: int,
  outputs: int,
  positions: int,
  kernel: int | tuple[int, int] = 3,
  *,
  bias: bool = True,
  separable: bool = False,
) -> Size:
  """Returns the size of a convolution.

  Args:
    inputs: channels of its input.
    outputs: channels of its output.
    positions: the number of positions it is computed at, in all maps that share it.
    kernel: side of the kernel, or its height and width.
    bias: whether it has one.
    separable: whether it is a depthwise separable one.
  """
  height, width = _pair(kernel)
  weights = height * width * inputs * (1 if separable else outputs)
  weights += inputs * outputs if separable else 0
  return Size(weights + outputs * bias, weights * positions)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
  return value if isinstance(value, tuple) else (value, value)
