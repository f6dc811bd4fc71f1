"""Parameters and multiply-adds of a detector, part by part, in closed form.

Nothing is built, so a table of models takes no time. The paper's "FLOPs" are twice the
multiply-adds that are counted here. `modeling/model_size.py` counts the same in a built detector,
and the tests hold both equal.
"""

from collections.abc import Mapping

from official_nasfpn.architecture import (
  Fpn,
  PyramidSpec,
  Ssdlite,
  pyramid_multiply_adds,
  pyramid_parameters,
)
from official_nasfpn.modeling.backbone_size import backbone_size
from official_nasfpn.modeling.backbones import EXPANDED_C4
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.layer_sizes import LayerCounter, MapShape, Size, convolution_size
from official_nasfpn.modeling.ssdlite_levels import EXTRA_CHANNELS, LAST_CHANNELS

_Maps = Mapping[str, MapShape]


def detector_size(config: DetectorConfig, num_classes: int) -> dict[str, Size]:
  """Returns what a detector costs.

  Args:
    config: what it is made of.
    num_classes: object classes, without a background class.

  Returns:
    The size of each part under `backbone`, `lateral_projections`, `pyramid` and `heads`; of an
    anytime detector that of all exits together.
  """
  backbone, maps = backbone_size(config.backbone, config.image_size, config.backbone_width)
  spec = config.architecture
  laterals = Size()
  if isinstance(spec, Ssdlite):
    pyramid, maps = _ssdlite(maps)
    return {
      "backbone": backbone,
      "lateral_projections": laterals,
      "pyramid": pyramid,
      "heads": _heads_of_ssdlite(spec, maps, num_classes),
    }
  maps = {level: map for level, map in maps.items() if level.isdigit()}
  if isinstance(spec, Fpn):
    pyramid, maps = _stacked_fpn(config, spec, maps)
  else:
    laterals, maps = _laterals(config, spec, maps)
    pyramid = _stacked_cells(config, spec)
  return {
    "backbone": backbone,
    "lateral_projections": laterals,
    "pyramid": pyramid,
    "heads": _heads(config, maps, num_classes),
  }


def total_size(config: DetectorConfig, num_classes: int) -> Size:
  """Returns the size of all parts together."""
  return sum(detector_size(config, num_classes).values(), Size())


def _laterals(config: DetectorConfig, spec: PyramidSpec, given: _Maps) -> tuple[Size, _Maps]:
  """Counts what brings the backbone's maps to the pyramid's width, and makes those above them."""
  counter = LayerCounter()
  width = config.num_filters
  maps = {}
  for level in map(str, spec.levels):
    if level in given:
      below = given[level]
      maps[level] = below.after(1, width)
      if below.channels != width:
        counter.convolution(below, width, 1, bias=True)
    elif config.top_levels == "convolution":
      below = maps[level] = counter.convolution(below, width, 3, 2, bias=True)
    else:
      maps[level] = maps[str(int(level) - 1)].after(2)
  return counter.size, maps


def _stacked_cells(config: DetectorConfig, spec: PyramidSpec) -> Size:
  width, separable = config.num_filters, config.separable_convolutions
  return Size(
    config.num_repeats * pyramid_parameters(spec, width, separable),
    config.num_repeats * pyramid_multiply_adds(spec, width, config.image_size, separable),
  )


def _stacked_fpn(config: DetectorConfig, spec: Fpn, maps: _Maps) -> tuple[Size, _Maps]:
  counter = LayerCounter()
  width = config.num_filters
  kind = {"bias": True, "separable": config.separable_convolutions}
  levels = [str(level) for level in range(spec.min_level, spec.max_level + 1)]
  for _ in range(config.num_repeats):
    outputs = {}
    for level in levels:
      if level in maps:
        lateral = counter.convolution(maps[level], width, 1, norm=False, **kind)
        below = counter.convolution(lateral, width, 3, **kind)
      else:
        below = counter.convolution(below, width, 3, 2, **kind)
      outputs[level] = below
    maps = outputs
  return counter.size, maps


def _ssdlite(given: _Maps) -> tuple[Size, _Maps]:
  counter = LayerCounter()
  below = counter.convolution(given["5"], LAST_CHANNELS, 1)
  maps = {"4": given[EXPANDED_C4], "5": below}
  for level, channels in EXTRA_CHANNELS.items():
    below = counter.convolution(below, channels // 2, 1)
    below = counter.depthwise(below, 3, 2)
    below = maps[level] = counter.convolution(below, channels, 1)
  return counter.size, maps


def _heads_of_ssdlite(spec: Ssdlite, maps: _Maps, num_classes: int) -> Size:
  """Counts the predictions: every level has its own, straight from its map."""
  counter = LayerCounter()
  for level, features in maps.items():
    num_anchors = len(spec.anchors_of_level(int(level)))
    for outputs in (num_classes, 4):
      counter.convolution(features, num_anchors * outputs, bias=True, norm=False, separable=True)
  return counter.size


def _heads(config: DetectorConfig, maps: _Maps, num_classes: int) -> Size:
  """Counts the class and the box heads of all exits."""
  # A convolution is shared by the levels, a batch norm is not.
  positions = sum(features.positions for features in maps.values())
  width = config.head_num_filters or config.num_filters
  separable = config.separable_convolutions
  convolutions = Size()
  for outputs in (num_classes, 4):
    inputs = config.num_filters
    for _ in range(config.head_num_convs):
      convolutions += convolution_size(inputs, width, positions, separable=separable)
      inputs = width
    outputs *= config.num_anchors_per_location
    convolutions += convolution_size(inputs, outputs, positions, separable=separable)
  norms = 2 * config.head_num_convs * len(maps) * 2 * width
  copies = config.num_exits if config.exit_heads == "separate" else 1
  return Size(
    copies * convolutions.parameters + config.num_exits * norms,
    config.num_exits * convolutions.multiply_adds,
  )
