"""What backbones cost, layer by layer, with nothing built; and the shapes of their maps.

`modeling/backbones.py` builds what is counted here; a test compares both.
"""

import functools
from collections.abc import Callable, Mapping

from official_nasfpn.modeling.amoebanet_cells import (
  NORMAL_CELL,
  NORMAL_CELLS_PER_STAGE,
  NUM_FILTERS,
  NUM_STEM_FILTERS,
  REDUCTION_CELL,
  Cell,
)
from official_nasfpn.modeling.backbone_layouts import (
  KERAS,
  MODEL_GARDEN,
  RESNET_FILTERS,
  RESNETS,
  TORCH,
  Layout,
)
from official_nasfpn.modeling.backbones import EXPANDED_C4
from official_nasfpn.modeling.layer_sizes import LayerCounter, MapShape, Size

# Stride, channels, expansion and, for the last of a level, the level of MobileNetV2's bottlenecks.
_MOBILENET = (
  (1, 16, 1, None),
  (2, 24, 6, None),
  (1, 24, 6, None),
  (2, 32, 6, None),
  (1, 32, 6, None),
  (1, 32, 6, "3"),
  (2, 64, 6, None),
  (1, 64, 6, None),
  (1, 64, 6, None),
  (1, 64, 6, None),
  (1, 96, 6, None),
  (1, 96, 6, None),
  (1, 96, 6, "4"),
  (2, 160, 6, None),
  (1, 160, 6, None),
  (1, 160, 6, None),
  (1, 320, 6, "5"),
)


def backbone_size(
  name: str, image_size: tuple[int, int], width: float = 1.0
) -> tuple[Size, dict[str, MapShape]]:
  """Returns what a backbone costs, and the shapes of its maps.

  Args:
    name: one of `BACKBONES`.
    image_size: height and width of its input, in pixels.
    width: channels of every layer, relative to the published network.

  Returns:
    Its size, and {"3": C3, "4": C4, "5": C5}; for MobileNetV2 also `EXPANDED_C4`.
  """
  counter = LayerCounter()
  maps = _BACKBONES[name](counter, MapShape(*image_size, 3), width)
  return counter.size, maps


def _resnet(
  depth: int, layout: Layout, counter: LayerCounter, image: MapShape, width: float
) -> dict[str, MapShape]:
  convolution = functools.partial(counter.convolution, bias=layout.convolutions_have_bias)
  features = convolution(image, int(64 * width), 7, 2).after(2)  # Max pooling.
  maps = {}
  blocks, bottlenecks = RESNETS[depth]
  for index, (filters, num_blocks) in enumerate(zip(RESNET_FILTERS, blocks, strict=True)):
    filters = int(filters * width)
    for block in range(num_blocks):
      stride = 2 if index and not block else 1
      inputs = features
      if bottlenecks:
        first, second = (stride, 1) if layout.stride_in_first else (1, stride)
        features = convolution(features, filters, 1, first)
        features = convolution(features, filters, 3, second)
        features = convolution(features, 4 * filters, 1)
      else:
        features = convolution(features, filters, 3, stride)
        features = convolution(features, filters, 3)
      if not block and (layout.always_projects or inputs != features):
        convolution(inputs, features.channels, 1, stride)
    maps[str(2 + index)] = features
  return {level: maps[level] for level in ("3", "4", "5")}


def _mobilenet(counter: LayerCounter, image: MapShape, width: float):
  features = counter.convolution(image, _divisible(32 * width), 3, 2)
  maps = {}
  for stride, channels, expansion, level in _MOBILENET:
    if expansion > 1:
      features = counter.convolution(features, _divisible(features.channels * expansion), 1)
    expanded = counter.depthwise(features, 3, stride)
    features = counter.convolution(expanded, _divisible(channels * width), 1)
    if level:
      maps[level] = features
    if level == "4":
      maps[EXPANDED_C4] = expanded
  return maps


def _divisible(channels: float) -> int:
  """Rounds to a multiple of 8, down by at most a tenth, as MobileNets do."""
  rounded = max(8, int(channels + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * channels else rounded


def _amoebanet(counter: LayerCounter, image: MapShape, width: float):
  filters = round(NUM_FILTERS * width)
  stem = counter.convolution(image, round(NUM_STEM_FILTERS * width), 3, 2)
  states = [None, stem]
  for cell_filters in (filters // 4, filters // 2):
    states.append(_cell(counter, REDUCTION_CELL, states[-1], states[-2], cell_filters, 2))
  maps = {}
  for level in ("3", "4", "5"):
    if level > "3":
      filters *= 2
      states.append(_cell(counter, REDUCTION_CELL, states[-1], states[-2], filters, 2))
    for _ in range(NORMAL_CELLS_PER_STAGE):
      states.append(_cell(counter, NORMAL_CELL, states[-1], states[-2], filters, 1))
    maps[level] = states[-1]
  return maps


def _cell(
  counter: LayerCounter,
  cell: Cell,
  current: MapShape,
  previous: MapShape | None,
  filters: int,
  stride: int,
) -> MapShape:
  if previous is None:
    previous = current
  elif (previous.height, previous.width) != (current.height, current.width):
    # Half of the channels from even, half from odd rows and columns.
    for half in (filters // 2, filters - filters // 2):
      counter.convolution(previous, half, 1, 2, norm=False)
    previous = counter.norm(previous.after(2, filters))
  elif previous.channels != filters:
    previous = counter.convolution(previous, filters, 1)
  states = [counter.convolution(current, filters, 1), previous]
  for pair in cell.sums:
    for index, op in pair:
      output = _op(counter, op, states[index], filters, stride if index < 2 else 1)
    states.append(output)
  outputs = [states[index] for index in cell.outputs]
  return outputs[0].after(1, sum(each.channels for each in outputs))


def _op(counter: LayerCounter, op: str, features: MapShape, filters: int, stride: int) -> MapShape:
  if op == "identity" and stride == 1 and features.channels == filters:
    return features
  if op in ("identity", "1x1"):
    return counter.convolution(features, filters, 1, stride)
  if op in ("3x3", "1x7_7x1"):
    features = counter.convolution(features, filters // 4, 1)
    for kernel in ((3, 3),) if op == "3x3" else ((1, 7), (7, 1)):
      strides = tuple(stride if side > 1 else 1 for side in kernel)
      features = counter.convolution(features, filters // 4, kernel, strides)
    return counter.convolution(features, filters, 1)
  pooled = features.after(stride)
  return pooled if pooled.channels == filters else counter.convolution(pooled, filters, 1)


_BACKBONES: Mapping[str, Callable[[LayerCounter, MapShape, float], dict[str, MapShape]]] = {
  **{f"R-{depth}": functools.partial(_resnet, depth, MODEL_GARDEN) for depth in RESNETS},
  **{f"R-{depth}-torch": functools.partial(_resnet, depth, TORCH) for depth in RESNETS},
  **{f"R-{depth}-keras": functools.partial(_resnet, depth, KERAS) for depth in RESNETS},
  "MobileNetV2": _mobilenet,
  "MobileNetV2-keras": _mobilenet,
  "AmoebaNet-D": _amoebanet,
}
