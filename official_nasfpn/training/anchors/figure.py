"""A picture of the boxes of a dataset over the anchors of a detector."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from official_nasfpn.data.annotated_boxes import AnnotatedBoxes
from official_nasfpn.data.fonts import drawable
from official_nasfpn.disk import disk_errors
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.anchor_reach import LevelAnchors, best_matches, level_anchors
from official_nasfpn.training.anchors.fit import PARTS, Setting, boxes_of
from official_nasfpn.training.experiment import Experiment, open_dataset

# Told apart by all kinds of colour vision (Okabe and Ito); further classes are grey.
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_OTHERS = "#999999"
_INK = "#333333"
_MAX_POINTS = 6000


def draw_anchors(experiment: Experiment, path: str | Path) -> None:
  """Draws the sizes and shapes of all boxes over the anchors.

  Args:
    experiment: all settings, `Input.data_dir` among them.
    path: the image file to write; its suffix selects the format.

  Raises:
    UserError: the data is missing, damaged, of other classes, or has no boxes; the file cannot be
      written.
  """
  experiment, dataset = open_dataset(experiment)
  boxes = boxes_of(dataset)
  if not len(boxes.boxes):
    raise UserError(f"{' and '.join(PARTS)} of {dataset.data_dir} have no boxes to draw.")
  figure = anchors_figure(experiment.anchor_setting, boxes)
  with disk_errors(Path(path), "Choose another --figure."):
    figure.savefig(path, dpi=110)


def anchors_figure(setting: Setting, boxes: AnnotatedBoxes) -> Figure:
  """Returns what `draw_anchors` draws.

  Left, width and height of all boxes and anchors, at scale 1. Right, each box and its best anchor
  at the scales of a training.

  Args:
    setting: the anchors, the image size and the scales.
    boxes: at least one.
  """
  levels = level_anchors(setting.detector)
  size = setting.detector.image_size
  figure = Figure(figsize=(14, 6.4), layout="constrained")
  shapes, reach = figure.subplots(1, 2)
  scaled, visible = boxes.in_network(size)
  sides = scaled[visible, 2:] - scaled[visible, :2]
  groups = _groups(boxes)
  _scatter(shapes, sides[:, 1], sides[:, 0], boxes.classes[visible], groups)
  _draw_anchors(shapes, levels)
  draws = [boxes.in_network(size, scale) for scale in setting.scales]
  scaled = np.concatenate([draw[visible] for draw, visible in draws])
  classes = np.concatenate([boxes.classes[visible] for _, visible in draws])
  areas = (scaled[:, 2:] - scaled[:, :2]).prod(axis=1)
  _scatter(reach, np.sqrt(areas), best_matches(levels, scaled).iou, classes, groups)
  _draw_reach(reach, levels, setting)
  figure.suptitle(
    f"boxes and anchors in the network's input of {size[0]} x {size[1]} pixels, "
    f"Detector.anchor_size = {setting.detector.anchor_size:g}"
  )
  return figure


def _groups(boxes: AnnotatedBoxes) -> list[tuple[str, str, list[int]]]:
  """Returns label, colour and classes of each kind of points, those with most boxes first."""
  by_number = np.argsort([-count for count in boxes.class_counts], kind="stable").tolist()
  present = [index for index in by_number if boxes.class_counts[index]]
  named = present if len(present) <= len(_COLORS) else present[: len(_COLORS) - 1]
  groups = [
    (_label(boxes.class_names[index]), color, [index])
    for index, color in zip(named, _COLORS, strict=False)
  ]
  if others := present[len(named) :]:
    groups.append((f"{len(others)} other classes", _OTHERS, others))
  return groups


def _label(name: str) -> str:
  """Returns a name as matplotlib shows it: `$` begins formulas, and `_` hides a label."""
  text = drawable(name).replace("$", r"\$")
  return f" {text}" if text.startswith("_") else text


def _scatter(
  axes: Axes,
  x: np.ndarray,
  y: np.ndarray,
  classes: np.ndarray,
  groups: list[tuple[str, str, list[int]]],
) -> None:
  every = max(len(x) // _MAX_POINTS, 1)
  # In this order, a rare class does not lie below a frequent one.
  for layer, (label, color, of_group) in enumerate(groups):
    here = np.flatnonzero(np.isin(classes, of_group))[::every]
    axes.scatter(x[here], y[here], s=10, alpha=0.4, color=color, linewidths=0, zorder=2 + layer)
    axes.scatter([], [], s=40, color=color, label=label)


def _draw_anchors(axes: Axes, levels: tuple[LevelAnchors, ...]) -> None:
  for number, anchors in enumerate(levels):
    height, width = anchors.sides.T
    label = None if number else "anchors"
    axes.scatter(width, height, s=60, marker="+", color=_INK, linewidths=1.3, zorder=9, label=label)
    axes.annotate(
      f"P{anchors.level}",
      (width.min(), height[width.argmin()]),
      xytext=(-8, 4),
      textcoords="offset points",
      ha="right",
      color=_INK,
      zorder=9,
    )
  axes.set_title("shapes, at scale 1", pad=20)
  axes.set_xlabel("width, pixels")
  axes.set_ylabel("height, pixels")
  for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
    _in_octaves(axis, scale)
  axes.set_aspect("equal", adjustable="datalim")
  axes.grid(alpha=0.3)
  axes.legend(loc="upper left", framealpha=0.9)


def _draw_reach(axes: Axes, levels: tuple[LevelAnchors, ...], setting: Setting) -> None:
  for number, anchors in enumerate(levels):
    sides = np.sqrt(anchors.sides.prod(axis=1))
    axes.axvspan(sides.min(), sides.max(), color=_INK, alpha=0.14 if number % 2 else 0.07, lw=0)
    axes.text(
      np.sqrt(sides.min() * sides.max()),
      1.0,
      f"P{anchors.level}",
      transform=axes.get_xaxis_transform(),
      ha="center",
      va="bottom",
      color=_INK,
    )
  axes.axhline(setting.match_iou, color=_INK, linewidth=1.5, zorder=9)
  low, high = setting.data.scale_min, setting.data.scale_max
  axes.set_title(f"reached: above the line; at scales {low:g} to {high:g}", pad=20)
  axes.set_xlabel("square root of a box's area, pixels; grey: that of anchors")
  axes.set_ylabel("IoU with the best anchor")
  _in_octaves(axes.xaxis, axes.set_xscale)
  axes.set_ylim(0, 1)
  axes.grid(alpha=0.3)


def _in_octaves(axis: Axis, set_scale: Callable[..., object]) -> None:
  """Makes an axis logarithmic, with the numbers 8, 16, 32, ..."""
  set_scale("log", base=2)
  axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
