"""Parameters and multiply-adds of a detector, part by part, in closed form.

Nothing is built, so a table of models takes no time. The paper's "FLOPs" are twice the
multiply-adds that are counted here. `modeling/model_size.py` counts the same in a built detector,
and the tests compare both.
"""

from collections.abc import Mapping

from official_nasfpn.modeling.backbone_size import backbone_size
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.layer_sizes import LayerCounter, MapShape, Size, convolution_size
from official_nasfpn.modeling.pyramids import pyramid_kind


def detector_size(config: DetectorConfig, num_classes: int) -> dict[str, Size]:
  """Returns what a detector costs.

  Args:
    config: describes the detector.
    num_classes: object classes, without a background class.

  Returns:
    The size of each part under `backbone`, `lateral_projections`, `pyramid` and `heads`. The heads
    of an anytime detector are those of all exits together.
  """
  backbone, maps = backbone_size(config.backbone, config.image_size, config.backbone_width)
  kind = pyramid_kind(config.architecture)
  size = kind.size(config, maps)
  count_heads = _heads if kind.level_anchors is None else _heads_of_levels
  return {
    "backbone": backbone,
    "lateral_projections": size.laterals,
    "pyramid": size.pyramid,
    "heads": count_heads(config, size.maps, num_classes),
  }


def total_size(config: DetectorConfig, num_classes: int) -> Size:
  """Returns the size of all parts together."""
  return sum(detector_size(config, num_classes).values(), Size())


def _heads_of_levels(
  config: DetectorConfig, maps: Mapping[str, MapShape], num_classes: int
) -> Size:
  """Counts the predictions where every level has its own, straight from its map."""
  level_anchors = pyramid_kind(config.architecture).level_anchors
  counter = LayerCounter()
  for level, features in maps.items():
    num_anchors = len(level_anchors(config.architecture, int(level)))
    for outputs in (num_classes, 4):
      counter.convolution(features, num_anchors * outputs, bias=True, norm=False, separable=True)
  return counter.size


def _heads(config: DetectorConfig, maps: Mapping[str, MapShape], num_classes: int) -> Size:
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
