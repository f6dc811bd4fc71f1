"""A pyramid as SVG that takes its colours from the page; `report.js` draws the same.

`architecture/diagram.py` draws files for papers, with the same layout.
"""

import math

import numpy as np
from markupsafe import Markup

from official_nasfpn.architecture import MERGE_OPS, PyramidSpec
from official_nasfpn.architecture.layout import (
  RADIUS,
  Arrow,
  arrow_points,
  node_centers,
  place_arrows,
)

# Lengths of the layout are in rows; a row is so many units of the picture high.
_UNIT = 40
_MARGIN = 8
# The rows' names stand left of the inputs.
_LEFT_MARGIN = 50
# How long and how wide the head of an arrow is.
_HEAD = (7, 3)


def draw_pyramid_svg(spec: PyramidSpec, label: str) -> Markup:
  """Returns the drawing of a pyramid.

  Args:
    spec: the pyramid.
    label: what the drawing is of, for who does not see it.
  """
  centers = node_centers(spec)
  arrows = place_arrows(spec, centers)
  rows = [-RADIUS, spec.max_level - spec.min_level + RADIUS]
  for arrow in arrows:
    points = arrow_points(centers[arrow.source], centers[arrow.target], arrow.bend)
    rows += [points[:, 1].min(), points[:, 1].max()]
  top = max(rows) * _UNIT + _MARGIN
  places = centers * (_UNIT, -_UNIT) + (_LEFT_MARGIN, top)
  width = places[-1, 0] + RADIUS * _UNIT + _MARGIN
  height = top - min(rows) * _UNIT + _MARGIN
  parts = [
    *(_draw_row(spec, level, places) for level in spec.levels),
    *(_draw_arrow(arrow, places) for arrow in arrows),
    *(_draw_node(spec, candidate, place) for candidate, place in enumerate(places)),
  ]
  return Markup(
    '<svg viewBox="0 0 {} {}" class="pyramid" role="img" aria-label="{}">{}</svg>'
  ).format(_text(width), _text(height), label, Markup("").join(parts))


def _draw_row(spec: PyramidSpec, level: int, places: np.ndarray) -> Markup:
  x, y = places[level - spec.min_level]
  return Markup(
    '<path d="M{} {}H{}" class="row"></path><text x="{}" y="{}" class="level">1/{}</text>'
  ).format(_text(x), _text(y), _text(places[-1, 0]), _text(x - 18), _text(y + 3.5), 2**level)


def _draw_arrow(arrow: Arrow, places: np.ndarray) -> Markup:
  start, end = places[arrow.source], places[arrow.target]
  dx, dy = end - start
  # Here y grows downwards.
  control = (start + end) / 2 + arrow.bend * np.array([-dy, dx])
  # The nodes are drawn over what is inside them, and the head ends at the edge of its node.
  t = 1.0
  while _distance(_on_curve(start, control, end, t), end) < RADIUS * _UNIT + 0.8:
    t -= 1 / 256
  tip = _on_curve(start, control, end, t)
  back = _on_curve(start, control, end, t - 1 / 32)
  along = (tip - back) / _distance(tip, back)
  across = np.array([-along[1], along[0]])
  base = tip - along * _HEAD[0]
  left, right = base + across * _HEAD[1], base - across * _HEAD[1]
  line = f"M{_point(start)}Q{_point(control)} {_point(end)}"
  head = f"M{_point(tip)}L{_point(left)}L{_point(right)}z"
  kind = Markup(' class="added"') if arrow.added else ""
  return Markup('<g{}><path d="{}"></path><path d="{}"></path></g>').format(kind, line, head)


def _draw_node(spec: PyramidSpec, candidate: int, place: np.ndarray) -> Markup:
  x, y = place
  level = spec.level_of(candidate)

  def node(kind: str, *texts: Markup) -> Markup:
    return Markup('<g class="{}"><circle cx="{}" cy="{}" r="{}"></circle>{}</g>').format(
      kind, _text(x), _text(y), _text(RADIUS * _UNIT), Markup("").join(texts)
    )

  def text(content: str, down: float, kind: str | None = None) -> Markup:
    small = Markup(' class="{}"').format(kind) if kind else ""
    return Markup('<text x="{}" y="{}"{}>{}</text>').format(
      _text(x), _text(y + down), small, content
    )

  index = candidate - spec.num_inputs
  if index < 0:
    return node("input", text(f"C{level}", 4))
  op = MERGE_OPS[spec.cells[index].op].short_name
  if spec.is_output(index):
    return node("output", text(f"P{level}", -0.5), text(op, 8.5, "small"))
  return node("middle", text(op, 4))


def _on_curve(start: np.ndarray, control: np.ndarray, end: np.ndarray, t: float) -> np.ndarray:
  return (1 - t) * (1 - t) * start + 2 * t * (1 - t) * control + t * t * end


def _distance(first: np.ndarray, second: np.ndarray) -> float:
  dx, dy = first - second
  return math.sqrt(dx * dx + dy * dy)


def _point(place: np.ndarray) -> str:
  return f"{_text(place[0])} {_text(place[1])}"


def _text(value: float) -> str:
  """Returns a length with one decimal, of two halves the greater, as `report.js` has it."""
  return f"{math.floor(float(value) * 10 + 0.5) / 10:.1f}".removesuffix(".0")
