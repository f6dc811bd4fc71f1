"""The paper's Figures 7, 8 and 9 with our models beside the published ones; anytime detection."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from official_nasfpn.architecture import CATALOG, PyramidSpec
from official_nasfpn.architecture.diagram import draw_pyramid
from official_nasfpn.paper.measured import MeasuredModel
from official_nasfpn.paper.published import FIGURE_8, FIGURE_9A, FIGURE_9B, PublishedPoint

_PUBLISHED = {"marker": "o", "markerfacecolor": "white", "linestyle": "--", "linewidth": 1.2}
# Below the axes: our points may lie anywhere in them.
_BELOW = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13)}
_OURS = {"marker": "o", "linestyle": "-", "linewidth": 1.5, "capsize": 3}


def draw_capacity(models: Sequence[MeasuredModel], path: Path) -> None:
  """Draws AP over multiply-adds for repeats, backbones and widths (Figure 8).

  Args:
    models: our models.
    path: the image file to write; its suffix selects the format.
  """
  figure = Figure(figsize=(15, 5.5), layout="constrained")
  published, ours = figure.subplots(1, 2)
  _draw_published(published, FIGURE_8, lambda point: point.flops / 2)
  published.set_title("published: Figure 8, COCO val2017, 640 pixels")
  _draw_ours(ours, models, lambda model: model.flops / 2)
  ours.set_title(f"ours: {_seeds(models)}")
  for axes in (published, ours):
    axes.set_xlabel("multiply-adds of one image, billions")
    axes.set_ylabel("AP, %")
  figure.savefig(path, dpi=120)


def draw_accuracy(models: Sequence[MeasuredModel], path: Path) -> None:
  """Draws AP over latency, multiply-adds and parameters (Figure 9).

  Args:
    models: our models; the latency panel shows those with a latency.
    path: the image file to write; its suffix selects the format.
  """
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
    ours.set_xlabel(f"{label} (this machine)" if "latency" in label else label)
    for axes in (published, light, ours):
      axes.set_ylabel("AP, %")
  rows[0, 1].set_title("published: Figure 9a, COCO val2017")
  rows[1, 1].set_title("published: Figure 9b, COCO val2017, MobileNetV2 at 320 pixels")
  rows[2, 1].set_title(f"ours: {_seeds(models)}")
  figure.savefig(path, dpi=100)


def draw_exits(models: Sequence[MeasuredModel], path: Path) -> None:
  """Draws AP over latency, one point for each exit (section 3.2). The paper publishes no numbers.

  Args:
    models: our models, with latencies; those with one exit are single points.
    path: the image file to write; its suffix selects the format.
  """
  figure = Figure(figsize=(8, 5.5), layout="constrained")
  axes = figure.subplots()
  for model in models:
    latency = [exit_.latency_ms for exit_ in model.exits]
    ap = [exit_.ap for exit_ in model.exits]
    spread = [exit_.spread for exit_ in model.exits]
    label = model.series if len(ap) > 1 else f"{model.series}, {model.config.num_repeats} repeats"
    axes.errorbar(latency, ap, spread, label=label, **_OURS)
    for exit_ in model.exits:
      _label_repeats(axes, exit_.number, exit_.latency_ms, exit_.ap)
  axes.grid(alpha=0.3)
  axes.margins(0.08)
  figure.legend(loc="outside lower center", fontsize=8, title="exits at the points")
  axes.set_title(f"ours: {_seeds(models)}")
  axes.set_xlabel("latency of one image, ms (this machine)")
  axes.set_ylabel("AP, %")
  figure.savefig(path, dpi=120)


def draw_search(architectures: Sequence[tuple[str, PyramidSpec]], path: Path) -> None:
  """Draws the architectures that were the best so far in a search (Figure 7), and NAS-FPN.

  Args:
    architectures: a title and a pyramid for each, in order.
    path: the image file to write; its suffix selects the format.
  """
  shown = [*architectures, ("published: NAS-FPN, proxy AP 16.8 on COCO", CATALOG["nas_fpn"])]
  num_columns = min(len(shown), 2)
  num_rows = -(-len(shown) // num_columns)
  pictures = []
  with tempfile.TemporaryDirectory() as scratch:
    for index, (title, spec) in enumerate(shown):
      file = Path(scratch) / f"{index}.png"
      draw_pyramid(spec, file, title=title)
      pictures.append(matplotlib.image.imread(file))
  width = max(picture.shape[1] for picture in pictures) / 200
  height = max(picture.shape[0] for picture in pictures) / 200
  scale = min(1.0, 10 / width)
  figure = Figure(
    figsize=(num_columns * width * scale, num_rows * height * scale), layout="constrained"
  )
  grid = figure.subplots(num_rows, num_columns, squeeze=False)
  for axes in grid.flat:
    axes.set_axis_off()
  for axes, picture in zip(grid.flat, pictures, strict=False):
    axes.imshow(picture, interpolation="antialiased")
  figure.savefig(path, dpi=160)


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
      _label_repeats(axes, point.num_repeats, x(point), point.ap)
  _finish(axes, loc="lower right")


def _draw_ours(
  axes: Axes, models: Sequence[MeasuredModel], x: Callable[[MeasuredModel], float]
) -> None:
  for series in dict.fromkeys(model.series for model in models):
    line = [model for model in models if model.series == series]
    line.sort(key=lambda model: model.config.num_repeats)
    axes.errorbar(
      [x(model) for model in line],
      [model.ap for model in line],
      [model.spread for model in line],
      label=series,
      **_OURS,
    )
    for model in line:
      _label_repeats(axes, model.config.num_repeats, x(model), model.ap)
  if models:
    _finish(axes, **_BELOW)


def _label_repeats(axes: Axes, num_repeats: int | None, x: float, y: float) -> None:
  axes.annotate(
    str(num_repeats), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8, color="0.3"
  )


def _finish(axes: Axes, **legend_place) -> None:
  axes.grid(alpha=0.3)
  axes.margins(0.08)
  axes.legend(fontsize=8, title="repeats at the points", title_fontsize=8, **legend_place)


def _seeds(models: Sequence[MeasuredModel]) -> str:
  counts = sorted({len(model.aps) for model in models})
  if counts == [1]:
    return "one run each"
  return f"mean and standard deviation of {' or '.join(map(str, counts))} runs"
