"""Measures how a train step grows over repeats, widths, sides and batches: time, trace, memory.

    python -m benchmarks.growth --figure docs/growth.png

Every point is a process of its own. The middle of all axes is R-18, 3 @ 64 at 256 pixels, batch 2.
Prints one JSON object.
"""

import functools
import json
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.peer_comparison import ours
from benchmarks.peer_comparison.data import data
from benchmarks.peer_comparison.measuring import Round, Settings, Side, timed
from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.progress import progress_bar

flags.DEFINE_string("work_dir", ".benchmarks", "Data and logs, as of benchmarks.run.")
flags.DEFINE_string("figure", None, "Image file to draw.")

FLAGS = flags.FLAGS

_MIDDLE = {"num_repeats": 3, "num_filters": 64, "side": 256, "batch_size": 2}
_AXES = {
  "num_repeats": ("repeats of the pyramid", (1, 2, 3, 5, 7)),
  "num_filters": ("filters", (48, 96, 192, 384)),
  "side": ("side of the image, pixels", (128, 256, 512, 1024)),
  "batch_size": ("images a batch", (1, 4, 16, 64)),
}
# What is drawn of a point, and its unit.
_DRAWN = {"step": "train step, s", "trace": "tracing, s", "memory": "memory at most, GB"}
_STEPS = 3


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  settings = Settings(Path(FLAGS.work_dir).resolve(), 0, 0)
  data(settings)
  points: dict[str, list[dict[str, float]]] = {}
  with progress_bar(sum(len(values) for _, values in _AXES.values()), "growth", "point") as bar:
    for axis, (_, values) in _AXES.items():
      for value in values:
        found = _measure({**_MIDDLE, axis: value}, settings)
        points.setdefault(axis, []).append({axis: value, **found})
        bar.update()
  print(json.dumps(points, indent=2))
  if FLAGS.figure:
    _draw(points, Path(FLAGS.figure))


def _measure(point: Mapping[str, int], settings: Settings) -> Mapping[str, float]:
  log = settings.work_dir / "logs" / "growth.txt"
  side = Side(functools.partial(_prepare, point=tuple(point.items())), settings, log)
  try:
    return side.measure().also
  finally:
    side.close()


def _prepare(settings: Settings, point: tuple[tuple[str, int], ...]) -> Callable[[], Round]:
  return lambda: _measure_step(settings, **dict(point))


def _measure_step(
  settings: Settings, num_repeats: int, num_filters: int, side: int, batch_size: int
) -> Round:
  experiment, step = ours.built_step(
    settings,
    f"Detector.num_repeats = {num_repeats}",
    f"Detector.num_filters = {num_filters}",
    f"Detector.image_size = ({side}, {side})",
    f"Training.batch_size = {batch_size}",
  )
  trace, _ = timed(step.get_concrete_function)
  step().numpy()
  seconds = []
  for _ in range(_STEPS):
    start = time.perf_counter()
    step().numpy()
    seconds.append(time.perf_counter() - start)
  operations = ours.operations_of_a_step(experiment)
  # Looked at before the matrices below take memory, too.
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
  return Round(
    min(seconds),
    {
      "step": min(seconds),
      "trace": trace,
      "memory": memory,
      "operations": operations,
      "share of the machine": operations / min(seconds) / ours.product_speed(),
    },
  )


def _draw(points: Mapping[str, list[dict[str, Any]]], path: Path) -> None:
  from matplotlib.figure import Figure
  from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

  figure = Figure(figsize=(4 * len(_AXES), 3 * len(_DRAWN)), layout="constrained")
  all_axes = figure.subplots(len(_DRAWN), len(_AXES), squeeze=False, sharex="col", sharey="row")
  for column, (axis, (title, values)) in enumerate(_AXES.items()):
    rows = points[axis]
    for line, (name, unit) in enumerate(_DRAWN.items()):
      axes = all_axes[line][column]
      axes.loglog(values, [row[name] for row in rows], "o-", label="measured")
      if name == "step":
        # As fast as the first point, at the arithmetic of each.
        scale = rows[0]["step"] / rows[0]["operations"]
        linear = [row["operations"] * scale for row in rows]
        axes.loglog(values, linear, "--", color="grey", label="in line with the arithmetic")
        for value, row in zip(values, rows, strict=True):
          share = f"{row['share of the machine']:.0%}"
          axes.annotate(share, (value, row[name]), textcoords="offset points", xytext=(4, -12))
        axes.legend(loc="upper left", fontsize="small")
      axes.set_xticks(values, [str(value) for value in values])
      axes.xaxis.set_minor_locator(NullLocator())
      axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
      axes.yaxis.set_minor_locator(NullLocator())
      axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
      axes.grid(alpha=0.3)
      if column == 0:
        axes.set_ylabel(unit)
    all_axes[-1][column].set_xlabel(title)
  figure.suptitle(
    "R-18, 3 @ 64, 256 pixels, batch 2, and one of them changed; percentages: of the operations a "
    "second of a product of large matrices"
  )
  figure.savefig(path, dpi=110)


if __name__ == "__main__":
  run_program(main)
