"""A report on anchors before a training: what they reach of the boxes, and what others would.

experiment = load_experiment(["gin/quickstart.gin"], ["Input.data_dir = 'data/mine'"])
report = report_anchors(experiment)
print(report.as_text())
print(report.suggestion)
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from official_nasfpn.data.annotated_boxes import AnnotatedBoxes
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.anchor_reach import best_matches, level_anchors
from official_nasfpn.modeling.backbones import LEVELS
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.pyramids import pyramid_kind
from official_nasfpn.progress import say
from official_nasfpn.training.anchors.fit import (
  PARTS,
  SIZES,
  AnchorFit,
  Setting,
  best_size,
  boxes_of,
  fit_anchors,
)
from official_nasfpn.training.experiment import Experiment, open_dataset

# In pixels of the network's input. Half a cell of level 3: little of such an object is left there.
TINY_SIDE = 4.0
# What another setting must reach more of the boxes, in the mean of the classes, to be suggested.
# Other ratios are less usual than other sizes, and larger images take longer.
_GAIN_BY_SIZE, _GAIN_BY_RATIOS, _GAIN_BY_IMAGE = 0.02, 0.03, 0.05
_RATIOS = ((0.33, 1.0, 3.0), (0.25, 0.5, 1.0, 2.0, 4.0))
_IMAGE_FACTORS = (1.5, 2.0)
_NUM_EXAMPLES = 3


@dataclasses.dataclass(frozen=True)
class LevelRow:
  """The boxes whose best anchor is on one level, without jitter.

  Attributes:
    level: the level.
    anchor_sides: side of its smallest and of its largest anchor in pixels, at equal area.
    num_boxes: boxes whose best anchor is here; of a large dataset, of the sample.
    box_sides: the least, median and greatest square root of their areas in pixels.
    box_ratios: 5th, 50th and 95th percentile of their width over height.
  """

  level: int
  anchor_sides: tuple[float, float]
  num_boxes: int
  box_sides: tuple[float, float, float] | None
  box_ratios: tuple[float, float, float] | None


@dataclasses.dataclass(frozen=True)
class TinyBoxes:
  """Boxes of a class with a side below `TINY_SIDE` at scale 1.

  Attributes:
    class_name: the class.
    num_boxes: how many; of a large dataset, of the sample.
    num_dropped: of them, those that the least scale leaves less than a pixel of.
    examples: names of images that have some.
  """

  class_name: str
  num_boxes: int
  num_dropped: int
  examples: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Candidate:
  """Other anchors, or another image size, and what they reach.

  Attributes:
    anchor_size: `Detector.anchor_size`; None for a pyramid with anchors of its own.
    aspect_ratios: `Detector.aspect_ratios`; None for the same.
    image_size: `Detector.image_size`.
    reached: share of all boxes that an anchor reaches, in [0, 1].
    mean_reached: mean of the classes' shares.
    worst_class: the class with the lowest share.
    worst_reached: its share.
  """

  anchor_size: float | None
  aspect_ratios: tuple[float, ...] | None
  image_size: tuple[int, int]
  reached: float
  mean_reached: float
  worst_class: str
  worst_reached: float


@dataclasses.dataclass(frozen=True)
class AnchorReport:
  """What the anchors of a detector reach of the boxes of its data.

  Attributes:
    data_dir: the data.
    num_boxes: all boxes of its parts train and holdout, without crowds.
    num_sampled: boxes that were looked at.
    scales: the range that training scales images in.
    match_iou: IoU from which an anchor reaches a box.
    levels: boxes by the level of their best anchor.
    fit: shares by class.
    tiny: boxes that are too small after scaling, by class.
    candidates: what was compared; the first is what is set now.
    suggestion: the candidate to take; the first one if nothing reaches much more.
    larger: a candidate with larger images that would reach still more; None if none would.
  """

  data_dir: str
  num_boxes: int
  num_sampled: int
  scales: tuple[float, float]
  match_iou: float
  levels: tuple[LevelRow, ...]
  fit: AnchorFit
  tiny: tuple[TinyBoxes, ...]
  candidates: tuple[Candidate, ...]
  suggestion: Candidate
  larger: Candidate | None

  @property
  def suggested_gin(self) -> str:
    """The suggestion as lines of a recipe; empty if nothing else reaches much more."""
    return self.gin_of(self.suggestion)

  def as_text(self) -> str:
    """Returns the report for a person."""
    from official_nasfpn.training.anchors.text import as_text

    return as_text(self)

  def gin_of(self, candidate: Candidate) -> str:
    """Returns what a candidate changes, as lines of a recipe."""
    now = self.candidates[0]
    return "\n".join(
      f"Detector.{name} = {getattr(candidate, name)!r}"
      for name in ("image_size", "anchor_size", "aspect_ratios")
      if getattr(candidate, name) != getattr(now, name)
    )


def report_anchors(experiment: Experiment) -> AnchorReport:
  """Compares anchors with the boxes of the data; needs neither images nor TensorFlow.

  Args:
    experiment: all settings, `Input.data_dir` among them.

  Raises:
    UserError: the data is missing, damaged, of other classes, or has no boxes.
  """
  experiment, dataset = open_dataset(experiment)
  setting, boxes = experiment.anchor_setting, boxes_of(dataset)
  if not len(boxes.boxes):
    raise UserError(f"{' and '.join(PARTS)} of {dataset.data_dir} have no boxes to compare with.")
  say(f"comparing {len(boxes.boxes):,} boxes with anchors; 10,000 take about a quarter of a minute")
  fit = fit_anchors(setting, boxes)
  candidates, suggestion, larger = _compare(setting, boxes, fit)
  return AnchorReport(
    data_dir=str(dataset.data_dir),
    num_boxes=sum(boxes.class_counts),
    num_sampled=len(boxes.boxes),
    scales=(setting.data.scale_min, setting.data.scale_max),
    match_iou=setting.match_iou,
    levels=_boxes_by_level(setting.detector, boxes),
    fit=fit,
    tiny=_tiny_boxes(setting, boxes),
    candidates=candidates,
    suggestion=suggestion,
    larger=larger,
  )


def _boxes_by_level(detector: DetectorConfig, boxes: AnnotatedBoxes) -> tuple[LevelRow, ...]:
  scaled, visible = boxes.in_network(detector.image_size)
  scaled = scaled[visible]
  height, width = (scaled[:, 2:] - scaled[:, :2]).T
  levels = level_anchors(detector)
  best = best_matches(levels, scaled).level
  rows = []
  for anchors in levels:
    here = best == anchors.level
    sides = np.sqrt(height[here] * width[here])
    anchor_sides = np.sqrt(anchors.sides.prod(axis=1))
    rows.append(
      LevelRow(
        anchors.level,
        (float(anchor_sides.min()), float(anchor_sides.max())),
        int(here.sum()),
        _percentiles(sides, (0, 50, 100)),
        _percentiles(width[here] / height[here], (5, 50, 95)),
      )
    )
  return tuple(rows)


def _percentiles(
  values: np.ndarray, percents: Sequence[float]
) -> tuple[float, float, float] | None:
  if not len(values):
    return None
  low, middle, high = np.percentile(values, percents)
  return float(low), float(middle), float(high)


def _tiny_boxes(setting: Setting, boxes: AnnotatedBoxes) -> tuple[TinyBoxes, ...]:
  size = setting.detector.image_size
  scaled, _ = boxes.in_network(size)
  is_tiny = np.any(scaled[:, 2:] - scaled[:, :2] < TINY_SIDE, axis=1)
  _, stays = boxes.in_network(size, setting.data.scale_min)
  rows = []
  for index, name in enumerate(boxes.class_names):
    here = is_tiny & (boxes.classes == index)
    if here.any():
      images = dict.fromkeys(boxes.images[here].tolist())
      examples = tuple(boxes.file_names[image] for image in images)[:_NUM_EXAMPLES]
      rows.append(TinyBoxes(name, int(here.sum()), int((here & ~stays).sum()), examples))
  return tuple(rows)


def _compare(
  setting: Setting, boxes: AnnotatedBoxes, fit: AnchorFit
) -> tuple[tuple[Candidate, ...], Candidate, Candidate | None]:
  """Returns all candidates, the one to suggest, and one with larger images."""
  own_anchors = pyramid_kind(setting.detector.architecture).level_anchors is not None
  table = {_key(setting): _candidate(setting, fit)}

  def add(changed: Setting) -> Candidate:
    if (key := _key(changed)) not in table:
      table[key] = _candidate(changed, fit_anchors(changed, boxes))
    return table[key]

  def add_with_best_size(changed: Setting) -> Setting:
    if not own_anchors:
      size, _ = best_size(changed, boxes, usual=setting.detector.anchor_size)
      changed = changed.with_detector(anchor_size=size)
    add(changed)
    return changed

  suggested = setting
  if not own_anchors:
    for size in SIZES:
      add(setting.with_detector(anchor_size=size))
    suggested = _better(suggested, [add_with_best_size(setting)], _GAIN_BY_SIZE, add)
    others = [
      add_with_best_size(setting.with_detector(aspect_ratios=ratios))
      for ratios in (_ratios_of(boxes, setting), *_RATIOS)
      if ratios != setting.detector.aspect_ratios
    ]
    suggested = _better(suggested, others, _GAIN_BY_RATIOS, add)
  enlarged = [
    add_with_best_size(suggested.with_detector(image_size=size))
    for size in _larger_sizes(setting.detector)
  ]
  larger = _better(suggested, enlarged, _GAIN_BY_IMAGE, add)
  return tuple(table.values()), add(suggested), None if larger is suggested else add(larger)


def _better(now: Setting, others: Sequence[Setting], gain: float, measure) -> Setting:
  """Returns the first of the others that reaches so much more than what is before it, or `now`."""
  for other in others:
    if measure(other).mean_reached >= measure(now).mean_reached + gain:
      now = other
  return now


def _key(setting: Setting) -> tuple:
  detector = setting.detector
  return detector.anchor_size, detector.aspect_ratios, detector.image_size


def _candidate(setting: Setting, fit: AnchorFit) -> Candidate:
  detector = setting.detector
  own_anchors = pyramid_kind(detector.architecture).level_anchors is not None
  return Candidate(
    None if own_anchors else detector.anchor_size,
    None if own_anchors else detector.aspect_ratios,
    detector.image_size,
    fit.reached,
    fit.mean_reached,
    fit.worst.name,
    fit.worst.reached,
  )


def _ratios_of(boxes: AnnotatedBoxes, setting: Setting) -> tuple[float, ...]:
  """Returns three ratios as the boxes have them: in the middle of each third of all ratios."""
  scaled, visible = boxes.in_network(setting.detector.image_size)
  height, width = (scaled[visible, 2:] - scaled[visible, :2]).T
  if not len(height):
    return setting.detector.aspect_ratios
  thirds = np.percentile(width / height, (100 / 6, 50, 500 / 6))
  return tuple(dict.fromkeys(float(f"{ratio:.2g}") for ratio in thirds))


def _larger_sizes(detector: DetectorConfig) -> list[tuple[int, int]]:
  # Of a pyramid with anchors of its own, levels above the backbone's are rounded up.
  own_anchors = pyramid_kind(detector.architecture).level_anchors is not None
  multiple = 2 ** (int(LEVELS[-1]) if own_anchors else detector.architecture.max_level)
  sizes = [
    tuple(-(-round(side * factor) // multiple) * multiple for side in detector.image_size)
    for factor in _IMAGE_FACTORS
  ]
  return list(dict.fromkeys(sizes))
