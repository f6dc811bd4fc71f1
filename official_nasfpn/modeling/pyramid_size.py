"""What each kind of pyramid costs, layer by layer, with nothing built; and the maps that it gives.

`modeling/pyramids.py` has the table of kinds; a test compares each with the layer that it builds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from official_nasfpn.architecture import pyramid_multiply_adds, pyramid_parameters
from official_nasfpn.modeling.backbones import EXPANDED_C4
from official_nasfpn.modeling.layer_sizes import LayerCounter, MapShape, Size

if TYPE_CHECKING:
  from official_nasfpn.modeling.config import DetectorConfig

# Channels of SSDLite's maps. Level 5 has those of MobileNetV2's classifier, levels 6 to 9 those of
# the TF Object Detection API (ssd_mobilenet_v2_feature_extractor.py).
SSDLITE_LAST_CHANNELS = 1280
SSDLITE_EXTRA_CHANNELS = {"6": 512, "7": 256, "8": 256, "9": 128}


class PyramidSize(NamedTuple):
  """What a stack of pyramids costs.

  Attributes:
    laterals: the projections before the first repeat.
    pyramid: everything else.
    maps: the shapes of the final maps, by level.
  """

  laterals: Size
  pyramid: Size
  maps: Mapping[str, MapShape]


def cells_size(config: DetectorConfig, given: Mapping[str, MapShape]) -> PyramidSize:
  """Counts a stack of pyramids of merging cells.

  Args:
    config: describes the detector.
    given: the shapes of the backbone's maps, by level.
  """
  spec, width, separable = config.architecture, config.num_filters, config.separable_convolutions
  pyramid = Size(
    config.num_repeats * pyramid_parameters(spec, width, separable),
    config.num_repeats * pyramid_multiply_adds(spec, width, config.image_size, separable),
  )
  counter = LayerCounter()
  maps: dict[str, MapShape] = {}
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
  return PyramidSize(counter.size, pyramid, maps)


def fpn_size(config: DetectorConfig, given: Mapping[str, MapShape]) -> PyramidSize:
  """Counts a stack of FPNs; their laterals belong to the pyramid. Takes what `cells_size` takes."""
  counter = LayerCounter()
  width, separable = config.num_filters, config.separable_convolutions
  maps = given
  for _ in range(config.num_repeats):
    outputs = {}
    for level in map(str, config.architecture.levels):
      stride = 1
      if level in maps:
        below = counter.convolution(
          maps[level], width, 1, bias=True, norm=False, separable=separable
        )
      else:
        stride = 2
      below = counter.convolution(below, width, 3, stride, bias=True, separable=separable)
      outputs[level] = below
    maps = outputs
  return PyramidSize(Size(), counter.size, maps)


def ssdlite_size(config: DetectorConfig, given: Mapping[str, MapShape]) -> PyramidSize:
  """Counts the layers of SSDLite on top of MobileNetV2. Takes what `cells_size` takes."""
  del config  # The widths are fixed.
  counter = LayerCounter()
  below = counter.convolution(given["5"], SSDLITE_LAST_CHANNELS, 1)
  maps = {"4": given[EXPANDED_C4], "5": below}
  for level, channels in SSDLITE_EXTRA_CHANNELS.items():
    below = counter.convolution(below, channels // 2, 1)
    below = counter.depthwise(below, 3, 2)
    below = maps[level] = counter.convolution(below, channels, 1)
  return PyramidSize(Size(), counter.size, maps)
