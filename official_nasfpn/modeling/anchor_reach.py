"""Which boxes the anchors of a detector reach; needs no TensorFlow and makes no anchors.

Of all anchors of one shape on one level the nearest has the highest IoU with a box: along either
axis the overlap of two intervals can only shrink as their centres part. So a box is compared with
one anchor of every shape and level, 45 of them in RetinaNet, where `anchors.py` has ten thousands.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from official_nasfpn.errors import UserError
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.pyramids import pyramid_kind


@dataclasses.dataclass(frozen=True)
class LevelAnchors:
  """The anchors of one level: the same shapes at every cell of a grid.

  Attributes:
    level: the level.
    grid: cells along height and width.
    stride: height and width of a cell in pixels of the network's input; an anchor is centred in it.
    sides: float64 [shapes, 2], height and width of the anchors in pixels.
  """

  level: int
  grid: tuple[int, int]
  stride: tuple[float, float]
  sides: np.ndarray


class BestMatches(NamedTuple):
  """The anchors with the highest IoU.

  Attributes:
    iou: float64 [boxes], in [0, 1].
    level: int64 [boxes], the level of that anchor; of equal ones the lowest.
  """

  iou: np.ndarray
  level: np.ndarray


def level_anchors(config: DetectorConfig) -> tuple[LevelAnchors, ...]:
  """Returns the anchors of every level, those of `anchors.anchor_boxes`, the lowest level first.

  Raises:
    UserError: `Detector.anchor_size` is 'auto', and the data that it is chosen by is not there.
  """
  spec = config.architecture
  own_anchors = pyramid_kind(spec).level_anchors
  levels = []
  for level in spec.levels:
    if own_anchors:
      areas = [(scale * min(config.image_size), ratio) for scale, ratio in own_anchors(spec, level)]
    else:
      base = settled_anchor_size(config) * 2**level
      areas = [
        (base * 2 ** (octave / config.num_scales), ratio)
        for octave in range(config.num_scales)
        for ratio in config.aspect_ratios
      ]
    height, width = config.image_size
    grid = (math.ceil(height / 2**level), math.ceil(width / 2**level))
    levels.append(
      LevelAnchors(
        level,
        grid,
        (height / grid[0], width / grid[1]),
        np.array([(side * ratio**-0.5, side * ratio**0.5) for side, ratio in areas]),
      )
    )
  return tuple(levels)


def settled_anchor_size(config: DetectorConfig) -> float:
  """Returns `Detector.anchor_size` as a number.

  Raises:
    UserError: it is 'auto'.
  """
  if isinstance(config.anchor_size, str):
    raise UserError(
      f"Detector.anchor_size = {config.anchor_size!r} becomes a number when data is opened, and "
      "there is none here. Give a number."
    )
  return config.anchor_size


def best_matches(levels: tuple[LevelAnchors, ...], boxes: np.ndarray) -> BestMatches:
  """Finds the anchor that fits each box best.

  Args:
    levels: the anchors, from `level_anchors`.
    boxes: float [boxes, 4], corners (ymin, xmin, ymax, xmax) in pixels of the network's input.
  """
  highest = np.stack([_highest_iou(anchors, boxes) for anchors in levels], axis=1)
  numbers = np.array([anchors.level for anchors in levels])
  return BestMatches(highest.max(axis=1), numbers[highest.argmax(axis=1)])


def _highest_iou(anchors: LevelAnchors, boxes: np.ndarray) -> np.ndarray:
  """Returns the highest IoU of each box with an anchor of a level, float64 [boxes]."""
  boxes = np.asarray(boxes, np.float64)
  intersection = 1.0
  for axis in (0, 1):
    low, high = boxes[:, axis], boxes[:, axis + 2]
    stride, cells = anchors.stride[axis], anchors.grid[axis]
    # The cell that holds the centre of the box has the nearest centre.
    cell = np.clip(np.floor((low + high) / 2 / stride), 0, cells - 1)
    center = ((cell + 0.5) * stride)[:, np.newaxis]
    half = anchors.sides[:, axis] / 2
    overlap = np.minimum(high[:, np.newaxis], center + half)
    overlap -= np.maximum(low[:, np.newaxis], center - half)
    intersection = intersection * np.maximum(overlap, 0.0)
  areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
  union = areas[:, np.newaxis] + anchors.sides.prod(axis=1) - intersection
  return (intersection / union).max(axis=1)
