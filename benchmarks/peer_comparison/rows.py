"""The rows of the comparison: what is measured, how on either side, and which ratio is wanted."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from benchmarks.peer_comparison import data, model_garden, ours
from benchmarks.peer_comparison.measuring import Prepare, Settings


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the table.

  Attributes:
    name: for `--only`.
    title: for people, with fields of `Settings` in braces.
    unit: "ms", "s" or "MB", in which the table shows seconds and bytes.
    ours: prepares our side.
    peer: prepares the peer's side.
    at_most: the ratio that is wanted of ours to the peer's; None for a row that explains another.
    seconds: of a pair on two slow cores, for the time left.
    needs: what is made before, once for all runs.
    most_pairs: pairs where one takes so long that more are too many; None for as many as are asked
      for.
  """

  name: str
  title: str
  unit: str
  ours: Prepare
  peer: Prepare
  at_most: float | None
  seconds: float
  needs: tuple[Callable[[Settings], Path], ...] = (data.data,)
  most_pairs: int | None = None


_EXPORTS = (data.data, ours.trained, ours.exported, model_garden.trained, model_garden.exported)


def _at_width(
  name: str, title: str, function: str, num_filters: int, at_most: float | None, seconds: float
) -> Row:
  """Returns a row of a function that both sides have, of a detector with so many filters."""
  ours_at_width, peer_at_width = (
    functools.partial(getattr(side, function), num_filters=num_filters)
    for side in (ours, model_garden)
  )
  return Row(name, title, "ms", ours_at_width, peer_at_width, at_most, seconds)


def _input(image_size: int, at_most: float, needs: Callable[[Settings], Path]) -> Row:
  return Row(
    f"input_{image_size}",
    f"input with augmentation, processor time an image at {image_size} px",
    "ms",
    functools.partial(ours.input_pipeline, image_size=image_size),
    functools.partial(model_garden.input_pipeline, image_size=image_size),
    at_most,
    seconds=12,
    needs=(data.data, needs),
  )


def _evaluation(name: str, title: str, nms: str, at_most: float, seconds: float) -> Row:
  return Row(
    name,
    title,
    "s",
    ours.evaluation,
    functools.partial(model_garden.evaluation, nms=nms),
    at_most,
    seconds,
    needs=(data.data, ours.trained, model_garden.trained),
  )


ROWS = (
  Row("start", "process start to first train step", "s", ours.start, model_garden.start, 0.4, 75),
  _at_width("train_step_64", "train step @ 64", "train_step", 64, 0.6, 15),
  _at_width("train_step_256", "train step @ 256, equal arithmetic", "train_step", 256, 0.9, 25),
  _at_width("network_64", "network alone, forward and backward, @ 64", "network", 64, None, 12),
  _at_width("network_256", "network alone, forward and backward, @ 256", "network", 256, None, 20),
  _input(256, 0.5, data.data),
  _input(512, 0.35, data.large_data),
  _input(640, 0.35, data.large_data),
  _evaluation(
    "evaluation", "evaluation of 100 images, against its default", model_garden.DEFAULT_NMS, 0.2, 60
  ),
  _evaluation(
    "evaluation_batched",
    "evaluation of 100 images, against its `batched` NMS",
    model_garden.BEST_NMS,
    0.6,
    20,
  ),
  Row(
    "metrics",
    "COCO metrics of {metric_images:,} images x 100 detections, against pycocotools",
    "s",
    ours.metrics,
    model_garden.metrics,
    0.25,
    120,
    needs=(),
  ),
  Row("export", "export", "s", ours.export, model_garden.export, 0.2, 75, _EXPORTS),
  Row("load", "load of the SavedModel", "s", ours.load, model_garden.load, 0.15, 25, _EXPORTS),
  Row(
    "request",
    "request of one image, against its best NMS",
    "ms",
    ours.request,
    model_garden.request,
    0.6,
    5,
    (*_EXPORTS, model_garden.exported_with_best_nms),
  ),
  Row("memory", "peak memory of training", "MB", ours.memory, model_garden.memory, 0.6, 130),
  Row(
    "forward_r50",
    "R-50, 7 @ 256, 640 px: forward pass",
    "s",
    ours.forward_r50,
    model_garden.forward_r50,
    0.95,
    40,
  ),
  Row(
    "request_r50",
    "R-50, 7 @ 256, 640 px: request with NMS, against its default",
    "s",
    ours.request_r50,
    model_garden.request_r50,
    0.25,
    25,
  ),
  Row(
    "quickstart",
    "quickstart, against start, 60 steps, evaluation and export",
    "s",
    ours.quickstart,
    model_garden.quickstart,
    1.0,
    1000,
    most_pairs=1,
  ),
)
