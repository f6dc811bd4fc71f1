"""The boxes of a prepared dataset as arrays, and where they lie in the network's input.

Reads the annotations beside the TFRecords, which hold the same boxes: a look at all boxes needs
neither images nor TensorFlow.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from official_nasfpn.data.config import MIN_BOX_SIDE
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.report import PROBLEMS
from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json


@dataclasses.dataclass(frozen=True)
class AnnotatedBoxes:
  """Boxes and their images; crowds, which are not trained on, are left out.

  Attributes:
    boxes: float64 [boxes, 4], (ymin, xmin, ymax, xmax) in pixels of the image file.
    classes: int64 [boxes], class indices.
    images: int64 [boxes], rows of `image_sizes` and `file_names`.
    areas: float64 [boxes], in square pixels, as COCO's metrics by size take them.
    image_sizes: float64 [images, 2], height and width.
    file_names: of the images.
    class_names: of all classes.
    class_counts: number of boxes of each class in the data, also where `boxes` are a sample.
  """

  boxes: np.ndarray
  classes: np.ndarray
  images: np.ndarray
  areas: np.ndarray
  image_sizes: np.ndarray
  file_names: tuple[str, ...]
  class_names: tuple[str, ...]
  class_counts: tuple[int, ...]

  def sample(self, max_boxes: int, min_per_class: int) -> "AnnotatedBoxes":
    """Returns at most so many boxes, of every class about as many; always the same ones.

    Args:
      max_boxes: how many at most; more if the classes need them.
      min_per_class: of a class that has so many, no fewer are left.
    """
    if len(self.boxes) <= max_boxes:
      return self
    present = np.unique(self.classes)
    share = max(max_boxes // len(present), min_per_class)
    kept = []
    for index in present:
      # Prepared images are in random order, so equal distances are as good as a random choice.
      of_class = np.flatnonzero(self.classes == index)
      places = np.linspace(0, len(of_class) - 1, min(share, len(of_class))).astype(int)
      kept.append(of_class[places])
    chosen = np.sort(np.concatenate(kept))
    return dataclasses.replace(
      self,
      boxes=self.boxes[chosen],
      classes=self.classes[chosen],
      images=self.images[chosen],
      areas=self.areas[chosen],
    )

  def in_network(
    self, image_size: tuple[int, int], scale: float = 1.0
  ) -> tuple[np.ndarray, np.ndarray]:
    """Scales all boxes as the input pipeline does.

    Args:
      image_size: height and width of the network's input.
      scale: factor of the multi-scale jitter; 1 fits the image, as in evaluation. Of an image that
        is larger than the network's input the middle is taken, where the pipeline draws a place.

    Returns:
      float64 [boxes, 4], corners in pixels of the network's input; and bool [boxes], whether
      enough of a box is inside to be trained on.
    """
    # Sides are rounded in float32, as in `preprocessing.fitted_size`.
    size = np.array(image_size, np.float32)
    originals = self.image_sizes.astype(np.float32)
    factor = (np.round(np.float32(scale) * size) / originals).min(axis=1, keepdims=True)
    scaled = np.maximum(np.round(originals * factor), 1).astype(np.float64)
    offset = np.floor(np.maximum(scaled - size, 0) / 2)
    per_pixel = scaled / self.image_sizes
    boxes = self.boxes * np.tile(per_pixel, 2)[self.images] - np.tile(offset, 2)[self.images]
    boxes = np.clip(boxes, 0, np.tile(size, 2))
    return boxes, np.all(boxes[:, 2:] - boxes[:, :2] >= MIN_BOX_SIDE, axis=1)


def require_boxes(info: DatasetInfo, parts: Sequence[str], purpose: str) -> None:
  """Refuses parts without a box that can be learnt, before any time is spent on them.

  Args:
    info: the prepared dataset.
    parts: names of parts.
    purpose: what the boxes are for, as in "train on".

  Raises:
    UserError: the parts hold no images, or no box that is not a crowd.
  """
  num_boxes = sum(info.parts[name].num_boxes for name in parts if name in info.parts)
  # Crowds are counted over all parts: only where they may be all is there more to read.
  num_crowds = info.report.get("boxes_crowd", {}).get("count", 0)
  if num_boxes > num_crowds or (num_boxes and len(read_boxes(info, parts).boxes)):
    return
  problems = [
    f"{found['count']:,} {PROBLEMS.get(problem, problem)}"
    for problem, found in info.report.items()
    if problem.startswith("boxes_")
  ]
  said = f" Preparing it said: {'; '.join(problems)}." if problems else ""
  raise UserError(
    f"{info.data_dir} has nothing to {purpose}: {' and '.join(parts)} have "
    f"{info.num_images(parts):,} images and no box, crowds aside.{said} Mend the annotations and "
    "prepare them again."
  )


def read_boxes(info: DatasetInfo, parts: Sequence[str]) -> AnnotatedBoxes:
  """Reads the boxes of some parts of a dataset.

  Args:
    info: the prepared dataset.
    parts: names of parts.

  Raises:
    UserError: the annotations of a part are damaged.
  """
  class_index = {category.id: index for index, category in enumerate(info.label_map.categories)}
  boxes, classes, images, areas, sizes, names = [], [], [], [], [], []
  for part in parts:
    path = info.annotation_file(part)
    try:
      content = parse_json(path.read_text(encoding="utf-8"))
      row_of_image = {}
      for image in content["images"]:
        row_of_image[image["id"]] = len(names)
        sizes.append((image["height"], image["width"]))
        names.append(image["file_name"])
      for row in content["annotations"]:
        if not row["iscrowd"]:
          boxes.append(row["bbox"])
          classes.append(class_index[row["category_id"]])
          images.append(row_of_image[row["image_id"]])
          areas.append(row["area"])
    except (ValueError, KeyError, TypeError) as error:
      raise UserError(f"{path} is damaged ({error!r}). Prepare the dataset again.") from error
  class_names = tuple(category.name for category in info.label_map.categories)
  left, top, width, height = np.array(boxes, np.float64).reshape(-1, 4).T
  found = np.array(classes, np.int64)
  return AnnotatedBoxes(
    boxes=np.stack([top, left, top + height, left + width], axis=1),
    classes=found,
    images=np.array(images, np.int64),
    areas=np.array(areas, np.float64),
    image_sizes=np.array(sizes, np.float64).reshape(-1, 2),
    file_names=tuple(names),
    class_names=class_names,
    class_counts=tuple(np.bincount(found, minlength=len(class_names)).tolist()),
  )
