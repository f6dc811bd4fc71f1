"""Charts as data; `chart.html` makes SVG of them that takes its colours from the page."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 460, 290
_RIGHT, _TOP, _BOTTOM = 14, 12, 46
# Left of the axis stand its label and its numbers, as wide as the longest on a phone.
_LABEL_WIDTH, _DIGIT_WIDTH = 28, 8
# More dots than these are drawn small.
_MANY_POINTS = 1000
# Of more points than these, dots are placed on a grid of two units, and of those of a line that
# share a unit of the width the outermost are kept: the picture has no more places.
_TOO_MANY_POINTS = 10_000


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


@dataclasses.dataclass(frozen=True)
class Band:
  """Values that are marked as belonging together.

  Attributes:
    label: in the legend.
    low: of the y axis.
    high: likewise.
  """

  label: str
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Chart:
  """What `chart.html` draws: texts, and places in a picture of `WIDTH` by `HEIGHT`.

  Attributes:
    title: above it.
    description: what it shows, for who does not see it.
    x_label: of the axis, with its unit.
    y_label: of the axis, with its unit.
    box: left, right, top and bottom of the axes.
    x_ticks: place and text of each.
    y_ticks: likewise.
    band: top and bottom of it; None without one.
    paths: class and path data of each series.
    links: place and link of each.
    legend: class and label of each entry.
  """

  title: str
  description: str
  x_label: str
  y_label: str
  box: tuple[int, int, int, int]
  x_ticks: tuple[tuple[str, str], ...]
  y_ticks: tuple[tuple[str, str], ...]
  band: tuple[float, float] | None
  paths: tuple[tuple[str, str], ...]
  links: tuple[tuple[str, str, Link], ...]
  legend: tuple[tuple[str, str], ...]


def make_chart(
  title: str,
  description: str,
  x_label: str,
  y_label: str,
  series: Sequence[Series],
  links: Sequence[Link] = (),
  band: Band | None = None,
  whole_x: bool = False,
  x_span: float = 0.0,
  y_range: tuple[float, float] | None = None,
) -> Chart | None:
  """Returns a chart; None where there is nothing to draw.

  Args:
    title: above it.
    description: what it shows, for who does not see it.
    x_label: of the axis, with its unit.
    y_label: of the axis, with its unit.
    series: what is drawn, the first lowest. Values that are not finite are left out.
    links: points on top of it.
    band: behind everything.
    whole_x: whether only whole numbers mean something on the x axis.
    x_span: the least that the x axis spans, so that it does not enlarge what is next to nothing.
    y_range: what the y axis shows at least, for the same reason.
  """
  series = [_finite(one) for one in series]
  x = np.concatenate([*(one.x for one in series), [link.x for link in links]])
  y = np.concatenate([*(one.y for one in series), [link.y for link in links]])
  if not len(x):
    return None
  x_limits = _limits(x, whole_x, x_span)
  if y_range:
    y_limits = min(y_range[0], y.min()), max(y_range[1], y.max())
  else:
    y_limits = _limits(y, False, 0.0)
  x_ticks, y_ticks = _ticks(*x_limits, whole_x), _ticks(*y_limits, False)
  left = _LABEL_WIDTH + _DIGIT_WIDTH * max(len(text) for _, text in y_ticks)
  scale = _Scale(left, *x_limits, *y_limits)
  legend = [(f"{one.kind} {one.color}", one.label) for one in series if one.label]
  if band:
    legend.append(("band", band.label))
  return Chart(
    title=title,
    description=description,
    x_label=x_label,
    y_label=y_label,
    box=(left, WIDTH - _RIGHT, _TOP, HEIGHT - _BOTTOM),
    x_ticks=tuple((_place(scale.x(value)), text) for value, text in x_ticks),
    y_ticks=tuple((_place(scale.y(value)), text) for value, text in y_ticks),
    band=band and (scale.y(min(band.high, y_limits[1])), scale.y(max(band.low, y_limits[0]))),
    paths=tuple(_path(one, scale) for one in series),
    links=tuple((_place(scale.x(link.x)), _place(scale.y(link.y)), link) for link in links),
    legend=tuple(legend),
  )


@dataclasses.dataclass(frozen=True)
class _Scale:
  """From values to places in the picture."""

  left: float
  x_min: float
  x_max: float
  y_min: float
  y_max: float

  def x(self, values):
    share = (values - self.x_min) / (self.x_max - self.x_min)
    return self.left + share * (WIDTH - self.left - _RIGHT)

  def y(self, values):
    share = (values - self.y_min) / (self.y_max - self.y_min)
    return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _finite(series: Series) -> Series:
  x, y = np.asarray(series.x, float), np.asarray(series.y, float)
  kept = np.isfinite(x) & np.isfinite(y)
  return dataclasses.replace(series, x=x[kept], y=y[kept])


def _limits(values: np.ndarray, whole: bool, span: float) -> tuple[float, float]:
  """Returns from where to where an axis goes: a little beyond the values, and `span` at least."""
  low, high = values.min(), values.max()
  margin = (high - low) * 0.04
  if low == high:
    margin = 1.0 if whole else abs(low) / 10 or 1.0
  margin = max(margin, (span - (high - low)) / 2)
  return low - margin, high + margin


def _ticks(low: float, high: float, whole: bool) -> list[tuple[float, str]]:
  """Returns round numbers between two others, with as many decimals as neighbours need."""
  locator = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], integer=whole, min_n_ticks=2)
  ticks = locator.tick_values(low, high)
  ticks = ticks[(low <= ticks) & (ticks <= high)]
  step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
  decimals = next((d for d in range(9) if abs(round(step, d) - step) < step / 1000), 9)
  return [(tick, f"{round(tick, decimals) + 0.0:,.{decimals}f}") for tick in ticks]


def _path(series: Series, scale: _Scale) -> tuple[str, str]:
  """Returns class and path data of a series."""
  places_x, places_y = scale.x(series.x), scale.y(series.y)
  if len(places_x) > _TOO_MANY_POINTS:
    if series.kind == "dots":
      places_x, places_y = 2 * np.round(places_x / 2), 2 * np.round(places_y / 2)
    else:
      kept = _outermost(places_x, places_y)
      places_x, places_y = places_x[kept], places_y[kept]
  x = [_place(value) for value in places_x]
  y = [_place(value) for value in places_y]
  points = list(zip(x, y, strict=True))
  kind = series.kind
  if kind == "dots":
    # A long search has more points than the picture has places.
    kind += " many" if len(points) > _MANY_POINTS else ""
    path = "".join(f"M{x} {y}h0" for x, y in dict.fromkeys(points))
  elif len(points) == 1:
    # A line through one point would not be seen.
    kind, path = "dots", f"M{x[0]} {y[0]}h0"
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
  return f"{kind} {series.color}", path


def _outermost(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Returns the indices of the first, last, lowest and highest point in each unit of the width.

  Args:
    x: places, ascending, [N].
    y: places, [N].
  """
  starts = np.flatnonzero(np.diff(np.floor(x), prepend=-np.inf))
  ends = np.append(starts[1:], len(x))
  return np.unique(
    [
      index
      for start, end in zip(starts, ends, strict=True)
      for index in (start, end - 1, start + y[start:end].argmin(), start + y[start:end].argmax())
    ]
  )


def _polyline(points: Sequence[tuple[str, str]]) -> str:
  """Returns the path through points, without those that repeat the one before."""
  kept = [point for index, point in enumerate(points) if index == 0 or point != points[index - 1]]
  return "M" + "L".join(f"{x} {y}" for x, y in kept) if kept else ""


def _place(value: float) -> str:
  return f"{value:.1f}".removesuffix(".0")
