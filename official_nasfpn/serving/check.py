"""Whether an export finds what the evaluation of its training found."""

import json
from pathlib import Path

import tensorflow as tf

from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.errors import UserError
from official_nasfpn.progress import progress_bar
from official_nasfpn.serving.saved_detector import SavedDetector
from official_nasfpn.training.coco_evaluation import (
  EvaluationResult,
  coco_results,
  evaluate_coco_results,
  of_all_exits,
)
from official_nasfpn.training.run_folder import RunFolder

# Decoding and resizing are the same code; what is left is the order of sums. On 87 images of BCCD
# all figures agreed to four digits in float32; in bfloat16 AP differed by 0.0010, AP75 by 0.0035.
_TOLERANCE = {"float32": 1e-3, "mixed_bfloat16": 5e-3}
_BATCH_SIZE = 8


def check_export(saved_model: Path, folder: RunFolder) -> EvaluationResult:
  """Evaluates an export on its run's evaluation part, and compares with the run's own evaluation.

  Args:
    saved_model: the export.
    folder: of the run, whose data must be at hand.

  Returns:
    What the export reaches, at every exit of an anytime detector.

  Raises:
    UserError: the data is not there, or an AP differs by more than rounding explains.
  """
  experiment, _ = folder.load()
  dataset = DatasetInfo.load(experiment.input.data_dir or "")
  result = evaluate_export(SavedDetector(saved_model), dataset, experiment.input.evaluation_part)
  if folder.evaluation_file.is_file():
    expected = json.loads(folder.evaluation_file.read_text(encoding="utf-8"))
    tolerance = _TOLERANCE[experiment.training.compute_dtype]
    _compare(result, expected, saved_model, folder, tolerance)
  return result


def evaluate_export(detector: SavedDetector, dataset: DatasetInfo, part: str) -> EvaluationResult:
  """Returns the COCO figures of an export.

  Args:
    detector: the export, loaded.
    dataset: prepared data.
    part: of it, to evaluate on.
  """
  feature = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/source_id": tf.io.FixedLenFeature([], tf.string),
  }
  records = tf.data.TFRecordDataset(dataset.shard_paths([part]))
  batches = records.batch(_BATCH_SIZE).map(lambda rows: tf.io.parse_example(rows, feature))
  exits = detector.exits or (None,)
  results = [[] for _ in exits]
  ids = []
  with progress_bar(dataset.num_images((part,)), "check", "image") as bar:
    for batch in batches:
      encoded = batch["image/encoded"].numpy()
      batch_ids = [int(text) for text in batch["image/source_id"].numpy()]
      for found, exit_number in zip(results, exits, strict=True):
        found += coco_results(detector(encoded, exit_number), batch_ids, detector.label_map)
      ids += batch_ids
      bar.update(len(batch_ids))
  annotations = dataset.annotation_file(part)
  return of_all_exits(
    [evaluate_coco_results(annotations, found, detector.label_map, ids) for found in results]
  )


def _compare(
  result: EvaluationResult, expected: dict, saved_model: Path, folder: RunFolder, tolerance: float
) -> None:
  pairs = {"": (result.metrics, expected["metrics"])}
  for number, metrics in enumerate(expected.get("exit_metrics", ()), start=1):
    if number <= len(result.exit_metrics):
      pairs[f" of exit {number}"] = (result.exit_metrics[number - 1], metrics)
  for where, (ours, theirs) in pairs.items():
    if abs((ours["AP"] or 0.0) - (theirs["AP"] or 0.0)) > tolerance:
      raise UserError(
        f"The AP{where} of {saved_model} is {ours['AP']:.3f}, and {folder.evaluation_file} says "
        f"{theirs['AP']:.3f}. Evaluate the run again (train --mode evaluate), in case its last "
        "evaluation is of an older checkpoint; if they still differ, the export is wrong."
      )
