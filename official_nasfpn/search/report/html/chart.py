"""Charts as SVG that takes its colours from the page, right by day and by night."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from official_nasfpn.search.report.html.markup import Markup, element, join

_WIDTH, _HEIGHT = 460, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 12, 46
# More dots than these are drawn small.
_MANY_POINTS = 1000


@dataclasses.dataclass(frozen=True)
class Series:
  """Points to draw alike.

  Attributes:
    label: in the legend.
    kind: `dots`, `line`, `steps` (level until the next point) or `dashed`.
    color: `quiet`, or one of `first` and `second`.
    x: [N].
    y: [N].
  """

  label: str
  kind: str
  color: str
  x: np.ndarray
  y: np.ndarray


@dataclasses.dataclass(frozen=True)
class Link:
  """A point that leads to a place in the page.

  Attributes:
    x: where it is.
    y: where it is.
    target: the id that it leads to.
    title: what it says of itself.
    prominent: drawn large, and reached by the keyboard.
  """

  x: float
  y: float
  target: str
  title: str
  prominent: bool


def draw_chart(
  title: str,
  description: str,
  x_label: str,
  y_label: str,
  series: Sequence[Series],
  links: Sequence[Link] = (),
  whole_x: bool = False,
) -> Markup:
  """Returns a `figure` with a chart and its legend.

  Args:
    title: above it.
    description: what it shows, for who does not see it.
    x_label: of the axis, with its unit.
    y_label: of the axis, with its unit.
    series: what is drawn, the first lowest. Values that are not finite are left out.
    links: points on top of it.
    whole_x: whether only whole numbers mean something on the x axis.
  """
  series = [_finite(one) for one in series]
  x = np.concatenate([*(one.x for one in series), [link.x for link in links]])
  y = np.concatenate([*(one.y for one in series), [link.y for link in links]])
  if not len(x):
    return element("figure", element("h3", title), element("p", "Nothing yet.", class_="empty"))
  scale = _Scale(*_limits(x, whole_x), *_limits(y, False))
  x_ticks = _ticks(scale.x_min, scale.x_max, whole_x)
  y_ticks = _ticks(scale.y_min, scale.y_max, False)
  svg = element(
    "svg",
    element("desc", description),
    *(_x_tick(scale, tick, x_ticks) for tick in x_ticks),
    *(_y_tick(scale, tick, y_ticks) for tick in y_ticks),
    element("text", x_label, x=(_LEFT + _WIDTH - _RIGHT) / 2, y=_HEIGHT - 6, class_="middle"),
    element(
      "text",
      y_label,
      transform=f"translate(13 {(_TOP + _HEIGHT - _BOTTOM) / 2}) rotate(-90)",
      class_="middle",
    ),
    *(_draw(one, scale) for one in series),
    *(_draw_link(link, scale) for link in links),
    viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
    class_="chart",
    # With links in it, it is no picture for a screen reader but what is in it.
    role="group" if links else "img",
    aria_label=title,
  )
  legend = element(
    "ul",
    *(
      element("li", element("i", class_=f"{one.kind} {one.color}"), one.label)
      for one in series
      if one.label
    ),
    class_="legend",
  )
  return element("figure", element("h3", title), svg, legend)


@dataclasses.dataclass(frozen=True)
class _Scale:
  """From values to places in the picture."""

  x_min: float
  x_max: float
  y_min: float
  y_max: float

  def x(self, values):
    share = (values - self.x_min) / (self.x_max - self.x_min)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

  def y(self, values):
    share = (values - self.y_min) / (self.y_max - self.y_min)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _finite(series: Series) -> Series:
  x, y = np.asarray(series.x, float), np.asarray(series.y, float)
  kept = np.isfinite(x) & np.isfinite(y)
  return dataclasses.replace(series, x=x[kept], y=y[kept])


def _limits(values: np.ndarray, whole: bool) -> tuple[float, float]:
  """Returns from where to where an axis goes: a little beyond the values."""
  low, high = values.min(), values.max()
  margin = (high - low) * 0.04
  if low == high:
    margin = 1.0 if whole else abs(low) / 10 or 1.0
  return low - margin, high + margin


def _ticks(low: float, high: float, whole: bool) -> np.ndarray:
  """Returns round numbers between two others."""
  locator = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], integer=whole, min_n_ticks=2)
  ticks = locator.tick_values(low, high)
  return ticks[(low <= ticks) & (ticks <= high)]


def _number(value: float, ticks: np.ndarray) -> str:
  """Returns a tick's text, with as many decimals as its neighbours need."""
  step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
  decimals = next((d for d in range(9) if abs(round(step, d) - step) < step / 1000), 9)
  return f"{round(value, decimals) + 0.0:,.{decimals}f}"


def _x_tick(scale: _Scale, tick: float, ticks: np.ndarray) -> Markup:
  x, bottom = _place(scale.x(tick)), _HEIGHT - _BOTTOM
  return join(
    element("line", x1=x, x2=x, y1=_TOP, y2=bottom),
    element("text", _number(tick, ticks), x=x, y=bottom + 16, class_="middle"),
  )


def _y_tick(scale: _Scale, tick: float, ticks: np.ndarray) -> Markup:
  y = _place(scale.y(tick))
  return join(
    element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y),
    element("text", _number(tick, ticks), x=_LEFT - 6, y=_place(scale.y(tick) + 4), class_="end"),
  )


def _draw(series: Series, scale: _Scale) -> Markup:
  x = [_place(value) for value in scale.x(series.x)]
  y = [_place(value) for value in scale.y(series.y)]
  points = list(zip(x, y, strict=True))
  kind = series.kind
  if kind == "dots":
    # A long search has more points than the picture has places.
    kind += " many" if len(points) > _MANY_POINTS else ""
    path = "".join(f"M{x} {y}h0" for x, y in dict.fromkeys(points))
  elif kind == "steps":
    path = _polyline(
      [
        point
        for index, (x, y) in enumerate(points)
        for point in ((x, points[index - 1][1]), (x, y))
      ][1:]
    )
  else:
    path = _polyline(points)
  return element("path", d=path, class_=f"{kind} {series.color}")


def _polyline(points: Sequence[tuple[str, str]]) -> str:
  """Returns the path through points, without those that repeat the one before."""
  kept = [point for index, point in enumerate(points) if index == 0 or point != points[index - 1]]
  return "M" + "L".join(f"{x} {y}" for x, y in kept) if kept else ""


def _draw_link(link: Link, scale: _Scale) -> Markup:
  circle = element(
    "circle",
    element("title", link.title),
    cx=_place(scale.x(link.x)),
    cy=_place(scale.y(link.y)),
    r=5 if link.prominent else 3.5,
  )
  return element(
    "a",
    circle,
    href=f"#{link.target}",
    class_="front" if link.prominent else None,
    aria_label=link.title,
    tabindex=None if link.prominent else -1,
  )


def _place(value: float) -> str:
  return f"{value:.1f}".removesuffix(".0")
