"""The charts of the page."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from official_nasfpn.reporting.chart import Chart, Series, make_chart
from official_nasfpn.training.analysis.analysis import THRESHOLDS, ClassAnalysis
from official_nasfpn.training.analysis.curves import RECALLS

# As many points of a curve are drawn at most.
_MOST_POINTS = 400
# A first twentieth that is so many times above all that follows is cut off.
_PEAK = 3.0
_FROM_0_TO_1 = (0.0, 1.0)
Curves = Mapping[str, tuple[np.ndarray, np.ndarray]]


def precision_chart(one: ClassAnalysis, title: str) -> Chart | None:
  """Returns precision over recall at IoU 0.5 and 0.75; None without annotated boxes."""
  lines = [("IoU 0.5", "first", one.precision), ("IoU 0.75", "second", one.strict_precision)]
  there = [(label, color, values) for label, color, values in lines if values is not None]
  means = ", ".join(f"{values.mean():.3f} at {label}" for label, _, values in there)
  return make_chart(
    title,
    f"AP {means}." if there else "",
    "recall",
    "precision",
    [
      Series(f"{label}: AP {values.mean():.3f}", "line", color, RECALLS, values)
      for label, color, values in there
    ],
    y_range=_FROM_0_TO_1,
  )


def f1_chart(one: ClassAnalysis, title: str) -> Chart | None:
  """Returns F1 over the score threshold, the best one marked; None without annotated boxes."""
  if one.f1 is None:
    return None
  series = [Series("F1", "line", "first", THRESHOLDS, one.f1)]
  described = "No detection is right."
  if one.best:
    described = f"The best is {one.best.f1:.3f}, from {one.best.threshold:.3f} on."
    best = np.array([one.best.threshold]), np.array([one.best.f1])
    label = f"best: F1 {one.best.f1:.3f} from {one.best.threshold:.3f} on"
    series.append(Series(label, "dots", "second", *best))
  return make_chart(title, described, "score threshold", "F1", series, y_range=_FROM_0_TO_1)


def learning_charts(train: Curves, validation: Curves) -> list[Chart]:
  """Returns losses, learning rate and AP over train steps, those that there are."""
  losses = {
    "total_loss": ("total", "quiet"),
    "class_loss": ("of classes", "first"),
    "box_loss": ("of boxes", "second"),
  }
  charts = [
    _over_steps("Loss over train steps", "loss", train, losses),
    _over_steps(
      "AP over train steps",
      "AP",
      validation,
      {"AP50": ("AP50", "quiet"), "AP": ("AP", "first"), "AP75": ("AP75", "second")},
    ),
    _over_steps(
      "Learning rate over train steps", "learning rate", train, {"learning_rate": ("", "first")}
    ),
  ]
  return [chart for chart in charts if chart]


def _over_steps(
  title: str, y_label: str, curves: Curves, names: Mapping[str, tuple[str, str]]
) -> Chart | None:
  series = []
  for name, (label, color) in names.items():
    if name in curves:
      steps, values = (_thinned(array) for array in curves[name])
      series.append(Series(label, "line", color, steps, values))
  if not series:
    return None
  whole, series = series, [_without_first_peaks(one) for one in series]
  if any(cut is not one for cut, one in zip(series, whole, strict=True)):
    y_label += ", cut off where it began"
  values = np.concatenate([one.y[np.isfinite(one.y)] for one in series])
  if not len(values):
    return None
  ends = ", ".join(f"{one.label or 'it'} {one.y[-1]:.4g}" for one in series)
  return make_chart(
    title,
    f"At the end: {ends}.",
    "train step",
    y_label,
    series,
    whole_x=True,
    y_range=(0.0, 1.05 * float(values.max()) or 1.0),
  )


def _without_first_peaks(one: Series) -> Series:
  """Cuts off what the first steps have far above all later ones: a loss begins in the hundreds."""
  later = one.y[len(one.y) // 20 :]
  later = later[np.isfinite(later)]
  if not len(later) or not 0 < _PEAK * later.max() < np.nanmax(one.y):
    return one
  return dataclasses.replace(one, y=np.minimum(one.y, 1.2 * later.max()))


def _thinned(values: np.ndarray) -> np.ndarray:
  """Returns at most so many values, the last among them."""
  stride = -(-len(values) // _MOST_POINTS)
  return values[::-1][::stride][::-1] if stride > 1 else values
