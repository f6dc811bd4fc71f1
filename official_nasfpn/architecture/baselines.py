"""Pyramids that the cell vocabulary cannot say: what searched ones are compared with."""

from official_nasfpn.configuration import configurable, settings


@configurable("Fpn")
@settings
class Fpn:
  """The original FPN (Lin et al., CVPR 2017) as RetinaNet has it.

  Every level has a 1x1 lateral convolution, the levels are added from the top down, and a 3x3
  convolution makes each output. Levels that the backbone does not give are made by strided 3x3
  convolutions. Stacked, each repeat does the same on the outputs of the one before, which gives it
  laterals on all levels: the baseline of Figure 8a.

  Attributes:
    min_level: the lowest level.
    max_level: the highest level.
  """

  min_level: int = 3
  max_level: int = 7

  def __post_init__(self):
    if not 0 <= self.min_level < self.max_level:
      raise ValueError(
        f"an FPN needs 0 <= min_level < max_level, got min_level {self.min_level} and max_level "
        f"{self.max_level}"
      )
