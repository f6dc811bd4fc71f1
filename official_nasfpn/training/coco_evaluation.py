"""COCO's twelve numbers and AP per class, in the dataset's own category ids.

They are pycocotools' numbers, computed by faster-coco-eval in a fifth of the time; a test holds
both together. Model Garden's evaluator is not used: it feeds all padded detections to pycocotools
one dictionary at a time, knows nothing of ids with gaps, and reports an undefined AP as -1.
"""

import collections
import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from official_nasfpn.data.annotated_boxes import read_boxes
from official_nasfpn.data.dataset_info import FILLER_ID, DatasetInfo
from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json
from official_nasfpn.printable import one_line
from official_nasfpn.training.analysis.curves import COCO_DETECTIONS
from official_nasfpn.training.config import Metric

METRICS = get_args(Metric)
_AREA_OF_METRIC = {"s": "small (under 32x32 pixels)", "m": "medium", "l": "large (over 96x96)"}
# COCO's, in square pixels, both ends included.
_AREAS = {"s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}

_Batch = TypeVar("_Batch")


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
  """What an evaluation found.

  Attributes:
    metrics: each of `METRICS`, in [0, 1], or None where undefined.
    class_ap: AP by class name, or None where undefined.
    notes: for every undefined or zero figure, one sentence that says why.
    num_images: images evaluated.
    num_detections: detections given for them.
    exit_metrics: `metrics` of every exit of an anytime detector, the last one being `metrics`;
      empty where there is one exit only.
    compute_dtype: the number format that the detector computed in, a precision policy such as
      `mixed_bfloat16`; None where nobody said.
    step: the train step that the weights are of; None where nobody said.
    num_uncounted: detections that `metrics` leave out, as COCO does: those of a class in an image
      beyond the best 100. There are none where `Detector.max_detections` is 100 or less.
    uncut_metrics: `metrics` with those counted, too, AR100 being the recall of all detections; None
      where none is left out.
    analysis: counts and best score thresholds by class, and errors by kind; see
      `analysis.Analysis.summary`. None where it was not asked for, and in files of 0.1.
    conditions: the data and the settings that the figures depend on; see
      `evaluated_under.conditions_of`. None where nobody said.
  """

  metrics: Mapping[str, float | None]
  class_ap: Mapping[str, float | None]
  notes: tuple[str, ...]
  num_images: int
  num_detections: int
  exit_metrics: tuple[Mapping[str, float | None], ...] = ()
  compute_dtype: str | None = None
  step: int | None = None
  num_uncounted: int = 0
  uncut_metrics: Mapping[str, float | None] | None = None
  analysis: Mapping[str, Any] | None = None
  conditions: Mapping[str, Any] | None = None

  @classmethod
  def from_json(cls, text: str) -> "EvaluationResult":
    """Reads what `to_json` has written."""
    values = parse_json(text)
    for name in ("notes", "exit_metrics"):
      values[name] = tuple(values[name])
    return cls(**values)

  def to_json(self) -> str:
    """Returns all fields as indented JSON."""
    return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

  def table(self) -> str:
    """Returns the figures as lines for a person to read."""
    of_step = f", weights of step {self.step:,}" if self.step is not None else ""
    lines = [f"{self.num_images} images, {self.num_detections} detections{of_step}"]
    for half in (METRICS[:6], METRICS[6:]):
      lines.append("  ".join(f"{name} {_figure(self.metrics[name])}" for name in half))
    if self.uncut_metrics:
      figures = "  ".join(f"{name} {_figure(self.uncut_metrics[name])}" for name in METRICS[:3])
      recall = _figure(self.uncut_metrics["AR100"])
      lines.append(f"with all detections counted:  {figures}  AR {recall}")
    names = [one_line(name) for name in self.class_ap]
    width = max(map(len, names), default=0)
    lines.append("AP by class:")
    lines += [
      f"  {name:<{width}}  {_figure(ap)}"
      for name, ap in zip(names, self.class_ap.values(), strict=True)
    ]
    if self.analysis and (best := self.analysis["best_threshold"]):
      lines.append(
        f"best score threshold {best['threshold']:.3f}: {best['recall']:.1%} of the boxes are "
        f"found, {best['precision']:.1%} of the detections are right"
      )
    if self.exit_metrics:
      lines.append("by exit:")
    for number, metrics in enumerate(self.exit_metrics, start=1):
      figures = "  ".join(f"{name} {_figure(metrics[name])}" for name in METRICS[:6])
      lines.append(f"  {number:>2}  {figures}")
    return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

  def scalars(self) -> dict[str, float]:
    """Returns all figures by one name each, as for curves; undefined ones are left out."""
    figures = {
      **self.metrics,
      **{f"class_AP/{one_line(name)}": ap for name, ap in self.class_ap.items()},
    }
    for number, metrics in enumerate(self.exit_metrics[:-1], start=1):
      figures |= {f"exit_{number}/{name}": value for name, value in metrics.items()}
    return {name: value for name, value in figures.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class CocoDetections:
  """Everything that a detector found in some images.

  Attributes:
    exits: for every exit of the detector, its detections in COCO's result format.
    image_ids: the images, those without detections included.
  """

  exits: Sequence[Sequence[Mapping[str, Any]]]
  image_ids: Sequence[int]


def detect_in_batches(
  batches: Iterable[_Batch],
  detect: Callable[[_Batch], tuple[Sequence[Mapping[str, np.ndarray]], Sequence[int]]],
  label_map: LabelMap,
) -> CocoDetections:
  """Runs a detector over batches of images.

  Args:
    batches: anything that `detect` takes.
    detect: returns, for every exit, the detections in one batch as `coco_results` takes them, and
      the ids of the batch's images; `FILLER_ID` marks a padding row, which is left out.
    label_map: from class indices to the dataset's own category ids.
  """
  exits: list[list[dict]] = []
  image_ids: list[int] = []
  for batch in batches:
    detections, ids = detect(batch)
    exits = exits or [[] for _ in detections]
    for results, of_exit in zip(exits, detections, strict=True):
      results += coco_results(of_exit, ids, label_map)
    image_ids += [int(image_id) for image_id in ids if image_id != FILLER_ID]
  return CocoDetections(exits, image_ids)


def evaluate_detections(
  detections: CocoDetections, annotation_file: str | Path, label_map: LabelMap
) -> EvaluationResult:
  """Returns the last exit's evaluation, with the metrics of all exits where there are several.

  Args:
    detections: from `detect_in_batches`.
    annotation_file: COCO JSON with the ground truth.
    label_map: the classes to report.
  """
  exits = [
    evaluate_coco_results(annotation_file, results, label_map, detections.image_ids)
    for results in detections.exits
  ]
  if len(exits) == 1:
    return exits[0]
  return dataclasses.replace(exits[-1], exit_metrics=tuple(result.metrics for result in exits))


def require_defined(metric: str | None, info: DatasetInfo, part: str) -> None:
  """Refuses a metric to tell the best weights by that no evaluation could find.

  Args:
    metric: `Training.best_metric`; None asks for nothing.
    info: the prepared data.
    part: what is evaluated on.

  Raises:
    UserError: the part has no box that the metric is about.
  """
  if metric is None:
    return
  areas = read_boxes(info, (part,)).areas
  lowest, highest = _AREAS.get(metric[-1], (0, math.inf))
  if not np.any((areas >= lowest) & (areas <= highest)):
    size = _AREA_OF_METRIC.get(metric[-1])
    which = f"which is {size}" if size else "crowds aside"
    raise undefined_best(metric, f"{part} of {info.data_dir} has no annotated box, {which}")


def undefined_best(metric: str, reason: str) -> UserError:
  """Returns the error of a `Training.best_metric` that evaluations do not find."""
  return UserError(
    f"Training.best_metric = {metric!r} is undefined, so that it cannot tell which weights are the "
    f"best: {reason}. Choose another one, or None to keep the last weights."
  )


def _figure(value: float | None) -> str:
  return "undefined" if value is None else f"{value:.3f}"


def coco_results(
  detections: Mapping[str, np.ndarray], image_ids: Sequence[int], label_map: LabelMap
) -> list[dict]:
  """Turns padded detections into COCO's result format.

  Args:
    detections: `boxes` float [batch, n, 4] as (ymin, xmin, ymax, xmax) in pixels of the original
      image, `scores` float [batch, n], `classes` int [batch, n] class indices, `num_detections`
      int [batch].
    image_ids: one for each row; `FILLER_ID` marks a padding row, which is left out.
    label_map: from class indices to the dataset's own category ids.
  """
  results = []
  for row, image_id in enumerate(image_ids):
    if image_id == FILLER_ID:
      continue
    count = int(detections["num_detections"][row])
    boxes = np.asarray(detections["boxes"][row, :count], np.float64)
    corners = boxes[:, [1, 0, 3, 2]]
    corners[:, 2:] -= corners[:, :2]
    for box, score, index in zip(
      corners.tolist(),
      np.asarray(detections["scores"][row, :count], np.float64).tolist(),
      detections["classes"][row, :count].tolist(),
      strict=True,
    ):
      results.append(
        {
          "image_id": int(image_id),
          "category_id": label_map.category_id(index),
          "bbox": box,
          "score": score,
        }
      )
  return results


def evaluate_coco_results(
  annotations: str | Path | dict[str, Any],
  results: Sequence[Mapping],
  label_map: LabelMap,
  image_ids: Sequence[int] | None = None,
) -> EvaluationResult:
  """Evaluates detections as COCO does.

  Args:
    annotations: COCO JSON with the ground truth, a file or what it holds.
    results: COCO's result format, boxes as (x, y, width, height).
    label_map: the classes to report.
    image_ids: the images that were looked at; None for all of the annotations.
  """
  truth = COCO(annotations if isinstance(annotations, dict) else str(annotations))
  # Loading adds keys to every detection; the caller's stay as they are.
  detections = truth.loadRes([dict(result) for result in results])
  evaluation = COCOeval_faster(truth, detections, iouType="bbox")
  evaluation.params.catIds = [category.id for category in label_map.categories]
  if image_ids is not None:
    evaluation.params.imgIds = sorted(set(image_ids))
  evaluation.run()
  looked_at = evaluation.params.imgIds
  metrics = _metrics(evaluation)
  num_uncounted, most = _beyond_the_limit(results, looked_at, evaluation.params.catIds)
  uncut_metrics = None
  if num_uncounted:
    uncut = COCOeval_faster(truth, detections, iouType="bbox")
    uncut.params.catIds, uncut.params.imgIds = evaluation.params.catIds, looked_at
    uncut.params.maxDets = [1, 10, most]
    uncut.run()
    uncut_metrics = _metrics(uncut)
  class_ap = _class_ap(evaluation, label_map)
  return EvaluationResult(
    metrics=metrics,
    class_ap=class_ap,
    notes=_notes(metrics, class_ap, results, truth, looked_at, num_uncounted),
    num_images=len(looked_at),
    num_detections=len(results),
    num_uncounted=num_uncounted,
    uncut_metrics=uncut_metrics,
  )


def _metrics(evaluation: COCOeval_faster) -> dict[str, float | None]:
  return {
    name: None if value < 0 else float(value)
    for name, value in zip(METRICS, evaluation.stats, strict=True)
  }


def _beyond_the_limit(
  results: Sequence[Mapping], image_ids: Iterable[int], category_ids: Iterable[int]
) -> tuple[int, int]:
  """Returns how many detections COCO leaves out, and the most of one class in one image."""
  images, categories = set(image_ids), set(category_ids)
  numbers = collections.Counter(
    (result["image_id"], result["category_id"])
    for result in results
    if result["image_id"] in images and result["category_id"] in categories
  )
  beyond = sum(max(number - COCO_DETECTIONS, 0) for number in numbers.values())
  return beyond, max(numbers.values(), default=0)


def _class_ap(evaluation: COCOeval_faster, label_map: LabelMap) -> dict[str, float | None]:
  # [IoU thresholds, recalls, classes, all areas, 100 detections]; -1 where a class has no truth.
  precision = evaluation.eval["precision"][:, :, :, 0, -1]
  class_ap = {}
  for index, category in enumerate(label_map.categories):
    values = precision[:, :, index]
    values = values[values > -1]
    class_ap[category.name] = float(values.mean()) if values.size else None
  return class_ap


def _notes(
  metrics, class_ap, results, truth: COCO, image_ids, num_uncounted: int
) -> tuple[str, ...]:
  notes = []
  if num_uncounted:
    notes.append(
      f"COCO counts the best {COCO_DETECTIONS} detections of a class in an image, and leaves "
      f"{num_uncounted:,} more out: Detector.max_detections is greater"
    )
  annotated = truth.getAnnIds(imgIds=image_ids, iscrowd=False)
  if not annotated:
    notes.append("every AP is undefined: no image here has an annotated box")
  else:
    for name, value in metrics.items():
      if value is None:
        notes.append(f"{name} is undefined: no annotated box is {_AREA_OF_METRIC[name[-1]]}")
    missing = [one_line(name) for name, ap in class_ap.items() if ap is None]
    if missing:
      shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
      notes.append(f"AP is undefined for {shown}: no annotated box of that class here")
    if not results:
      notes.append("AP is 0: no detection reached Detector.score_threshold; train longer")
    elif metrics["AP50"] == 0.0:
      notes.append("AP50 is 0: no detection overlaps a box of its class by half; train longer")
  return tuple(notes)
