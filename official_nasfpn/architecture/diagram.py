"""A drawing of a pyramid in the style of the paper's Figures 6 and 7."""

from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from official_nasfpn.architecture.layout import (
  RADIUS,
  Arrow,
  Points,
  arrow_points,
  node_centers,
  place_arrows,
)
from official_nasfpn.architecture.merge_ops import MERGE_OPS
from official_nasfpn.architecture.spec import PyramidSpec

# Lengths are in units of the distance between two rows.
_INCHES_PER_UNIT = 0.8
# The rows' names stand left of the inputs.
_LEFT_MARGIN = 1.3
_MARGIN = 0.25
_TITLE_HEIGHT = 0.5
_LEGEND_HEIGHT = 0.6
_LEGEND_WIDTH = 6.6

_INK = "#333333"
_FAINT = "#8c8c8c"
_FILLS = {"input": "#e8e8e8", "intermediate": "#cfe2f3", "output": "#fbd9b5"}
_EDGES = {"input": _FAINT, "intermediate": "#4a7fb0", "output": "#d9761a"}

# Without these a file would hold its date or the version of a library.
_METADATA = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def draw_pyramid(spec: PyramidSpec, path: str | PathLike[str], title: str | None = None) -> None:
  """Draws a pyramid to a file.

  Rows are levels, the lowest at the bottom; columns follow the order of building, with the inputs
  at the left. A node says its op by its short name, such as `GP` for global pooling. Dashed arrows
  lead from layers that nothing has read to the output cell that adds them.

  Args:
    spec: the pyramid.
    path: the file to write; its ending decides the format, png, svg or pdf.
    title: a line above the drawing.
  """
  centers = node_centers(spec)
  arrows = place_arrows(spec, centers)
  rows = np.concatenate(
    [
      centers[:, 1] - RADIUS,
      centers[:, 1] + RADIUS,
      *(
        arrow_points(centers[arrow.source], centers[arrow.target], arrow.bend)[:, 1]
        for arrow in arrows
      ),
    ]
  )
  left = -_LEFT_MARGIN
  right = max(centers[-1, 0] + RADIUS + _MARGIN, left + _LEGEND_WIDTH)
  bottom = rows.min() - _MARGIN - _LEGEND_HEIGHT
  top = rows.max() + _MARGIN + (_TITLE_HEIGHT if title else 0)

  size = ((right - left) * _INCHES_PER_UNIT, (top - bottom) * _INCHES_PER_UNIT)
  figure = Figure(figsize=size, dpi=200)
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set_axis_off()
  axes.set_xlim(left, right)
  axes.set_ylim(bottom, top)

  _draw_rows(axes, spec, right=centers[-1, 0])
  for arrow in arrows:
    _draw_arrow(axes, arrow, centers)
  for candidate, center in enumerate(centers):
    _draw_candidate(axes, spec, candidate, center)
  _draw_legend(axes, y=bottom + _LEGEND_HEIGHT / 2)
  if title:
    middle = (left + right) / 2
    axes.text(middle, top - 0.4, title, ha="center", va="center", fontsize=11, color=_INK)

  with matplotlib.rc_context({"svg.hashsalt": "pyramid"}):
    figure.savefig(path, metadata=_METADATA.get(Path(path).suffix.lower()))


def _draw_rows(axes: Axes, spec: PyramidSpec, right: float) -> None:
  for row, level in enumerate(spec.levels):
    axes.plot((0, right), (row, row), color="#eeeeee", linewidth=1, zorder=0)
    axes.text(-0.5, row, f"1/{2**level}", ha="right", va="center", fontsize=8, color=_FAINT)


def _draw_arrow(axes: Axes, arrow: Arrow, centers: Points) -> None:
  node_radius_in_points = RADIUS * _INCHES_PER_UNIT * 72
  axes.add_patch(
    FancyArrowPatch(
      centers[arrow.source],
      centers[arrow.target],
      connectionstyle=f"arc3,rad={arrow.bend}",
      arrowstyle="-|>",
      mutation_scale=8,
      shrinkA=node_radius_in_points,
      shrinkB=node_radius_in_points + 1,
      linewidth=1,
      linestyle=(0, (3, 2)) if arrow.added else "solid",
      color=_EDGES["output"] if arrow.added else _INK,
      zorder=1,
    )
  )


def _draw_candidate(axes: Axes, spec: PyramidSpec, candidate: int, center: Points) -> None:
  x, y = center
  level = spec.level_of(candidate)
  text: dict[str, Any] = {"ha": "center", "va": "center", "color": _INK, "zorder": 3}
  if candidate < spec.num_inputs:
    _draw_circle(axes, (x, y), RADIUS, "input")
    axes.text(x, y, f"C{level}", fontsize=9, **text)
    return
  index = candidate - spec.num_inputs
  op = MERGE_OPS[spec.cells[index].op].short_name
  if not spec.is_output(index):
    _draw_circle(axes, (x, y), RADIUS, "intermediate")
    axes.text(x, y, op, fontsize=9, **text)
    return
  _draw_circle(axes, (x, y), RADIUS, "output")
  axes.text(x, y + 0.1, f"P{level}", fontsize=9, fontweight="bold", **text)
  axes.text(x, y - 0.13, op, fontsize=7.5, **text)


def _draw_circle(axes: Axes, center: tuple[float, float], radius: float, kind: str) -> None:
  width = 1.8 if kind == "output" else 1.2
  axes.add_patch(
    Circle(
      center, radius, facecolor=_FILLS[kind], edgecolor=_EDGES[kind], linewidth=width, zorder=2
    )
  )


def _draw_legend(axes: Axes, y: float) -> None:
  text: dict[str, Any] = {"va": "center", "fontsize": 8, "color": _INK}
  for x, kind in ((-RADIUS + 0.1, "input"), (0.7, "intermediate"), (2.15, "output")):
    _draw_circle(axes, (x, y), 0.1, kind)
    axes.text(x + 0.18, y, kind, **text)
  axes.plot((3.1, 3.5), (y, y), color=_EDGES["output"], linestyle=(0, (3, 2)), linewidth=1)
  axes.text(3.6, y, "added, not read before", **text)
