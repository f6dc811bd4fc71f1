"""A drawing of a pyramid in the style of the paper's Figures 6 and 7."""

import dataclasses
import math
from os import PathLike
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from official_nasfpn.architecture.spec import PyramidSpec
from official_nasfpn.architecture.wiring import unconsumed_inputs

# Lengths are in units of the distance between two rows.
_COLUMN_WIDTH = 1.3
_RADIUS = 0.32
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
_OP_NAMES = {"sum": "sum", "global_pool": "GP"}

# How far an arrow may bend away from the straight line, to either side.
_BENDS = (0.0, *(sign * 0.2 * step for step in range(1, 16) for sign in (1, -1)))

# Without these a file would hold its date or the version of a library.
_METADATA = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


@dataclasses.dataclass(frozen=True)
class _Arrow:
  """From one candidate to another, with the share of its length that matplotlib's `arc3` bends."""

  source: int
  target: int
  added: bool
  bend: float


def draw_pyramid(spec: PyramidSpec, path: str | PathLike[str], title: str | None = None) -> None:
  """Draws a pyramid to a file.

  Rows are levels, the lowest at the bottom; columns follow the order of building, with the inputs
  at the left. A node says its op, `sum` or `GP` for global pooling. Dashed arrows lead from layers
  that nothing has read to the output cell that adds them.

  Args:
    spec: the pyramid.
    path: the file to write; its ending decides the format, png, svg or pdf.
    title: a line above the drawing.
  """
  centers = _centers(spec)
  arrows = _arrows(spec, centers)
  rows = np.concatenate(
    [
      centers[:, 1] - _RADIUS,
      centers[:, 1] + _RADIUS,
      *(_curve(centers[arrow.source], centers[arrow.target], arrow.bend)[:, 1] for arrow in arrows),
    ]
  )
  left = -_LEFT_MARGIN
  right = max(centers[-1, 0] + _RADIUS + _MARGIN, left + _LEGEND_WIDTH)
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


def _centers(spec: PyramidSpec) -> np.ndarray:
  """Returns where every candidate is drawn, [candidates, 2]."""
  columns = [0] * spec.num_inputs + list(range(1, spec.num_cells + 1))
  return np.array(
    [
      (column * _COLUMN_WIDTH, spec.level_of(candidate) - spec.min_level)
      for candidate, column in enumerate(columns)
    ]
  )


def _arrows(spec: PyramidSpec, centers: np.ndarray) -> list[_Arrow]:
  """Returns all arrows, each bent so that it runs through no node and along no other arrow."""
  connections = []
  for index, (cell, added) in enumerate(zip(spec.cells, unconsumed_inputs(spec), strict=True)):
    target = spec.num_inputs + index
    connections += [(source, target, False) for source in cell.inputs]
    connections += [(source, target, True) for source in added]

  def length(connection: tuple[int, int, bool]) -> float:
    return math.dist(centers[connection[0]], centers[connection[1]])

  arrows = []
  covered: set[tuple[int, int]] = set()
  # The shortest come first, because they have the least room to give way.
  for source, target, added in sorted(connections, key=length):
    bends = [2 * bend / length((source, target, added)) for bend in _BENDS]
    curves = [_curve(centers[source], centers[target], bend) for bend in bends]
    nodes = np.delete(centers, (source, target), axis=0)
    clutter = [
      _through(curve, nodes) + _along(curve, covered) + _off(curve, centers) + abs(bend)
      for curve, bend in zip(curves, _BENDS, strict=True)
    ]
    best = int(np.argmin(clutter))
    arrows.append(_Arrow(source, target, added, bends[best]))
    covered |= _squares(curves[best])
  return arrows


def _curve(start: np.ndarray, end: np.ndarray, bend: float) -> np.ndarray:
  """Returns points on the part of an `arc3` between two nodes, [points, 2]."""
  dx, dy = end - start
  control = (start + end) / 2 + bend * np.array([dy, -dx])
  num_points = round(math.hypot(dx, dy) / 0.06)
  t = np.linspace(0, 1, num_points)[:, np.newaxis]
  curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
  ends = np.stack([start, end])
  return curve[_distances(curve, ends).min(axis=1) > _RADIUS]


def _through(curve: np.ndarray, nodes: np.ndarray) -> float:
  """Returns how much a curve runs through nodes."""
  depth = _RADIUS + 0.12 - _distances(curve, nodes)
  return 40 * depth.clip(min=0).sum()


def _along(curve: np.ndarray, covered: set[tuple[int, int]]) -> float:
  """Returns how much a curve runs along those that have been drawn."""
  return 0.2 * len(_squares(curve) & covered)


def _off(curve: np.ndarray, centers: np.ndarray) -> float:
  """Returns how much a curve leaves the grid above or below."""
  rows = curve[:, 1]
  beyond = np.maximum(-_RADIUS - rows, rows - centers[:, 1].max() - _RADIUS)
  return 0.3 * beyond.clip(min=0).sum()


def _squares(curve: np.ndarray) -> set[tuple[int, int]]:
  """Returns the small squares of the plane that a curve passes."""
  return set(map(tuple, np.rint(curve / 0.12).astype(int).tolist()))


def _distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
  return np.linalg.norm(points[:, np.newaxis] - others[np.newaxis], axis=-1)


def _draw_rows(axes: Axes, spec: PyramidSpec, right: float) -> None:
  for row, level in enumerate(spec.levels):
    axes.plot((0, right), (row, row), color="#eeeeee", linewidth=1, zorder=0)
    axes.text(-0.5, row, f"1/{2**level}", ha="right", va="center", fontsize=8, color=_FAINT)


def _draw_arrow(axes: Axes, arrow: _Arrow, centers: np.ndarray) -> None:
  node_radius_in_points = _RADIUS * _INCHES_PER_UNIT * 72
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


def _draw_candidate(axes: Axes, spec: PyramidSpec, candidate: int, center: np.ndarray) -> None:
  x, y = center
  level = spec.level_of(candidate)
  text = {"ha": "center", "va": "center", "color": _INK, "zorder": 3}
  if candidate < spec.num_inputs:
    _draw_circle(axes, (x, y), _RADIUS, "input")
    axes.text(x, y, f"C{level}", fontsize=9, **text)
    return
  index = candidate - spec.num_inputs
  op = _OP_NAMES[spec.cells[index].op]
  if not spec.is_output(index):
    _draw_circle(axes, (x, y), _RADIUS, "intermediate")
    axes.text(x, y, op, fontsize=9, **text)
    return
  _draw_circle(axes, (x, y), _RADIUS, "output")
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
  text = {"va": "center", "fontsize": 8, "color": _INK}
  for x, kind in ((-_RADIUS + 0.1, "input"), (0.7, "intermediate"), (2.15, "output")):
    _draw_circle(axes, (x, y), 0.1, kind)
    axes.text(x + 0.18, y, kind, **text)
  axes.plot((3.1, 3.5), (y, y), color=_EDGES["output"], linestyle=(0, (3, 2)), linewidth=1)
  axes.text(3.6, y, "added, not read before", **text)
