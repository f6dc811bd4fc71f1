"""How well a detector's anchors fit the boxes of a dataset, and the size that fits them best.

A box is *reached* if an anchor has an IoU of `Training.match_iou` or more with it. The others are
not lost, but each is learnt from one anchor alone, the best it has (`targets.assign_targets`), and
that one goes to the first of several boxes.

Training scales images at random, so boxes are looked at under several scales from
`Input.scale_min` to `Input.scale_max`; shares and medians are over all of them. Only the place that
an enlarged image is cropped to is not drawn: it is the middle.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from official_nasfpn.data.annotated_boxes import AnnotatedBoxes, read_boxes
from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.anchor_reach import best_matches, level_anchors
from official_nasfpn.modeling.config import DetectorConfig

# What `Detector.anchor_size = 'auto'` chooses from. Smaller anchors than one stride leave gaps.
SIZES = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)
# Shares that differ by less are equal; of equal sizes that nearest to RetinaNet's is taken.
_TIE = 0.005
_USUAL_SIZE = 4.0
# Whatever parts are trained on, so that a search and the training of what it has found agree.
PARTS = ("train", "holdout")
_NUM_SCALES = 5
# Of the 860,000 boxes of COCO these say the same, and a look at all would take minutes.
_MAX_BOXES, _MIN_PER_CLASS = 10_000, 50
# A class of which no more than this is out of reach is not worth a line.
_NOTED_SHARE = 0.1
_NOTED_CLASSES = 3


@dataclasses.dataclass(frozen=True)
class ClassFit:
  """How the anchors fit the boxes of one class.

  Attributes:
    name: of the class.
    num_boxes: boxes in the data.
    median_height: in pixels of the network's input, at scale 1.
    median_width: the same.
    reached: share of the boxes that an anchor reaches, in [0, 1].
    median_iou: of the boxes with their best anchors.
  """

  name: str
  num_boxes: int
  median_height: float
  median_width: float
  reached: float
  median_iou: float


@dataclasses.dataclass(frozen=True)
class AnchorFit:
  """How the anchors fit the boxes of every class that has any."""

  classes: tuple[ClassFit, ...]

  @property
  def reached(self) -> float:
    """Share of all boxes that an anchor reaches."""
    total = sum(row.num_boxes for row in self.classes)
    return sum(row.num_boxes * row.reached for row in self.classes) / total

  @property
  def mean_reached(self) -> float:
    """Mean of the classes' shares: like AP, it counts a rare class as much as any."""
    return sum(row.reached for row in self.classes) / len(self.classes)

  @property
  def worst(self) -> ClassFit:
    """The class with the lowest share."""
    return min(self.classes, key=lambda row: row.reached)


@dataclasses.dataclass(frozen=True)
class Setting:
  """What decides which boxes are reached, apart from the boxes.

  Attributes:
    detector: its anchors and its image size.
    data: the range of scales.
    match_iou: IoU from which a box is reached.
  """

  detector: DetectorConfig
  data: InputConfig
  match_iou: float

  def with_detector(self, **changes: Any) -> "Setting":
    """Returns the setting with other values of `Detector`."""
    return dataclasses.replace(self, detector=dataclasses.replace(self.detector, **changes))

  @property
  def scales(self) -> tuple[float, ...]:
    """The scales to look at: the middles of equal parts of the range that training draws from."""
    low, high = self.data.scale_min, self.data.scale_max
    if low == high:
      return (low,)
    return tuple(low + (high - low) * (part + 0.5) / _NUM_SCALES for part in range(_NUM_SCALES))


def boxes_of(dataset: DatasetInfo) -> AnnotatedBoxes:
  """Returns the boxes that anchors are fitted to, of a large dataset a sample.

  Raises:
    UserError: the annotations are damaged.
  """
  return read_boxes(dataset, PARTS).sample(_MAX_BOXES, _MIN_PER_CLASS)


def fit_anchors(setting: Setting, boxes: AnnotatedBoxes) -> AnchorFit:
  """Measures how the anchors of a detector fit some boxes.

  Args:
    setting: anchors, image size and scales; `Detector.anchor_size` is a number.
    boxes: at least one.
  """
  levels = level_anchors(setting.detector)
  draws = []
  for scale in setting.scales:
    scaled, visible = boxes.in_network(setting.detector.image_size, scale)
    iou = best_matches(levels, scaled[visible]).iou
    draws.append((boxes.classes[visible], iou))
  classes = np.concatenate([draw[0] for draw in draws])
  iou = np.concatenate([draw[1] for draw in draws])
  at_rest, _ = boxes.in_network(setting.detector.image_size)
  sides = at_rest[:, 2:] - at_rest[:, :2]
  rows = []
  for index, name in enumerate(boxes.class_names):
    if not (of_class := boxes.classes == index).any():
      continue
    # If scaling leaves nothing of any box, none is reached.
    found = iou[classes == index] if (classes == index).any() else np.zeros(1)
    height, width = np.median(sides[of_class], axis=0)
    rows.append(
      ClassFit(
        name,
        boxes.class_counts[index],
        float(height),
        float(width),
        float(np.mean(found >= setting.match_iou)),
        float(np.median(found)),
      )
    )
  return AnchorFit(tuple(rows))


def best_size(
  setting: Setting, boxes: AnnotatedBoxes, usual: float = _USUAL_SIZE
) -> tuple[float, AnchorFit]:
  """Chooses the size of anchors, `Detector.anchor_size`, that reaches most boxes.

  Args:
    setting: everything else that decides which boxes are reached.
    boxes: at least one.
    usual: of sizes whose mean share over the classes is the best one or less than half a point
      below it, that with the smallest ratio to this one is taken; of two, the smaller.

  Returns:
    The size, one of `SIZES`, and how its anchors fit.
  """
  fits = {size: fit_anchors(setting.with_detector(anchor_size=size), boxes) for size in SIZES}
  enough = max(fit.mean_reached for fit in fits.values()) - _TIE
  ties = [size for size, fit in fits.items() if fit.mean_reached >= enough]
  size = min(ties, key=lambda size: (round(abs(math.log2(size / usual)), 6), size))
  return size, fits[size]


def settle_anchor_size(setting: Setting, dataset: DatasetInfo) -> tuple[DetectorConfig, str]:
  """Chooses the number that `Detector.anchor_size = 'auto'` stands for.

  Returns:
    The detector with that number, and a sentence about it.

  Raises:
    UserError: the dataset has no boxes, or its annotations are damaged.
  """
  boxes = boxes_of(dataset)
  if not len(boxes.boxes):
    raise UserError(
      f"Detector.anchor_size = 'auto' is chosen by boxes, and {' and '.join(PARTS)} of "
      f"{dataset.data_dir} have none. Give a number, such as {_USUAL_SIZE:g}."
    )
  size, fit = best_size(setting, boxes)
  sentence = (
    f"Detector.anchor_size = 'auto' is {size:g} for {dataset.data_dir}: anchors reach "
    f"{100 * fit.reached:.1f} % of the boxes, of {fit.worst.name} {100 * fit.worst.reached:.1f} %"
  )
  return dataclasses.replace(setting.detector, anchor_size=size), sentence


def note_on(fit: AnchorFit, match_iou: float, where: str | None = None) -> str | None:
  """Returns what a person should know before a training; None if the anchors fit.

  Args:
    fit: of the anchors to the boxes.
    match_iou: what it was measured with.
    where: flag that names the run or the search, of which `nasfpn anchors` tells more.
  """
  missed = sorted(
    (row for row in fit.classes if 1 - row.reached > _NOTED_SHARE), key=lambda row: row.reached
  )
  if not missed:
    return None
  shares = [f"{100 * (1 - row.reached):.0f} % of {row.name}" for row in missed[:_NOTED_CLASSES]]
  if more := len(missed) - len(shares):
    shares.append(f"more than {100 * _NOTED_SHARE:.0f} % of {more} other classes")
  flags = f" {where}`" if where else "` with the same --gin_file, --gin_param and --data_dir"
  return (
    f"no anchor reaches {_joined(shares)} (an IoU of {match_iou:g}): `nasfpn anchors{flags} says "
    "what would"
  )


def note_on_anchors(setting: Setting, dataset: DatasetInfo, where: str | None = None) -> str | None:
  """Returns what `note_on` does for a dataset; None also if it has no boxes.

  Raises:
    UserError: the annotations are damaged.
  """
  boxes = boxes_of(dataset)
  if not len(boxes.boxes):
    return None
  return note_on(fit_anchors(setting, boxes), setting.match_iou, where)


def _joined(parts: Sequence[str]) -> str:
  return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
