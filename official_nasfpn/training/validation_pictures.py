"""Pictures in TensorBoard: annotations of validation images beside the detections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from official.vision.ops import preprocess_ops
from PIL import Image

from official_nasfpn.data.dataset_info import FILLER_ID, DatasetInfo
from official_nasfpn.data.drawing import draw_boxes, side_by_side
from official_nasfpn.data.input_pipeline import evaluation_dataset
from official_nasfpn.training.experiment import Experiment

NUM_PICTURES = 4
# The longer side of an image in pixels: labels are legible, and event files stay small.
_SIDE = 512


@dataclass(frozen=True)
class _Boxes:
  """Boxes to draw.

  Attributes:
    boxes: [n, 4], (ymin, xmin, ymax, xmax).
    classes: [n], class indices.
    scores: [n], best first; None for annotations.
  """

  boxes: np.ndarray
  classes: np.ndarray
  scores: np.ndarray | None = None


@dataclass(frozen=True)
class _Example:
  """A validation image.

  Attributes:
    id: its `image_id` in COCO results.
    image: the network's input without padding, scaled to `_SIDE` pixels at its longer side.
    scale: pixels of `image` for one of the image file, vertically and horizontally.
    annotated: its boxes in pixels of `image`.
  """

  id: int
  image: Image.Image
  scale: np.ndarray
  annotated: _Boxes


class ValidationPictures:
  """The first images of the evaluation part, drawn again after every evaluation.

  Args:
    experiment: all settings.
    dataset: the prepared data.
  """

  def __init__(self, experiment: Experiment, dataset: DatasetInfo):
    self._label_map = dataset.label_map
    batches = evaluation_dataset(experiment.input, experiment.detector.image_size, NUM_PICTURES)
    batch = {name: values.numpy() for name, values in next(iter(batches)).items()}
    self._examples = [
      _example({name: values[row] for name, values in batch.items()})
      for row in range(NUM_PICTURES)
      if batch["image_id"][row] != FILLER_ID
    ]

  def write(self, exits: Sequence[Sequence[Mapping]]) -> None:
    """Writes image summaries `pictures/IMAGE_ID` with TensorFlow's default writer and step.

    Of the detections the best are drawn, as many as there are annotated boxes: a fixed score would
    show nothing for the first half of a training.

    Orbit's controller sets both for the time of an evaluation.

    Args:
      exits: for every exit what it detected, in COCO's result format.
    """
    titles = ["detected"] if len(exits) == 1 else [f"exit {i}" for i in range(1, len(exits) + 1)]
    for example in self._examples:
      panels = {"annotated": example.annotated}
      for title, results in zip(titles, exits, strict=True):
        panels[title] = self._detected(example, results)
      picture = side_by_side(
        [(title, self._draw(example.image, boxes)) for title, boxes in panels.items()]
      )
      tf.summary.image(f"pictures/{example.id}", np.asarray(picture)[np.newaxis])

  def _draw(self, image: Image.Image, boxes: _Boxes) -> Image.Image:
    texts = [self._label_map.name(index) for index in boxes.classes]
    if boxes.scores is not None:
      texts = [f"{text} {score:.2f}" for text, score in zip(texts, boxes.scores, strict=True)]
    return draw_boxes(image, boxes.boxes, boxes.classes, texts, min_side=_SIDE)

  def _detected(self, example: _Example, results: Sequence[Mapping]) -> _Boxes:
    """Returns the best detections in one image, with boxes in pixels of its picture."""
    found = [result for result in results if result["image_id"] == example.id]
    found.sort(key=lambda result: result["score"], reverse=True)
    found = found[: max(1, len(example.annotated.classes))]
    boxes = np.array([result["bbox"] for result in found], np.float64).reshape(-1, 4)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)[:, [1, 0, 3, 2]]
    return _Boxes(
      boxes=corners * np.tile(example.scale, 2),
      classes=np.array(
        [self._label_map.index_of(result["category_id"]) for result in found], np.int32
      ),
      scores=np.array([result["score"] for result in found], np.float64),
    )


def _example(row: Mapping[str, np.ndarray]) -> _Example:
  """Returns the image of one row of a batch of `evaluation_dataset`."""
  height, width = row["scaled_size"].astype(int)
  # What `preprocessing.normalize` did, undone.
  pixels = row["image"] * preprocess_ops.STDDEV_RGB + preprocess_ops.MEAN_RGB
  pixels = np.clip(np.round(pixels[:height, :width]), 0, 255).astype(np.uint8)
  factor = _SIDE / max(height, width)
  size = max(1, round(width * factor)), max(1, round(height * factor))
  image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
  drawn_size = np.array([image.height, image.width])
  present = row["classes"] >= 0
  return _Example(
    id=int(row["image_id"]),
    image=image,
    scale=drawn_size / row["original_size"],
    annotated=_Boxes(
      boxes=row["boxes"][present] * np.tile(drawn_size / row["scaled_size"], 2),
      classes=row["classes"][present],
    ),
  )
