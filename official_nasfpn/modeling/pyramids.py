"""The kinds of pyramid that a detector can have.

A new kind is a dataclass in `architecture/baselines.py`, a layer, a function that counts it in
`modeling/pyramid_size.py`, and one entry in `PYRAMIDS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from official_nasfpn.architecture import Fpn, PyramidSpec, Ssdlite
from official_nasfpn.modeling.backbones import LEVELS
from official_nasfpn.modeling.pyramid_size import PyramidSize, cells_size, fpn_size, ssdlite_size

if TYPE_CHECKING:  # Recipes are checked against the table without TensorFlow.
  from official_nasfpn.modeling.config import DetectorConfig
  from official_nasfpn.modeling.layer_sizes import MapShape
  from official_nasfpn.modeling.pyramid_stack import PyramidLayer


@dataclasses.dataclass(frozen=True)
class PyramidKind:
  """What a detector has to know about one kind of pyramid.

  Attributes:
    check: raises a ValueError if a detector with these settings cannot have such a pyramid.
    build: makes the layer, named `pyramid`.
    size: counts the layer, given the shapes of the backbone's maps by level.
    drops_blocks: whether DropBlock works on it.
    level_anchors: returns a level's own anchors, (side as a share of the image's shorter side,
      width over height) each; every level then has its own predictions, straight from its map. None
      if the anchors and heads are those of `Detector`, shared by all levels.
  """

  check: Callable[[DetectorConfig], None]
  build: Callable[[DetectorConfig], PyramidLayer]
  size: Callable[[DetectorConfig, Mapping[str, MapShape]], PyramidSize]
  drops_blocks: bool = True
  level_anchors: Callable[[Any, int], tuple[tuple[float, float], ...]] | None = None


def pyramid_kind(architecture: object) -> PyramidKind:
  """Returns the entry of `PYRAMIDS` for an architecture.

  Raises:
    ValueError: there is none.
  """
  kind = PYRAMIDS.get(type(architecture))
  if kind is None:
    names = ", ".join(known.__name__ for known in PYRAMIDS)
    raise ValueError(
      f"a detector cannot have a pyramid of type {type(architecture).__name__}; there are {names}."
    )
  return kind


def build_pyramid(config: DetectorConfig, wired: bool = False) -> PyramidLayer:
  """Builds the pyramid of a detector.

  Args:
    config: describes the detector.
    wired: whether to build a `WiredPyramid`.

  Raises:
    ValueError: it is to be wired, and has no merging cells.
  """
  if not wired:
    return pyramid_kind(config.architecture).build(config)
  from official_nasfpn.modeling.wired_pyramid import WiredPyramid

  if not isinstance(config.architecture, PyramidSpec):
    raise ValueError(
      f"only merging cells can be wired, and {type(config.architecture).__name__} has none."
    )
  return WiredPyramid(**_stack_arguments(config), top_levels=config.top_levels)


def _build_cells(config: DetectorConfig) -> PyramidLayer:
  from official_nasfpn.modeling.feature_pyramid import FeaturePyramid

  return FeaturePyramid(**_stack_arguments(config), top_levels=config.top_levels)


def _build_fpn(config: DetectorConfig) -> PyramidLayer:
  from official_nasfpn.modeling.stacked_fpn import StackedFpn

  return StackedFpn(**_stack_arguments(config))


def _build_ssdlite(config: DetectorConfig) -> PyramidLayer:
  from official_nasfpn.modeling.ssdlite import SsdliteFeatures

  return SsdliteFeatures(config.architecture, config.norm, name="pyramid")


def _stack_arguments(config: DetectorConfig) -> dict[str, Any]:
  return {
    "spec": config.architecture,
    "num_filters": config.num_filters,
    "num_repeats": config.num_repeats,
    "separable": config.separable_convolutions,
    "norm": config.norm,
    "name": "pyramid",
  }


def _check_stack(config: DetectorConfig) -> None:
  lowest, highest = int(LEVELS[0]), int(LEVELS[-1])
  spec = config.architecture
  if not lowest <= spec.min_level <= highest:
    raise ValueError(
      f"the architecture begins at level {spec.min_level}, and backbones give "
      f"levels {lowest} to {highest}: its min_level must be one of these."
    )
  _check_image_size(config.image_size, spec.max_level)


def _check_ssdlite(config: DetectorConfig) -> None:
  if config.backbone not in ("MobileNetV2", "MobileNetV2-keras"):
    raise ValueError(
      f"an Ssdlite takes its level 4 from within a bottleneck of MobileNetV2; {config.backbone} "
      "has none. Set Detector.backbone = 'MobileNetV2'."
    )
  if config.num_repeats != 1:
    raise ValueError(
      f"an Ssdlite cannot be stacked: set Detector.num_repeats = 1, not {config.num_repeats}."
    )
  if config.anchor_size == "auto":
    raise ValueError(
      "an Ssdlite has anchors of its own, Ssdlite.min_scale and max_scale: leave "
      "Detector.anchor_size = 'auto' out."
    )
  _check_image_size(config.image_size, max_level=5)  # Sizes of higher levels are rounded up.


def _check_image_size(image_size: tuple[int, int], max_level: int) -> None:
  """Raises a ValueError unless both sides are multiples of 2^max_level.

  Other sizes would be rounded at each level, so maps of different levels would not align.
  """
  multiple = 2**max_level
  for side, name in zip(image_size, ("height", "width"), strict=True):
    if side % multiple or side <= 0:
      below = side // multiple * multiple
      nearest = [str(size) for size in (below, below + multiple) if size > 0]
      raise ValueError(
        f"image_size {tuple(image_size)}: {name} {side} is not a multiple of {multiple}, the "
        f"stride of level {max_level}. Nearest: {' and '.join(nearest)}."
      )


PYRAMIDS: dict[type, PyramidKind] = {
  PyramidSpec: PyramidKind(_check_stack, _build_cells, cells_size),
  Fpn: PyramidKind(_check_stack, _build_fpn, fpn_size),
  Ssdlite: PyramidKind(
    _check_ssdlite,
    _build_ssdlite,
    ssdlite_size,
    drops_blocks=False,
    level_anchors=Ssdlite.anchors_of_level,
  ),
}
