"""The paper's Figures 7, 8 and 9 with our models beside the published ones; anytime detection.

Points carry their number of repeats, or of their exit, inside.
"""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from official_nasfpn.architecture import CATALOG, PyramidSpec
from official_nasfpn.architecture.diagram import draw_pyramids
from official_nasfpn.paper.measured import MeasuredModel
from official_nasfpn.paper.published import FIGURE_8, FIGURE_9A, FIGURE_9B, PublishedPoint

_POINT = {"marker": "o", "markersize": 12, "markerfacecolor": "white"}
_PUBLISHED = {**_POINT, "linestyle": "--", "linewidth": 1.2}
_OURS = {**_POINT, "linestyle": "-", "linewidth": 1.5, "capsize": 4}
# Below the axes: our points may lie anywhere in them.
_BELOW = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13)}
# The axis of AP spans so many per cent at least: less is next to nothing.
_MIN_SPAN = 10.0


def draw_capacity(models: Sequence[MeasuredModel], path: Path) -> None:
  """Draws AP over multiply-adds for repeats, backbones and widths (Figure 8).

  Args:
    models: our models.
    path: the image file to write; its suffix selects the format.
  """
  capacity_figure(models).savefig(path, dpi=120)


def capacity_figure(models: Sequence[MeasuredModel]) -> Figure:
  """Returns what `draw_capacity` draws."""
  figure = Figure(figsize=(15, 5.5), layout="constrained")
  published, ours = figure.subplots(1, 2)
  _draw_published(published, FIGURE_8, lambda point: point.flops / 2)
  published.set_title("published: Figure 8, COCO val2017, 640 pixels")
  _draw_ours(ours, models, lambda model: model.flops / 2)
  ours.set_title(_title(models))
  for axes in (published, ours):
    axes.set_xlabel("multiply-adds of one image, billions")
    axes.set_ylabel("AP, %")
  return figure


def draw_accuracy(models: Sequence[MeasuredModel], path: Path) -> None:
  """Draws AP over latency, multiply-adds and parameters (Figure 9).

  Args:
    models: our models; the latency panel shows those with a latency.
    path: the image file to write; its suffix selects the format.
  """
  accuracy_figure(models).savefig(path, dpi=100)


def accuracy_figure(models: Sequence[MeasuredModel]) -> Figure:
  """Returns what `draw_accuracy` draws."""
  figure = Figure(figsize=(18, 15), layout="constrained")
  rows = figure.subplots(3, 3)
  panels = (
    ("latency of one image, ms", lambda m: m.latency_ms),
    ("multiply-adds of one image, billions", lambda m: m.flops / 2),
    ("parameters, millions", lambda m: m.parameters),
  )
  for (published, light, ours), (label, x) in zip(rows.T, panels, strict=True):
    _draw_published(published, FIGURE_9A, x)
    _draw_published(light, FIGURE_9B, x)
    published.set_xlabel(f"{label} (P100)" if "latency" in label else label)
    light.set_xlabel(f"{label} (Pixel 1)" if "latency" in label else label)
    drawn = [model for model in models if x(model) is not None]
    _draw_ours(ours, drawn, x)
    if not drawn:
      ours.text(0.5, 0.5, "not measured", ha="center", transform=ours.transAxes)
      ours.set(xticks=[], yticks=[])
    ours.set_xlabel(f"{label} (this machine)" if "latency" in label else label)
    for axes in (published, light, ours):
      axes.set_ylabel("AP, %")
  rows[0, 1].set_title("published: Figure 9a, COCO val2017")
  rows[1, 1].set_title("published: Figure 9b, COCO val2017, MobileNetV2 at 320 pixels")
  rows[2, 1].set_title(_title(models))
  return figure


def draw_exits(models: Sequence[MeasuredModel], path: Path) -> None:
  """Draws AP over latency, one point for each exit (section 3.2). The paper publishes no numbers.

  Args:
    models: our models, with latencies; those with one exit are single points.
    path: the image file to write; its suffix selects the format.
  """
  exits_figure(models).savefig(path, dpi=120)


def exits_figure(models: Sequence[MeasuredModel]) -> Figure:
  """Returns what `draw_exits` draws."""
  figure = Figure(figsize=(8, 5.5), layout="constrained")
  axes = figure.subplots()
  labels = _labels(models)
  for model in models:
    latency = [exit_.latency_ms for exit_ in model.exits]
    ap = [exit_.ap for exit_ in model.exits]
    spread = [exit_.spread for exit_ in model.exits]
    label = labels[model.series]
    if len(ap) == 1:
      label = f"{label}, one exit, {model.config.num_repeats} repeats"
    axes.errorbar(latency, ap, spread, label=label, **_OURS)
    for exit_ in model.exits:
      _number_point(axes, exit_.number, exit_.latency_ms, exit_.ap)
  axes.grid(alpha=0.3)
  axes.margins(0.08)
  _widen(axes)
  figure.legend(
    loc="outside lower center", fontsize=8, markerscale=0.5, title="in the points: the exit"
  )
  axes.set_title(_title(models))
  axes.set_xlabel("latency of one image, ms (this machine)")
  axes.set_ylabel("AP, %")
  return figure


def draw_search(architectures: Sequence[tuple[str, PyramidSpec]], path: Path) -> None:
  """Draws the architectures that were the best so far in a search (Figure 7), and NAS-FPN.

  Args:
    architectures: a title and a pyramid for each, in order.
    path: the image file to write; its suffix selects the format.
  """
  draw_pyramids(
    [*architectures, ("published: NAS-FPN, proxy AP 16.8 on COCO", CATALOG["nas_fpn"])], path
  )


def _draw_published(
  axes: Axes,
  points: Sequence[PublishedPoint],
  x: Callable[[PublishedPoint], float],
) -> None:
  for series in dict.fromkeys(point.series for point in points):
    line = [point for point in points if point.series == series]
    axes.plot(
      [x(point) for point in line], [point.ap for point in line], label=series, **_PUBLISHED
    )
    for point in line:
      _number_point(axes, point.num_repeats, x(point), point.ap)
  _finish(axes, loc="lower right")


def _draw_ours(
  axes: Axes, models: Sequence[MeasuredModel], x: Callable[[MeasuredModel], float]
) -> None:
  for series, label in _labels(models).items():
    line = [model for model in models if model.series == series]
    line.sort(key=lambda model: model.config.num_repeats)
    axes.errorbar(
      [x(model) for model in line],
      [model.ap for model in line],
      [model.spread for model in line],
      label=label,
      **_OURS,
    )
    for model in line:
      _number_point(axes, model.config.num_repeats, x(model), model.ap)
  if models:
    _finish(axes, **_BELOW)
    _widen(axes)


def _number_point(axes: Axes, number: int | None, x: float, y: float) -> None:
  if number is not None:
    text = {"ha": "center", "va": "center_baseline", "fontsize": 8, "color": "0.2", "zorder": 3}
    axes.text(x, y, str(number), clip_on=True, **text)


def _finish(axes: Axes, **legend_place) -> None:
  axes.grid(alpha=0.3)
  axes.margins(0.08)
  title = "in the points: repeats"
  axes.legend(fontsize=8, title=title, title_fontsize=8, markerscale=0.5, **legend_place)


def _widen(axes: Axes) -> None:
  """Lets the axes of one or of equal points span something."""
  low, high = axes.get_ylim()
  if high - low < _MIN_SPAN:
    # An AP of 0 stands a little above the edge.
    low = max((low + high - _MIN_SPAN) / 2, -_MIN_SPAN / 20)
    axes.set_ylim(low, low + _MIN_SPAN)
  if axes.dataLim.width < 0.1 * axes.dataLim.xmax:
    axes.set_xlim(0, 1.15 * axes.dataLim.xmax)


def _labels(models: Sequence[MeasuredModel]) -> dict[str, str]:
  """Returns what tells each series from the others; what all have in common is in the title."""
  common = _common(models)
  return {
    model.series: ", ".join(part for part in model.parts if part not in common) or "ours"
    for model in models
  }


def _common(models: Sequence[MeasuredModel]) -> list[str]:
  """Returns what all models have in common."""
  if not models:
    return []
  return [part for part in models[0].parts if all(part in model.parts for model in models)]


def _title(models: Sequence[MeasuredModel]) -> str:
  if not models:
    return "ours"
  common = textwrap.fill(", ".join(["ours", *_common(models)]), 70)
  return f"{common}\n{_seeds(models)}"


def _seeds(models: Sequence[MeasuredModel]) -> str:
  counts = sorted({len(model.aps) for model in models})
  if counts == [1]:
    return "one run each" if len(models) > 1 else "one run"
  return f"mean and standard deviation of {' or '.join(map(str, counts))} runs"
