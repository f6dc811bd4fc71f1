"""Drawings of pyramids in the style of the paper's Figures 6 and 7."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch

from official_nasfpn.architecture.layout import (
  RADIUS,
  Arrow,
  Points,
  arrow_points,
  legend_entries,
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
_RIGHT = RADIUS + _MARGIN
_TITLE_HEIGHT = 0.6
_LEGEND_LINE = 0.3
# The longest entries of the legend need it.
_MIN_WIDTH = 6.6
_MAX_PIXELS = 3200

_INK = "#333333"
_FAINT = "#8c8c8c"
_FILLS = {"input": "#e8e8e8", "intermediate": "#cfe2f3", "output": "#fbd9b5"}
_EDGES = {"input": _FAINT, "intermediate": "#4a7fb0", "output": "#d9761a"}
_DASHES = (0, (3, 2))

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
  draw_pyramids([(title, spec)], path)


def draw_pyramids(
  panels: Sequence[tuple[str | None, PyramidSpec]],
  path: str | PathLike[str],
  num_columns: int = 2,
) -> None:
  """Draws pyramids side by side to a file, with one legend, each as `draw_pyramid` does.

  Args:
    panels: title and pyramid, row by row; at least one.
    path: the file to write; its ending decides the format, png, svg or pdf.
    num_columns: drawings in a row.
  """
  figure = _figure_of(panels, num_columns)
  with matplotlib.rc_context({"svg.hashsalt": "pyramid"}):
    figure.savefig(path, metadata=_METADATA.get(Path(path).suffix.lower()))


def _figure_of(panels: Sequence[tuple[str | None, PyramidSpec]], num_columns: int) -> Figure:
  """Returns the figure with all drawings in one grid of rows and columns of equal size."""
  specs = [spec for _, spec in panels]
  layouts = [_layout(spec) for spec in specs]
  num_columns = min(num_columns, len(panels))
  num_rows = -(-len(panels) // num_columns)
  # Columns are as wide as their widest drawing, rows all as high as the highest.
  widths = [
    _LEFT_MARGIN + max(centers[-1, 0] for centers, *_ in layouts[column::num_columns]) + _RIGHT
    for column in range(num_columns)
  ]
  lefts = np.cumsum([0, *widths])
  low = min(low for _, _, low, _ in layouts) - _MARGIN
  high = max(high for _, _, _, high in layouts) + _MARGIN
  height = high - low + (_TITLE_HEIGHT if any(title for title, _ in panels) else 0)
  entries = legend_entries(specs)
  total_width = max(sum(widths), _MIN_WIDTH)
  # Nodes stand in one line, what needs a sentence below.
  num_lines = 1 + sum(kind in ("added", "op") for kind, _ in entries)
  legend_height = num_lines * _LEGEND_LINE + _MARGIN
  total_height = num_rows * height + legend_height

  size = total_width * _INCHES_PER_UNIT, total_height * _INCHES_PER_UNIT
  figure = Figure(figsize=size, dpi=min(200, int(_MAX_PIXELS / max(size))))
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set_axis_off()
  axes.set_xlim(0, total_width)
  axes.set_ylim(0, total_height)
  for index, ((title, spec), (centers, arrows, _, _)) in enumerate(
    zip(panels, layouts, strict=True)
  ):
    row, column = divmod(index, num_columns)
    bottom = total_height - (row + 1) * height
    offset = np.array([lefts[column] + _LEFT_MARGIN, bottom - low])
    _draw(axes, spec, centers + offset, arrows)
    if title:
      at = lefts[column] + widths[column] / 2, bottom + high - low + _TITLE_HEIGHT / 3
      axes.text(*at, title, ha="center", va="center", fontsize=11, color=_INK)
  _draw_legend(axes, entries, top=legend_height)
  return figure


def _layout(spec: PyramidSpec) -> tuple[Points, list[Arrow], float, float]:
  """Returns where nodes and arrows of a pyramid are, and its lowest and highest point."""
  centers = node_centers(spec)
  arrows = place_arrows(spec, centers)
  ways = [
    arrow_points(centers[arrow.source], centers[arrow.target], arrow.bend)[:, 1] for arrow in arrows
  ]
  rows = np.concatenate([centers[:, 1] - RADIUS, centers[:, 1] + RADIUS, *ways])
  return centers, arrows, rows.min(), rows.max()


def _draw(axes: Axes, spec: PyramidSpec, centers: Points, arrows: Sequence[Arrow]) -> None:
  for level, (x, y) in zip(spec.levels, centers[: spec.num_inputs], strict=True):
    axes.plot((x, centers[-1, 0]), (y, y), color="#eeeeee", linewidth=1, zorder=0)
    axes.text(x - 0.5, y, f"1/{2**level}", ha="right", va="center", fontsize=8, color=_FAINT)
  for arrow in arrows:
    _draw_arrow(axes, arrow, centers)
  for candidate, center in enumerate(centers):
    _draw_candidate(axes, spec, candidate, center)


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
      linestyle=_DASHES if arrow.added else "solid",
      color=_EDGES["output"] if arrow.added else _INK,
      zorder=1,
    )
  )


def _draw_candidate(axes: Axes, spec: PyramidSpec, candidate: int, center: Points) -> None:
  x, y = center
  level = spec.level_of(candidate)
  text: dict[str, Any] = {"ha": "center", "va": "center", "color": _INK, "zorder": 3}
  if candidate < spec.num_inputs:
    _draw_circle(axes, (x, y), "input")
    axes.text(x, y, f"C{level}", fontsize=9, **text)
    return
  index = candidate - spec.num_inputs
  op = MERGE_OPS[spec.cells[index].op].short_name
  if not spec.is_output(index):
    _draw_circle(axes, (x, y), "intermediate")
    axes.text(x, y, op, fontsize=9, **text)
    return
  _draw_circle(axes, (x, y), "output")
  axes.text(x, y + 0.1, f"P{level}", fontsize=9, fontweight="bold", **text)
  axes.text(x, y - 0.13, op, fontsize=7.5, **text)


def _draw_circle(axes: Axes, center: tuple[float, float], kind: str) -> None:
  width = 1.8 if kind == "output" else 1.2
  axes.add_patch(
    Circle(
      center, RADIUS, facecolor=_FILLS[kind], edgecolor=_EDGES[kind], linewidth=width, zorder=2
    )
  )


def _draw_legend(axes: Axes, entries: Sequence[tuple[str, str]], top: float) -> None:
  """Draws kinds of nodes in one line, and one line each for what needs a sentence."""
  nodes = [entry for entry in entries if entry[0] in _FILLS]
  lines = [nodes, *([entry] for entry in entries if entry[0] not in _FILLS)]
  for index, line in enumerate(lines):
    # Not `axes.legend`, which keeps one legend only.
    legend = Legend(
      axes,
      [_legend_mark(kind) for kind, _ in line],
      [text for _, text in line],
      loc="center left",
      bbox_to_anchor=(_MARGIN, top - (index + 0.5) * _LEGEND_LINE),
      bbox_transform=axes.transData,
      ncols=len(line),
      frameon=False,
      fontsize=8,
      labelcolor=_INK,
      borderpad=0,
      borderaxespad=0,
      handletextpad=0.6,
    )
    axes.add_artist(legend)


def _legend_mark(kind: str) -> Line2D:
  if kind == "added":
    return Line2D([], [], color=_EDGES["output"], linestyle=_DASHES, linewidth=1)
  if kind == "op":
    return Line2D([], [], linestyle="none")
  return Line2D(
    [],
    [],
    linestyle="none",
    marker="o",
    markersize=8,
    markerfacecolor=_FILLS[kind],
    markeredgecolor=_EDGES[kind],
  )
