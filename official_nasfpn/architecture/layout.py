"""Where a drawing of a pyramid has its nodes, how its arrows run, and what its legend says.

Lengths are in units of the distance between two rows, and y grows upwards. The report of a search
draws in the browser, with the same layout in `search/report/html/report.js`.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from official_nasfpn.architecture.merge_ops import MERGE_OPS
from official_nasfpn.architecture.spec import PyramidSpec
from official_nasfpn.architecture.wiring import unconsumed_inputs

# Points in the plane, [points, 2], or one, [2].
Points = NDArray[np.float64]

RADIUS = 0.32
_COLUMN_WIDTH = 1.3

# The last bits of a sum depend on the machine and on the language; they must not decide anything.
_DIGITS = 6

# How far an arrow may bend away from the straight line, to either side.
_BENDS = (0.0, *(sign * 0.2 * step for step in range(1, 16) for sign in (1, -1)))


@dataclasses.dataclass(frozen=True)
class Arrow:
  """An arrow from one candidate to another; `bend` is the `rad` of matplotlib's `arc3`."""

  source: int
  target: int
  added: bool
  bend: float


def node_centers(spec: PyramidSpec) -> Points:
  """Returns where every candidate is drawn, [candidates, 2]."""
  columns = [0] * spec.num_inputs + list(range(1, spec.num_cells + 1))
  return np.array(
    [
      (column * _COLUMN_WIDTH, spec.level_of(candidate) - spec.min_level)
      for candidate, column in enumerate(columns)
    ]
  )


def place_arrows(spec: PyramidSpec, centers: Points) -> list[Arrow]:
  """Returns all arrows, each bent so that it runs through no node and along no other arrow."""
  connections: list[tuple[int, int, bool]] = []
  for index, (cell, extra) in enumerate(zip(spec.cells, unconsumed_inputs(spec), strict=True)):
    target = spec.num_inputs + index
    connections += [(source, target, False) for source in cell.inputs]
    connections += [(source, target, True) for source in extra]

  def length(connection: tuple[int, int, bool]) -> float:
    return round(math.dist(centers[connection[0]], centers[connection[1]]), _DIGITS)

  arrows = []
  covered: set[tuple[int, int]] = set()
  # The shortest come first, because they have the least room to give way.
  for source, target, added in sorted(connections, key=length):
    nodes = np.delete(centers, (source, target), axis=0)
    ends = centers[[source, target]]
    straight, aside = _line(*ends)
    least = math.inf
    for offset in _BENDS:
      if abs(offset) >= least:
        break  # A larger offset cannot be better: it is clutter itself.
      bend = 2 * offset / length((source, target, added))
      points = _between(ends, straight + bend * aside)
      clutter = _through(points, nodes) + abs(offset)
      # The more costly terms only where they can decide.
      if clutter < least:
        clutter += _along(points, covered) + _off(points, centers)
      clutter = round(clutter, _DIGITS)
      if clutter < least:
        least, best, way = clutter, bend, points
    arrows.append(Arrow(source, target, added, best))
    covered |= _squares(way)
  return arrows


def arrow_points(start: Points, end: Points, bend: float) -> Points:
  """Returns points on the part of an `arc3` between two nodes, [points, 2]."""
  straight, aside = _line(start, end)
  return _between(np.stack([start, end]), straight + bend * aside)


def _line(start: Points, end: Points) -> tuple[Points, Points]:
  """Returns points on the straight line, and how far a bend of 1 moves each aside, [points, 2]."""
  dx, dy = end - start
  num_points = round(math.hypot(dx, dy) / 0.06)
  t = np.linspace(0, 1, num_points)[:, np.newaxis]
  return start + t * (end - start), 2 * t * (1 - t) * np.array([dy, -dx])


def _between(ends: Points, curve: Points) -> Points:
  """Returns the points of a curve outside of the nodes at its ends."""
  return curve[(distances(curve, ends) > RADIUS).all(axis=1)]


def legend_entries(specs: Sequence[PyramidSpec]) -> list[tuple[str, str]]:
  """Returns what a legend of some pyramids explains: nothing that none of them has.

  Returns:
    Kind and text: `input`, `intermediate` and `output` are nodes, `added` is an arrow, and an
    `op` is explained by its text alone.
  """
  if not specs:
    return []
  entries = [("input", "input")]
  if any(spec.num_cells > spec.num_inputs for spec in specs):
    entries.append(("intermediate", "intermediate cell"))
  entries.append(("output", "output cell"))
  if any(any(unconsumed_inputs(spec)) for spec in specs):
    entries.append(("added", "read by no cell, added to the output of its level"))
  there = {cell.op for spec in specs for cell in spec.cells}
  for name, op in MERGE_OPS.items():
    if name in there and (op.meaning or op.short_name != name):
      entries.append(("op", f"{op.short_name}: {op.meaning or name}"))
  return entries


def _through(curve: Points, nodes: Points) -> float:
  """Returns how much a curve runs through nodes."""
  depth = RADIUS + 0.12 - distances(curve, nodes)
  clutter: float = 40 * depth.clip(min=0).sum()
  return clutter


def _along(curve: Points, covered: set[tuple[int, int]]) -> float:
  """Returns how much a curve overlaps those placed before it."""
  return 0.2 * len(_squares(curve) & covered)


def _off(curve: Points, centers: Points) -> float:
  """Returns how far a curve leaves the grid above or below."""
  rows = curve[:, 1]
  beyond = np.maximum(-RADIUS - rows, rows - centers[:, 1].max() - RADIUS)
  clutter: float = 0.3 * beyond.clip(min=0).sum()
  return clutter


def _squares(curve: Points) -> set[tuple[int, int]]:
  """Returns the small squares of the plane that a curve passes through."""
  return set(map(tuple, np.rint(curve / 0.12).astype(int).tolist()))


def distances(points: Points, others: Points) -> Points:
  """Returns the distance from each point to each of the others, [points, others]."""
  apart = points[:, np.newaxis] - others[np.newaxis]
  # A few times faster than `np.linalg.norm` on arrays this small.
  return np.sqrt(apart[..., 0] ** 2 + apart[..., 1] ** 2)
