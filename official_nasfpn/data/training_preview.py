"""A contact sheet of what a training sees: each augmentation of its recipe alone, then all."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from official.vision.ops import preprocess_ops
from PIL import Image

from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.drawing import draw_boxes, titled_rows
from official_nasfpn.data.input_pipeline import explained_train_images
from official_nasfpn.data.label_map import LabelMap

_COLUMNS = 4
_TRAINED_ROWS = 2
_PICTURE_WIDTH = 360
# Images of which boxes are counted.
_NUM_COUNTED = 64


@dataclass(frozen=True)
class TrainingPreview:
  """What a training sees of its first images.

  Attributes:
    sheet: for every augmentation a row of the same images with it alone, then the first images as
      they are trained on; below each what was done.
    num_images: images of the training that were counted.
    num_boxes: boxes in them.
    num_left_out: further boxes, for which `Input.max_num_boxes` had no place.
  """

  sheet: Image.Image
  num_images: int
  num_boxes: int
  num_left_out: int

  def as_text(self) -> str:
    """Returns the numbers as a sentence for a person to read."""
    counted = f"the first {self.num_images} training images have {self.num_boxes:,} boxes"
    if not self.num_left_out:
      return f"{counted}, and Input.max_num_boxes leaves out none"
    return (
      f"{counted} that are trained on, and {self.num_left_out:,} more that Input.max_num_boxes "
      "leaves out: raise it"
    )


def training_preview(
  config: InputConfig, image_size: tuple[int, int], seed: int, label_map: LabelMap
) -> TrainingPreview:
  """Returns the first images of a training, as the network would get them.

  Args:
    config: the data, and how it is augmented.
    image_size: height and width of the network's input.
    seed: of the training, whose images these are exactly, on one host and from its beginning.
    label_map: the names of the classes.

  Raises:
    UserError: the data directory is not whole, or holds no image of the wanted parts.
  """

  def images(config: InputConfig, count: int) -> list[Mapping[str, Any]]:
    dataset = explained_train_images(config, image_size, seed)
    return list(itertools.islice(dataset.as_numpy_iterator(), count))

  trained = images(config, _NUM_COUNTED)
  rows = [("Scale and flip alone", images(config.only(None), _COLUMNS))]
  for name, value in config.augmentations.items():
    alone = images(config.only(name), _COLUMNS)
    rows.append((f"Input.{name} alone; the recipe has {value:g}", alone))
  for row in range(_TRAINED_ROWS if config.augmentations else 0):
    title = "As trained" if row == 0 else "As trained, the next images"
    rows.append((title, trained[row * _COLUMNS : (row + 1) * _COLUMNS]))
  sheet = titled_rows(
    [(title, [_captioned(row, label_map) for row in pictures]) for title, pictures in rows]
  )
  num_boxes = sum(int((row["classes"] >= 0).sum()) for row in trained)
  found = sum(int(row["num_boxes"]) for row in trained)
  return TrainingPreview(sheet, len(trained), num_boxes, found - num_boxes)


def _captioned(row: Mapping[str, Any], label_map: LabelMap) -> tuple[str, Image.Image]:
  """Returns what was done to an image of `explained_train_images`, and its picture."""
  present = row["classes"] >= 0
  names = ", ".join(name.decode() for name in row["names"]) or "scale and flip"
  num_boxes, left_out = int(present.sum()), int(row["num_boxes"] - present.sum())
  caption = f"{names}; {num_boxes} {'box' if num_boxes == 1 else 'boxes'}"
  if left_out:
    caption += f", {left_out} left out"
  # What `preprocessing.normalize` did, undone.
  pixels = row["image"] * preprocess_ops.STDDEV_RGB + preprocess_ops.MEAN_RGB
  image = Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))
  factor = _PICTURE_WIDTH / image.width
  size = (_PICTURE_WIDTH, max(1, round(image.height * factor)))
  classes = row["classes"][present]
  texts = [label_map.name(index) for index in classes]
  return caption, draw_boxes(
    image.resize(size, Image.Resampling.BICUBIC),
    row["boxes"][present] * factor,
    classes,
    texts,
    min_side=_PICTURE_WIDTH,
  )
