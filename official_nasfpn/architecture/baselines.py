"""Pyramids that merging cells cannot describe: what searched ones are compared with.

What a detector does with one is an entry in `modeling/pyramids.py`.
"""

import abc
from typing import Annotated

from pydantic import Field

from official_nasfpn.configuration import configurable, settings

_Share = Annotated[float, Field(gt=0, le=1)]


class Baseline(abc.ABC):
  """A pyramid without merging cells."""

  @property
  @abc.abstractmethod
  def min_level(self) -> int:
    """The lowest level."""

  @property
  @abc.abstractmethod
  def max_level(self) -> int:
    """The highest level."""

  @property
  def levels(self) -> tuple[int, ...]:
    """All levels, the lowest first."""
    return tuple(range(self.min_level, self.max_level + 1))


@configurable("Fpn")
@settings
class Fpn(Baseline):
  """The original FPN (Lin et al., CVPR 2017) as RetinaNet has it.

  Every level has a 1x1 lateral convolution, the levels are added from the top down, and a 3x3
  convolution makes each output. Levels above the backbone's are made by strided 3x3
  convolutions. Stacked, each repeat does the same on the outputs of the one before, which gives it
  laterals on all levels: the baseline of Figure 8a.

  Attributes:
    min_level: the lowest level.
    max_level: the highest level.
  """

  min_level: int = 3
  max_level: int = 7

  def __post_init__(self) -> None:
    if not 0 <= self.min_level < self.max_level:
      raise ValueError(
        f"an FPN needs 0 <= min_level < max_level, got min_level {self.min_level} and max_level "
        f"{self.max_level}"
      )


@configurable("Ssdlite")
@settings
class Ssdlite(Baseline):
  """SSDLite (Sandler et al., CVPR 2018): no pyramid, each level predicts from what lies below it.

  Levels 4 and 5 are MobileNetV2's; four further ones are made by inverted bottlenecks. It has
  anchors of its own (Liu et al. 2016, equation 4) instead of those that `Detector` sets.

  Attributes:
    min_scale: side of the square anchors of level 4, as a share of the image's side.
    max_scale: the same for the highest level; the levels between are spaced evenly.
  """

  min_scale: _Share = 0.2
  max_scale: _Share = 0.95

  def __post_init__(self) -> None:
    if self.min_scale >= self.max_scale:
      raise ValueError(
        f"min_scale {self.min_scale} must be less than max_scale {self.max_scale} in an Ssdlite"
      )

  @property
  def min_level(self) -> int:
    return 4

  @property
  def max_level(self) -> int:
    return 9

  def anchors_of_level(self, level: int) -> tuple[tuple[float, float], ...]:
    """Returns (side as a share of the image's, width over height) of a level's anchors."""
    scale = self._scale(level)
    if level == self.min_level:
      return (0.5 * self.min_scale, 1.0), (scale, 2.0), (scale, 0.5)
    between = (scale * (self._scale(level + 1) if level < self.max_level else 1.0)) ** 0.5
    return *((scale, ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 1 / 3)), (between, 1.0)

  def _scale(self, level: int) -> float:
    step = (self.max_scale - self.min_scale) / (self.max_level - self.min_level)
    return self.min_scale + (level - self.min_level) * step


# By the names that recipes and `describe` have for them.
BASELINES: dict[str, Baseline] = {"fpn": Fpn(), "ssdlite": Ssdlite()}
