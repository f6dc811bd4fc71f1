"""Checks an export: its AP must be that of the training's own evaluation, or near it in int8."""

import itertools
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.stored_images import stored_images
from official_nasfpn.errors import UserError
from official_nasfpn.printable import one_line
from official_nasfpn.progress import progress_bar, say
from official_nasfpn.serving.detectors.detector import Detector
from official_nasfpn.serving.export.model_file import export_file
from official_nasfpn.serving.formats import find_format
from official_nasfpn.training.checkpoint_files import checkpoints_in, step_of
from official_nasfpn.training.coco_evaluation import (
  EvaluationResult,
  detect_in_batches,
  evaluate_detections,
)
from official_nasfpn.training.evaluated_under import Conditions, conditions_of, difference
from official_nasfpn.training.run_folder import RunFolder

# Decoding and resizing are the same code; what is left is the order of sums. On 87 images of BCCD
# all figures agreed to four digits in float32; in bfloat16 AP differed by 0.0010, AP75 by 0.0035.
# Rounding weights to float16 moved AP by 0.001 there and by 0.010 on 16 drawn images.
# `auto`: the run's evaluation does not say which number format it had.
_TOLERANCE = {
  "float32": 1e-3,
  "float16": 2e-2,
  "mixed_bfloat16": 5e-3,
  "mixed_float16": 5e-3,
  "auto": 5e-3,
}
# Rounding moves single detections across a threshold, and the fewer boxes there are to find, the
# more each of them counts: with 29 boxes, bfloat16 moved AP by 0.014; with 125, by 0.003.
_BOXES_MOVED = {
  "float32": 0.0,
  "float16": 0.5,
  "mixed_bfloat16": 0.5,
  "mixed_float16": 0.5,
  "auto": 0.5,
}
# Computing in integers cost 0.002 and 0.004 of AP on 87 images of BCCD, and up to 0.01 elsewhere. A
# network that integers do not suit, with channels of very different ranges, loses nearly all.
INT8_LOSS = 0.02
_INT8_BOXES_LOST = 2.0
_NUM_CLASSES_SAID = 10
_BATCH_SIZE = 8


Metrics = Mapping[str, float | None]
# By exit number; None where there is one exit only.
Expected = Mapping[int | None, Metrics]


@dataclass(frozen=True)
class Check:
  """The AP of an export beside that of its training.

  Attributes:
    result: the evaluation of the export, with every exit of an anytime detector.
    expected: by exit (None if there is one only), the metrics of the run's own evaluation; empty if
      there was none of the same weights, settings and data.
    expected_class_ap: AP by class name, of the last exit; empty where it is not known of the exit.
    allowed_loss: the AP that an export in int8 may lose; None for others, whose AP must be equal.
    why_not: why the run's evaluation is not compared with, as a sentence's end; empty where it is.
  """

  result: EvaluationResult
  expected: Expected
  expected_class_ap: Mapping[str, float | None] = field(default_factory=dict)
  allowed_loss: float | None = None
  why_not: str = ""

  def metrics(self, exit_number: int | None) -> Metrics:
    """Returns the export's metrics at an exit."""
    return self.result.exit_metrics[exit_number - 1] if exit_number else self.result.metrics

  def table(self) -> str:
    """Returns both as lines for a person to read."""
    lines = [self.result.table()]
    if not self.expected:
      return "\n".join(
        [
          *lines,
          f"note: nothing was compared: {self.why_not}; `nasfpn train --model_dir RUN --mode "
          "evaluate`, without other settings, makes one that can be",
        ]
      )
    lines.append("AP of the export and of the training's own evaluation:")
    rows = {}
    for number, expected in self.expected.items():
      rows[f"exit {number}" if number else "all"] = self.metrics(number)["AP"], expected["AP"]
    for name, ap in self.expected_class_ap.items():
      rows[one_line(name)] = self.result.class_ap.get(name), ap
    width = max(map(len, rows))
    for name, (ours, theirs) in rows.items():
      if ours is not None and theirs is not None:
        lines.append(f"  {name:<{width}}  {ours:.4f}  {theirs:.4f}")
    if self.allowed_loss is not None:
      lines.append(f"An export in int8 may lose {self.allowed_loss:.3f} of AP on these images.")
    return "\n".join(lines)


def check_export(path: Path, folder: RunFolder) -> Check:
  """Evaluates an export on its run's evaluation part, and compares with the run's own evaluation.

  Where that is not of the same weights, settings and data, an export in int8 is compared with the
  same one in floats, which is made for it.

  Args:
    path: the export, of any format.
    folder: the run; its data must be at hand.

  Raises:
    UserError: the data is not there, or an AP differs by more than rounding explains; in int8, it
      is less by more than `Check.allowed_loss`.
  """
  experiment, _ = folder.load()
  dataset = DatasetInfo.load(experiment.input.data_dir or "")
  detector = Detector(path)
  part = experiment.input.evaluation_part
  result = evaluate_export(detector, dataset, part)
  file, stored, why_not = _stored_evaluation(detector, folder, conditions_of(experiment, dataset))
  expected, class_ap = _expected(detector, stored)
  stated = experiment.training.compute_dtype
  evaluated_in = stored.get("compute_dtype") or stated
  precision = detector.record.get("precision") or detector.record.get("compute_dtype", stated)
  num_boxes = max(dataset.parts[part].num_boxes, 1)
  if precision != "int8":
    check = Check(result, expected, class_ap, why_not=why_not)
    tolerance = max(_tolerance(name, num_boxes) for name in (precision, evaluated_in))
    _compare(check, path, file, tolerance)
    return check
  if not expected:
    say(f"comparing with the same export in float32: {why_not}")
    in_floats = _in_floats(detector, folder, dataset, part)
    expected, class_ap = {None: in_floats.metrics}, in_floats.class_ap
  check = Check(result, expected, class_ap, max(INT8_LOSS, _INT8_BOXES_LOST / num_boxes))
  _refuse_a_loss(check, path)
  return check


def _in_floats(
  detector: Detector, folder: RunFolder, dataset: DatasetInfo, part: str
) -> EvaluationResult:
  """Returns the evaluation of an export's weights in its format, but in float32."""
  step = detector.record["checkpoint_step"]
  # The best is older than what is kept of the others, and an export is of it where there is one.
  kept = [*checkpoints_in(folder.best), *checkpoints_in(folder.checkpoints)]
  checkpoint = next((path for path in kept if step_of(path) == step), None)
  if checkpoint is None:
    raise UserError(
      f"{detector.path} has nothing to be compared with: {folder.path} has neither an evaluation "
      f"nor the checkpoint of its weights, of step {step}. Export it again, from a checkpoint that "
      "is there."
    )
  with tempfile.TemporaryDirectory() as temporary:
    path = Path(temporary, "in_floats")
    format_ = find_format(detector.format)
    export_file(folder, checkpoint, path, format_, "float32", detector.record["exit"])
    return evaluate_export(Detector(path), dataset, part)


def _tolerance(precision: str, num_boxes: int) -> float:
  return max(_TOLERANCE[precision], _BOXES_MOVED[precision] / max(num_boxes, 1))


def evaluate_export(detector: Detector, dataset: DatasetInfo, part: str) -> EvaluationResult:
  """Returns the COCO figures of an export.

  Args:
    detector: the export, loaded.
    dataset: prepared data.
    part: the part of the dataset to evaluate on.
  """
  exits = detector.exits or (None,)
  images = stored_images(dataset, (part,))
  batches = iter(lambda: list(itertools.islice(images, _BATCH_SIZE)), [])
  with progress_bar(dataset.num_images((part,)), "check", "image") as bar:

    def detect(batch: list[tuple[int, bytes]]) -> tuple[list[Mapping[str, np.ndarray]], list[int]]:
      image_ids, encoded = map(list, zip(*batch, strict=True))
      detections = [detector(encoded, exit_number) for exit_number in exits]
      bar.update(len(batch))
      return detections, image_ids

    detections = detect_in_batches(batches, detect, detector.label_map)
  return evaluate_detections(detections, dataset.annotation_file(part), detector.label_map)


def _stored_evaluation(
  detector: Detector, folder: RunFolder, conditions: Conditions
) -> tuple[Path, Mapping[str, Any], str]:
  """Returns a run's evaluation, and what it says if an export may be compared with it.

  It is the last, or the best where the last is of other weights: a training that was interrupted
  has no other.

  Args:
    detector: the export.
    folder: the run.
    conditions: of the evaluation of the export.

  Returns:
    Its file, its content, and why there is none as a sentence's end.
  """
  exported_step = detector.record.get("checkpoint_step")
  file, stored = folder.evaluation_file, folder.evaluation()
  if stored is None or stored.get("step") != exported_step:
    best = folder.evaluation(folder.best_evaluation_file)
    if best and best.get("step") == exported_step:
      file, stored = folder.best_evaluation_file, best
  if stored is None:
    return file, {}, f"the run has no evaluation of these weights: there is no {file}"
  step = stored.get("step")
  if step not in (None, exported_step):
    why_not = (
      f"the run has no evaluation of these weights: {file} is of step {step}, the export of step "
      f"{exported_step}"
    )
    return file, {}, why_not
  if differs := difference(stored.get("conditions"), conditions):
    return file, {}, f"{file} {differs}"
  return file, stored, ""


def _expected(
  detector: Detector, stored: Mapping[str, Any]
) -> tuple[Expected, Mapping[str, float | None]]:
  """Returns the metrics of the run's evaluation by exit, and the AP by class of the last exit."""
  if not stored:
    return {}, {}
  by_exit = dict(enumerate(stored.get("exit_metrics", ()), start=1))
  class_ap = stored.get("class_ap", {})
  if detector.exits:
    return {number: by_exit[number] for number in detector.exits if number in by_exit}, class_ap
  exit_number = detector.record.get("exit")
  is_last = exit_number is None or exit_number >= max(by_exit, default=0)
  return {None: by_exit.get(exit_number, stored["metrics"])}, class_ap if is_last else {}


def _refuse_a_loss(check: Check, path: Path) -> None:
  """Raises a `UserError` if an export in int8 has lost more AP than is allowed."""
  (expected,) = check.expected.values()
  ours, theirs = check.result.metrics["AP"] or 0.0, expected["AP"] or 0.0
  if theirs - ours <= check.allowed_loss:
    return
  losses = {
    name: (ap, check.result.class_ap.get(name) or 0.0)
    for name, ap in check.expected_class_ap.items()
    if ap is not None
  }
  worst = sorted(losses, key=lambda name: losses[name][1] - losses[name][0])[:_NUM_CLASSES_SAID]
  by_class = ", ".join(
    f"{one_line(name)} {losses[name][0]:.3f} and {losses[name][1]:.3f}" for name in worst
  )
  others = f" and {len(losses) - len(worst)} more" if len(losses) > len(worst) else ""
  raise UserError(
    f"The AP of {path} is {ours:.3f} in int8 and {theirs:.3f} in floats: a loss of "
    f"{theirs - ours:.3f}, and {check.allowed_loss:.3f} is allowed."
    + (f" By class, in floats and in int8: {by_class}{others}." if by_class else "")
    + " Export with --precision float16, or calibrate int8 with more images, --calibration_images."
  )


def _compare(check: Check, path: Path, evaluation_file: Path, tolerance: float) -> None:
  for number, expected in check.expected.items():
    ours, theirs = check.metrics(number)["AP"] or 0.0, expected["AP"] or 0.0
    if abs(ours - theirs) > tolerance:
      where = f" of exit {number}" if number else ""
      raise UserError(
        f"The AP{where} of {path} is {ours:.3f}, and {evaluation_file} says {theirs:.3f}. "
        "Evaluate the run again (train --mode evaluate), in case its last evaluation is of an "
        "older checkpoint; if they still differ, the export is wrong."
      )
