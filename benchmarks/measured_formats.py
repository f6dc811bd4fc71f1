"""What `export_formats.py` has measured of the exports of runs, as a table and as a figure."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

# Weaker detections appear and disappear with rounding.
_CLEAR_SCORE = 0.3


@dataclasses.dataclass(frozen=True)
class Measured:
  """One export of one run.

  Attributes:
    name: the format.
    ap: AP on the run's evaluation images.
    ap50: AP at an IoU of 0.5.
    megabytes: size of all its files.
    same: share of the SavedModel's clear detections that this export has, too: boxes within 1
      pixel, scores within 0.001. None where it has no clear one.
    milliseconds: median time for one image.
  """

  name: str
  ap: float
  ap50: float
  megabytes: float
  same: float | None
  milliseconds: float


def shares_of_same_boxes(
  detectors: Mapping, images: Sequence[bytes], reference: str = "SavedModel"
) -> dict[str, float | None]:
  """Returns, for each detector, the share of the reference's clear detections that it has.

  None for each where the reference has no clear detection.
  """
  found, total = dict.fromkeys(detectors, 0), 0
  for image in images:
    outputs = {name: detector([image]) for name, detector in detectors.items()}
    ours = outputs[reference]
    clear = np.flatnonzero(ours["scores"][0] > _CLEAR_SCORE)
    total += len(clear)
    for name, theirs in outputs.items():
      for index in clear:
        same = (
          (theirs["classes"][0] == ours["classes"][0, index])
          & (np.abs(theirs["scores"][0] - ours["scores"][0, index]) <= 1e-3)
          & (np.abs(theirs["boxes"][0] - ours["boxes"][0, index]).max(axis=1) <= 1.0)
        )
        found[name] += bool(same.any())
  return {name: count / total if total else None for name, count in found.items()}


def table_text(tables: Mapping[str, Sequence[Measured]]) -> str:
  """Returns what was measured as a table, by model."""
  lines = [
    "| model | format | AP | AP50 | MB | same boxes | ms an image |",
    "|---|---|---|---|---|---|---|",
  ]
  for name, rows in tables.items():
    for row in rows:
      same = "-" if row.same is None else f"{100 * row.same:.1f} %"
      lines.append(
        f"| {name} | {row.name} | {row.ap:.4f} | {row.ap50:.4f} | {row.megabytes:.1f} | {same} | "
        f"{row.milliseconds:.1f} |"
      )
  return "\n".join(lines)


def draw(tables: Mapping[str, Sequence[Measured]], path: Path) -> None:
  """Draws AP over latency: one panel per model, one point per format."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(6.5 * len(tables), 4.5), layout="constrained")
  all_axes = figure.subplots(1, len(tables), squeeze=False)[0]
  for axes, (name, rows) in zip(all_axes, tables.items(), strict=True):
    for row in rows:
      label = f"{row.name}, {row.megabytes:.0f} MB"
      axes.scatter(row.milliseconds, 100 * row.ap, s=60, label=label)
    aps = [100 * row.ap for row in rows]
    middle = statistics.mean(aps)
    # Less than this is next to nothing; a tenth more, so that no point lies on the edge.
    reach = max(2.0, 1.1 * max(abs(ap - middle) for ap in aps))
    axes.set_ylim(middle - reach, middle + reach)
    axes.set_xlim(left=0)
    axes.set_title(name)
    axes.set_xlabel("one image, ms")
    axes.set_ylabel("AP, %")
    axes.grid(alpha=0.3)
    axes.legend()
  figure.savefig(path, dpi=120)
