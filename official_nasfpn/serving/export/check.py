"""Checks an export: its AP must be that of the training's own evaluation."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.stored_images import stored_images
from official_nasfpn.errors import UserError
from official_nasfpn.progress import progress_bar
from official_nasfpn.serving.detectors.detector import Detector
from official_nasfpn.training.coco_evaluation import (
  EvaluationResult,
  detect_in_batches,
  evaluate_detections,
)
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
_BATCH_SIZE = 8


Metrics = Mapping[str, float | None]
# By exit number; None where there is one exit only.
Expected = Mapping[int | None, Metrics]


@dataclass(frozen=True)
class Check:
  """The AP of an export beside that of its training.

  Attributes:
    result: the evaluation of the export, with every exit of an anytime detector.
    expected: by exit (None if there is one only), the metrics of the run's own last evaluation;
      empty if there was none of the same weights.
  """

  result: EvaluationResult
  expected: Expected

  def metrics(self, exit_number: int | None) -> Metrics:
    """Returns the export's metrics at an exit."""
    return self.result.exit_metrics[exit_number - 1] if exit_number else self.result.metrics

  def table(self) -> str:
    """Returns both as lines for a person to read."""
    lines = [self.result.table(), "AP of the export and of the training's last evaluation:"]
    for number, expected in self.expected.items():
      ours, theirs = self.metrics(number)["AP"], expected["AP"]
      if None not in (ours, theirs):
        lines.append(f"  {f'exit {number}' if number else 'all'}  {ours:.4f}  {theirs:.4f}")
    return "\n".join(lines)


def check_export(path: Path, folder: RunFolder) -> Check:
  """Evaluates an export on its run's evaluation part, and compares with the run's own evaluation.

  Args:
    path: the export, of any format.
    folder: the run; its data must be at hand.

  Raises:
    UserError: the data is not there, or an AP differs by more than rounding explains. An export in
      int8 passes with any AP.
  """
  experiment, _ = folder.load()
  dataset = DatasetInfo.load(experiment.input.data_dir or "")
  detector = Detector(path)
  result = evaluate_export(detector, dataset, experiment.input.evaluation_part)
  check = Check(result, _expected(detector, folder))
  stated = experiment.training.compute_dtype
  evaluated_in = _evaluated_in(folder) or stated
  precision = detector.record.get("precision") or detector.record.get("compute_dtype", stated)
  if precision != "int8":
    num_boxes = dataset.parts[experiment.input.evaluation_part].num_boxes
    _compare(
      check, path, folder, max(_tolerance(name, num_boxes) for name in (precision, evaluated_in))
    )
  return check


def _evaluated_in(folder: RunFolder) -> str | None:
  """Returns the number format of the run's last evaluation, if that says it."""
  if not folder.evaluation_file.is_file():
    return None
  return json.loads(folder.evaluation_file.read_text(encoding="utf-8")).get("compute_dtype")


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


def _expected(detector: Detector, folder: RunFolder) -> Expected:
  if not folder.evaluation_file.is_file():
    return {}
  stored = json.loads(folder.evaluation_file.read_text(encoding="utf-8"))
  if stored.get("step") not in (None, detector.record.get("checkpoint_step")):
    return {}  # It is of other weights of the run.
  by_exit = dict(enumerate(stored.get("exit_metrics", ()), start=1))
  if detector.exits:
    return {number: by_exit[number] for number in detector.exits if number in by_exit}
  return {None: by_exit.get(detector.record.get("exit"), stored["metrics"])}


def _compare(check: Check, path: Path, folder: RunFolder, tolerance: float) -> None:
  for number, expected in check.expected.items():
    ours, theirs = check.metrics(number)["AP"] or 0.0, expected["AP"] or 0.0
    if abs(ours - theirs) > tolerance:
      where = f" of exit {number}" if number else ""
      raise UserError(
        f"The AP{where} of {path} is {ours:.3f}, and {folder.evaluation_file} says {theirs:.3f}. "
        "Evaluate the run again (train --mode evaluate), in case its last evaluation is of an "
        "older checkpoint; if they still differ, the export is wrong."
      )
