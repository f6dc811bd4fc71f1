"""What the figures of a run come to, in sentences, and what to do next."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from official_nasfpn.training.analysis.analysis import Analysis
from official_nasfpn.training.analysis.boxes import EvaluatedWith
from official_nasfpn.training.report.coco_tables import CocoTables

_ADVICE = {
  "missed": (
    "Such boxes are often too small for the anchors, or of a class with few examples: see AP over "
    "size and the counts of the classes."
  ),
  "wrong class": "The confusion matrix shows which classes are taken for which.",
  "doubled": "Several detections of one object remain: lower Detector.nms_iou_threshold.",
  "loose": "Boxes do not fit: train longer, or on larger images.",
  "background": (
    "Detections where nothing is annotated: look at the worst images first, as some may be objects "
    "that nobody has annotated."
  ),
}


def verdict(analysis: Analysis, tables: CocoTables, part: str, num_images: int) -> Iterator[str]:
  """Yields what a person should know first, in sentences."""
  together = analysis.together
  if not together.num_true:
    yield f"No image of the part {part} has an annotated box, so nothing can be measured."
    return
  if not together.num_detected:
    yield (
      "Nothing was detected at all: every score is at or below Detector.score_threshold. Train "
      "longer."
    )
    return
  metrics = tables.metrics
  yield (
    f"AP is {metrics['AP']:.3f} and AP50 {metrics['AP50']:.3f}, on {num_images:,} images of the "
    f"part {part}."
  )
  point = together.best
  if point is None:
    yield "No detection has an IoU of 0.5 with a box of its class. Train longer."
    return
  yield (
    f"With detections from a score of {point.threshold:.3g} on, {point.recall:.0%} of the "
    f"{together.num_true:,} annotated boxes are found, and {point.precision:.0%} of the detections "
    "are right."
  )
  unseen = [
    one.name
    for index, one in enumerate(analysis.classes)
    if one.best and not analysis.errors.confusion[index, index]
  ]
  if unseen:
    yield (
      f"Nothing of {_listed(unseen)} is found from there on; a threshold for each class is in the "
      "table."
    )
  kind, number = worst_kind(analysis)
  if number:
    yield f"The most frequent error: {kind}, {number:,} times. {_ADVICE[kind]}"
  known = [
    (row["AP"], one)
    for row, one in zip(tables.classes, analysis.classes, strict=True)
    if row["AP"] is not None
  ]
  if len(known) > 1:
    ap, weakest = min(known, key=lambda pair: pair[0])
    yield f"The weakest class is {weakest.name}: AP {ap:.3f}, with {weakest.num_true:,} boxes."


def _listed(names: Sequence[str]) -> str:
  shown = ", ".join(names[:3])
  return f"{shown} and {len(names) - 3} other classes" if names[3:] else shown


def worst_kind(analysis: Analysis) -> tuple[str, int]:
  """Returns the most frequent kind of error, and how often there is it."""
  kinds = analysis.errors.detections_by_kind()
  del kinds["correct"]
  kinds["missed"] = analysis.errors.boxes_by_kind()["missed"]
  kind = max(kinds, key=lambda name: kinds[name])
  return kind, kinds[kind]


def next_steps(
  run: Path, analysis: Analysis | None, made_with: EvaluatedWith | None, step_to_use: int | None
) -> Iterator[tuple[str, str]]:
  """Yields reasons and commands.

  Args:
    run: the run folder.
    analysis: of the evaluated boxes.
    made_with: what the boxes were made with.
    step_to_use: of the checkpoint that evaluations and exports take; None without one.
  """
  place = shlex.quote(str(run))
  if made_with is None or (step_to_use is not None and step_to_use != made_with.step):
    if step_to_use is None:
      yield "Train it:", f"nasfpn train --model_dir {place}"
      return
    reason = (
      "This is of another checkpoint than an export takes" if made_with else "No boxes are known"
    )
    yield (
      f"{reason}. Evaluate the one of step {step_to_use:,}, and write this page again:",
      f"nasfpn train --model_dir {place} --mode evaluate\nnasfpn report {place}",
    )
    return
  if analysis and analysis.together.best:
    export = shlex.quote(f"{run}_export")
    yield (
      "To detect with the score threshold that is best here:",
      f"nasfpn export --model_dir {place} --output_dir {export} --check\n"
      f"nasfpn detect --export_dir {export} --images FOLDER --output_dir OUT "
      f"--score_threshold {analysis.together.best.threshold:.4g}",
    )
