"""The whole report of a run as one file."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from official_nasfpn.reporting.chart import Chart
from official_nasfpn.reporting.code_version import code_version
from official_nasfpn.reporting.templates import content_policy, style, templates
from official_nasfpn.training.analysis.analysis import STRICT_IOU, Analysis, ClassAnalysis
from official_nasfpn.training.analysis.boxes import EvaluatedBoxes, EvaluatedWith
from official_nasfpn.training.analysis.curves import COCO_DETECTIONS
from official_nasfpn.training.analysis.errors import (
  BOX_KINDS,
  DETECTION_KINDS,
  FOUND_IOU,
  Errors,
)
from official_nasfpn.training.coco_evaluation import METRICS, EvaluationResult
from official_nasfpn.training.experiment import Experiment, model_name
from official_nasfpn.training.report.coco_tables import CocoTables
from official_nasfpn.training.report.html import charts
from official_nasfpn.training.report.pictures import Picture
from official_nasfpn.training.report.verdict import next_steps, verdict

_HERE = Path(__file__).parent
# Charts of more classes, and a matrix of more, would make the page slow.
_MOST_CHARTS = 60
_MOST_IN_MATRIX = 25
_MOST_CONFUSIONS = 40


@dataclasses.dataclass(frozen=True)
class Pictures:
  """Images in the page.

  Attributes:
    worst: those with the most errors, the worst first.
    best: those with the highest F1, the best first.
    note: what a reader must know of them, such as why there are none.
  """

  worst: Sequence[Picture]
  best: Sequence[Picture]
  note: str


@dataclasses.dataclass(frozen=True)
class Evaluated:
  """An evaluation, looked at from all sides.

  Attributes:
    boxes: what was evaluated.
    made_with: how.
    analysis: of the boxes.
    tables: likewise, as COCO counts.
    pictures: of the images.
  """

  boxes: EvaluatedBoxes
  made_with: EvaluatedWith
  analysis: Analysis
  tables: CocoTables
  pictures: Pictures


@dataclasses.dataclass(frozen=True)
class Confusions:
  """Which classes are taken for which.

  Attributes:
    names: of the classes, the background last; empty where there are too many for a matrix.
    rows: numbers by annotated and detected class.
    shares: of the annotated boxes of the row's class, in percent.
    most: the most frequent confusions of two classes: annotated, detected, how often.
    left_out: confusions of two classes that are not in `most`.
  """

  names: tuple[str, ...]
  rows: tuple[tuple[int, ...], ...]
  shares: tuple[tuple[int, ...], ...]
  most: tuple[tuple[str, str, int], ...]
  left_out: int


def render_report(
  run: Path,
  experiment: Experiment,
  evaluated: Evaluated | None,
  why_not: str,
  result: EvaluationResult | None,
  train_curves: charts.Curves,
  validation_curves: charts.Curves,
  newest_step: int | None,
  best_step: int | None,
  now: float,
) -> str:
  """Returns the report of a run, complete in itself.

  Args:
    run: the run folder, as commands are to name it.
    experiment: its settings.
    evaluated: its last evaluation; None where its boxes are not known.
    why_not: a sentence that says why they are not.
    result: what the run folder has of the same evaluation, or, where that is None, of any; None
      where there is nothing.
    train_curves: steps and values by name.
    validation_curves: likewise.
    newest_step: of its newest checkpoint; None without one.
    best_step: of its best weights; None where it keeps none.
    now: Unix time.
  """
  analysis = evaluated and evaluated.analysis
  made_with = evaluated and evaluated.made_with
  parts: dict[str, Any] = {}
  if evaluated and analysis:
    size = len(evaluated.boxes.image_ids)
    full = np.bincount(evaluated.boxes.images) >= evaluated.made_with.max_detections
    parts = {
      "verdict": list(verdict(analysis, evaluated.tables, evaluated.made_with.part, size)),
      "num_full": int(full.sum()),
      "together_charts": _class_charts(analysis.together),
      "class_charts": _of_classes(analysis),
      "confusions": confusions(analysis.errors, evaluated.boxes),
      "detection_kinds": _kinds(DETECTION_KINDS, analysis.errors.detections_by_kind()),
      "box_kinds": _kinds(BOX_KINDS, analysis.errors.boxes_by_kind()),
    }
  return _TEMPLATES.get_template("page.html").render(
    policy=content_policy(images=True),
    style=style(_HERE / "run.css"),
    run=run.resolve().name,
    now=now,
    version=code_version(),
    model=model_name(experiment),
    facts=list(_facts(experiment, made_with, result)),
    evaluated=evaluated,
    analysis=analysis,
    why_not=why_not,
    result=result,
    newest_step=newest_step,
    best_step=best_step,
    next_steps=list(
      next_steps(run, analysis, made_with, newest_step if best_step is None else best_step)
    ),
    learning_charts=charts.learning_charts(train_curves, validation_curves),
    recipe=experiment.to_gin(),
    parts=parts,
  )


def confusions(errors: Errors, boxes: EvaluatedBoxes) -> Confusions:
  """Returns the confusion matrix, or of many classes the most frequent confusions."""
  names = [*(category.name for category in boxes.label_map.categories), "background"]
  matrix = errors.confusion
  mixed = matrix[:-1, :-1].copy()
  np.fill_diagonal(mixed, 0)
  order = np.argsort(-mixed, axis=None, kind="stable")[:_MOST_CONFUSIONS]
  most = [
    (names[row], names[column], int(mixed[row, column]))
    for row, column in zip(*np.unravel_index(order, mixed.shape), strict=True)
    if mixed[row, column]
  ]
  fits = boxes.num_classes <= _MOST_IN_MATRIX
  totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
  shares = np.round(100 * matrix / totals).astype(int)
  return Confusions(
    names=tuple(names) if fits else (),
    rows=tuple(map(tuple, matrix.tolist())) if fits else (),
    shares=tuple(map(tuple, shares.tolist())) if fits else (),
    most=tuple(most),
    left_out=int(mixed.sum()) - sum(number for *_, number in most),
  )


def _facts(
  experiment: Experiment, made_with: EvaluatedWith | None, result: EvaluationResult | None
) -> Iterator[tuple[str, str]]:
  """Yields name and text of what a reader must know to judge the figures."""
  training = experiment.training
  yield "detector", model_name(experiment)
  yield "training", f"{training.epochs:g} epochs in batches of {training.batch_size}"
  yield "seed", str(training.seed)
  if made_with:
    yield "dataset", f"{made_with.data_dir}, part {made_with.part}"
    yield "detections", f"above a score of {made_with.score_threshold:g}"
    yield "of an image", f"{made_with.max_detections} at most"
  if result and result.compute_dtype:
    yield "computed in", result.compute_dtype


def _class_charts(one: ClassAnalysis) -> list[Chart]:
  return [
    chart
    for chart in (
      charts.precision_chart(one, f"Precision over recall, {one.name}"),
      charts.f1_chart(one, f"F1 over score threshold, {one.name}"),
    )
    if chart
  ]


def _of_classes(analysis: Analysis) -> tuple[list[Chart], int, int]:
  """Returns the charts of the classes, how many classes they are of, and how many have boxes.

  Of many classes those with the most boxes are shown. One class alone is all together.
  """
  there = [one for one in analysis.classes if one.num_true]
  if len(analysis.classes) == 1:
    return [], 0, 0
  shown = (
    sorted(there, key=lambda one: -one.num_true)[:_MOST_CHARTS]
    if len(there) > _MOST_CHARTS
    else there
  )
  return [chart for one in shown for chart in _class_charts(one)], len(shown), len(there)


def _kinds(
  meanings: Mapping[str, str], numbers: Mapping[str, int]
) -> list[tuple[str, str, int, float]]:
  """Returns name, meaning, number and share of each kind."""
  total = max(sum(numbers.values()), 1)
  return [(kind, meanings[kind], numbers[kind], numbers[kind] / total) for kind in meanings]


_TEMPLATES = templates(_HERE)
_TEMPLATES.globals |= {
  "METRICS": METRICS,
  "FOUND_IOU": FOUND_IOU,
  "STRICT_IOU": STRICT_IOU,
  "COCO_DETECTIONS": COCO_DETECTIONS,
}
