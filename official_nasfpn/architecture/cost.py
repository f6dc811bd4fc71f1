"""What one pyramid costs, in closed form. A detector stacks `num_repeats` of them."""

from official_nasfpn.architecture.spec import PyramidSpec


def pyramid_parameters(spec: PyramidSpec, num_filters: int, separable: bool = False) -> int:
  """Returns the number of trainable parameters of one pyramid.

  Each cell has a 3x3 convolution with bias, 9F^2 + F, or a depthwise separable one, 9F + F^2 + F,
  and the scale and offset of a batch norm, 2F. Merging and resampling have none.

  Args:
    spec: the pyramid.
    num_filters: the number of filters F of every feature layer.
    separable: whether the convolutions are depthwise separable, as in NAS-FPNLite.
  """
  return spec.num_cells * (_kernel(num_filters, separable) + 3 * num_filters)


def pyramid_multiply_adds(
  spec: PyramidSpec, num_filters: int, image_size: tuple[int, int], separable: bool = False
) -> int:
  """Returns the number of multiply-adds of one pyramid on one image.

  Those of the cells' convolutions are counted: merging, resampling and batch norm need about
  2 operations per value, the convolutions 9 F. What the paper calls FLOPs is twice this number.

  Args:
    spec: the pyramid.
    num_filters: the number of filters of every feature layer.
    image_size: height and width of the image in pixels.
    separable: whether the convolutions are depthwise separable, as in NAS-FPNLite.
  """
  # Sides that are no multiple of the stride are rounded up, as strided 'same' convolutions do.
  positions: int = sum(
    -(-image_size[0] // 2**cell.level) * -(-image_size[1] // 2**cell.level) for cell in spec.cells
  )
  return positions * _kernel(num_filters, separable)


def _kernel(num_filters: int, separable: bool) -> int:
  """Returns the weights of a 3x3 convolution, without bias; each is used once per position."""
  return (9 + num_filters) * num_filters if separable else 9 * num_filters**2
