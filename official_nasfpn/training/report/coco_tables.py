"""COCO's AP by class and by size, at more sizes than COCO's own three."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from official_nasfpn.training.analysis.boxes import EvaluatedBoxes, coco_of_boxes
from official_nasfpn.training.analysis.curves import COCO_DETECTIONS

# From which side on, in pixels, of a square as large as the object; 32 and 96 are COCO's.
SIDES = (0, 16, 32, 64, 96, 192, 384)
_LARGEST = 1e5
_COCO_AREAS = (("all", 0, _LARGEST), ("APs", 0, 32), ("APm", 32, 96), ("APl", 96, _LARGEST))


@dataclasses.dataclass(frozen=True)
class SizeRow:
  """Objects of some size.

  Attributes:
    low: side in pixels of a square as large as the smallest.
    high: likewise of the largest; None without a bound.
    num_true: annotated boxes of that size.
    ap: COCO's AP of them, the mean over classes; None where undefined.
    ap50: likewise at IoU 0.5.
    recall: share that is found, the mean over classes and COCO's ten IoUs.
  """

  low: int
  high: int | None
  num_true: int
  ap: float | None
  ap50: float | None
  recall: float | None


@dataclasses.dataclass(frozen=True)
class CocoTables:
  """COCO's figures in detail; None is undefined.

  Attributes:
    metrics: AP, AP50, AP75, APs, APm, APl and AR of all classes.
    classes: the same of each class, by class index.
    sizes: by size, without those that no annotated box has.
  """

  metrics: dict[str, float | None]
  classes: tuple[dict[str, float | None], ...]
  sizes: tuple[SizeRow, ...]


def coco_tables(boxes: EvaluatedBoxes) -> CocoTables:
  """Evaluates boxes as COCO does, at most 100 detections of a class in an image."""
  content, results = coco_of_boxes(boxes)
  truth = COCO(content)
  evaluation = COCOeval_faster(truth, truth.loadRes(results), iouType="bbox")
  bounds = [*zip(SIDES, (*SIDES[1:], _LARGEST), strict=True)]
  ranges = [*((low, high) for _, low, high in _COCO_AREAS), *bounds]
  evaluation.params.catIds = [category.id for category in boxes.label_map.categories]
  evaluation.params.imgIds = boxes.image_ids.tolist()
  evaluation.params.maxDets = [COCO_DETECTIONS]
  evaluation.params.areaRng = [[low**2, high**2] for low, high in ranges]
  evaluation.params.areaRngLbl = [str(number) for number in range(len(ranges))]
  evaluation.evaluate()
  evaluation.accumulate()
  # Category ids come back sorted.
  place = np.argsort(np.argsort([category.id for category in boxes.label_map.categories]))
  # [IoU thresholds, recalls, classes, areas] and [IoU thresholds, classes, areas]; -1 is undefined.
  precision = evaluation.eval["precision"][..., -1][:, :, place]
  recall = evaluation.eval["recall"][..., -1][:, place]

  def row(classes: slice) -> dict[str, float | None]:
    chosen = precision[:, :, classes]
    return {
      "AP": _mean(chosen[..., 0]),
      "AP50": _mean(chosen[0, ..., 0]),
      "AP75": _mean(chosen[5, ..., 0]),
      **{name: _mean(chosen[..., area]) for area, (name, *_) in enumerate(_COCO_AREAS) if area > 0},
      "AR": _mean(recall[:, classes, 0]),
    }

  areas = boxes.true_areas[~boxes.crowds]
  sizes = []
  for number, (low, high) in enumerate(bounds, start=len(_COCO_AREAS)):
    num_true = int(((areas >= low**2) & (areas <= high**2)).sum())
    if num_true:
      sizes.append(
        SizeRow(
          low=low,
          high=None if math.isclose(high, _LARGEST) else int(high),
          num_true=num_true,
          ap=_mean(precision[..., number]),
          ap50=_mean(precision[0, ..., number]),
          recall=_mean(recall[..., number]),
        )
      )
  classes: Sequence[int] = range(boxes.num_classes)
  return CocoTables(
    metrics=row(slice(None)),
    classes=tuple(row(slice(index, index + 1)) for index in classes),
    sizes=tuple(sizes),
  )


def _mean(values: np.ndarray) -> float | None:
  values = values[values > -1]
  return float(values.mean()) if values.size else None
