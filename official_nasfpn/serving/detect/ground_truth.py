"""The annotations of the images that `detect` is given: their ids, their boxes, and the AP."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from official_nasfpn.data.coco_json import (
  AnnotatedImage,
  Box,
  clean_boxes,
  coco_content,
  coco_dataset,
  note_other_size,
  parse_coco_json,
)
from official_nasfpn.data.image_files import possible_names
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.data.report import Report
from official_nasfpn.data.text_ids import with_number_ids
from official_nasfpn.errors import UserError
from official_nasfpn.progress import say
from official_nasfpn.serving.detect.detection import InputImage
from official_nasfpn.training.coco_evaluation import EvaluationResult, evaluate_coco_results


class GroundTruth:
  """The COCO JSON of some images.

  Attributes:
    path: the file.
    report: what was dropped or mended in reading it, and in the images once they are evaluated.
  """

  def __init__(self, path: str | Path):
    """Reads the file.

    Args:
      path: COCO JSON; `area`, `iscrowd` and segmentations may be missing.

    Raises:
      UserError: it is missing or is not COCO JSON.
    """
    self.path = Path(path)
    content = with_number_ids(parse_coco_json(self.path))
    self.report = Report()
    self._dataset = coco_dataset(content, path, self.report)
    self._by_name: dict[str, list[AnnotatedImage]] = defaultdict(list)
    self._by_last_part: dict[str, list[AnnotatedImage]] = defaultdict(list)
    for image in self._dataset.images:
      for name, is_last_part in _normal_names(image).items():
        (self._by_last_part if is_last_part else self._by_name)[name].append(image)

  @property
  def text_ids(self) -> Mapping[int, str]:
    """What the dataset calls images whose id is text, by the number given to them."""
    return {image.id: image.text_id for image in self._dataset.images if image.text_id is not None}

  def find_images(self, paths: Sequence[Path]) -> list[InputImage]:
    """Returns those of some image files that are annotated, with their ids and sizes.

    Names count as `nasfpn prepare` counts them. A line says of how many files the last part of the
    name alone was found, how many are left out, because that is several images', and how many
    are not annotated.

    Args:
      paths: image files. `file_name` in the annotations may hold folders: the longest end of a path
        that is a `file_name` counts. Of other paths the last part does, where it is that of no
        other file or annotated image.

    Raises:
      UserError: none of the files is annotated, two are the same annotated image, or one has
        several ids.
    """
    found = {path: annotated for path in paths if (annotated := self._find(path))}
    guessed, ambiguous = self._find_by_last_part(paths, found)
    path_of_id: dict[int, Path] = {}
    images: list[InputImage] = []
    for path in paths:
      annotated = found.get(path) or guessed.get(path)
      if annotated is None:
        continue
      if annotated.id in path_of_id:
        raise UserError(
          f"{path_of_id[annotated.id]} and {path} are both {annotated.file_name!r} of {self.path}."
        )
      path_of_id[annotated.id] = path
      images.append(InputImage(path, annotated.id, annotated.size))
    if not images:
      example = self._dataset.images[0].file_name
      reason = f": {_left_out(ambiguous)}" if ambiguous else ""
      raise UserError(
        f"{self.path} annotates none of the images; its first is {example!r}{reason}."
      )
    if guessed:
      path, annotated = next(iter(guessed.items()))
      say(
        f"{len(guessed)} of the images are found by the last part of their names: {self.path} has "
        f"them in other folders. The first is {path}, annotated as {annotated.file_name!r}."
      )
    if ambiguous:
      say(f"{_left_out(ambiguous)}.")
    others = {*found, *guessed, *ambiguous}
    if unknown := [path for path in paths if path not in others]:
      say(
        f"{len(unknown)} of the {len(paths)} images are left out, because {self.path} does not "
        f"annotate them; the first is {unknown[0]}."
      )
    return images

  def evaluate(
    self,
    results: Sequence[Mapping],
    sizes: Mapping[int, tuple[int, int]],
    label_map: LabelMap,
  ) -> EvaluationResult:
    """Evaluates detections as COCO does, and reports on the images.

    Args:
      results: COCO's result format.
      sizes: width and height by image id, of the images that were looked at.
      label_map: the classes to report, those of the detector.
    """
    looked_at = [image for image in self._dataset.images if image.id in sizes]
    boxes = []
    for image in looked_at:
      note_other_size(image, sizes[image.id], self.report)
      boxes.append(self._clean_boxes(image, sizes[image.id], label_map, self.report))
      if not boxes[-1]:
        self.report.note("images_without_boxes", image.file_name)
    ids = [image.id for image in looked_at]
    annotations = coco_content([{"id": id_} for id_ in ids], boxes, label_map)
    return evaluate_coco_results(annotations, results, label_map, ids)

  def boxes(
    self, image_id: int, size: tuple[int, int], label_map: LabelMap
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the annotated boxes of an image, crowds left out, and their classes.

    Args:
      image_id: the image's id in the annotations.
      size: width and height of the image in pixels.
      label_map: the detector's classes; boxes of others are left out.

    Returns:
      float64 [n, 4], (ymin, xmin, ymax, xmax) in pixels, and int32 [n], class indices.
    """
    (image,) = (image for image in self._dataset.images if image.id == image_id)
    # `evaluate` reports on all images, each once.
    boxes = self._clean_boxes(image, size, label_map, Report())
    boxes = [box for box in boxes if not box.is_crowd]
    corners = [(box.y, box.x, box.y + box.height, box.x + box.width) for box in boxes]
    classes = np.array([box.class_index for box in boxes], np.int32)
    return np.array(corners, np.float64).reshape(-1, 4), classes

  def check_categories(self, label_map: LabelMap) -> None:
    """Refuses annotations whose categories are not those of the detector.

    Args:
      label_map: the detector's classes.

    Raises:
      UserError: no id in common, or one id with two names.
    """
    theirs = self._classes(label_map)
    if not theirs:
      by_number = sorted(label_map.categories, key=lambda category: category.id)
      ids = [category.dataset_id for category in by_number[:8]]
      raise UserError(
        f"{self.path} has none of the detector's category ids {ids}: it annotates another dataset."
      )
    for own, index in theirs.items():
      category, detected = self._dataset.label_map.categories[own], label_map.categories[index]
      if _plain_name(category) != _plain_name(detected):
        raise UserError(
          f"{self.path} calls category {category.dataset_id} {category.name!r}, the detector calls "
          f"it {detected.name!r}: they are of different datasets."
        )

  def _classes(self, label_map: LabelMap) -> dict[int, int]:
    """Returns the detector's class index by that of the annotations, of what both have.

    Numbers of ids that are text are made up, and differ between files with other classes.
    """
    categories = self._dataset.label_map.categories
    by_id = {category.id: index for index, category in enumerate(label_map.categories)}
    same_id = {
      own: by_id[category.id] for own, category in enumerate(categories) if category.id in by_id
    }
    if all(category.text_id is None for category in label_map.categories):
      return same_id
    by_text = {str(category.dataset_id): i for i, category in enumerate(label_map.categories)}
    same_text = {
      own: by_text[str(category.dataset_id)]
      for own, category in enumerate(categories)
      if str(category.dataset_id) in by_text
    }
    has_text = any(category.text_id is not None for category in categories)
    # Somebody may have numbered the classes as we do.
    return same_text if same_text or has_text else same_id

  def _clean_boxes(
    self, image: AnnotatedImage, size: tuple[int, int], label_map: LabelMap, report: Report
  ) -> list[Box]:
    """Returns the boxes of an image that are of the detector's classes.

    They are cleaned as for training, so that AP here and AP there are of the same boxes.
    """
    own_map, theirs = self._dataset.label_map, self._classes(label_map)
    boxes = []
    for box in clean_boxes(image.annotations, size, own_map, report, image.file_name):
      if (index := theirs.get(box.class_index)) is None:
        example = f"{own_map.name(box.class_index)!r} in {image.file_name}"
        report.note("boxes_other_category", example)
      else:
        boxes.append(dataclasses.replace(box, class_index=index))
    return boxes

  def _find(self, path: Path) -> AnnotatedImage | None:
    absolute = path.absolute()
    ends = ("/".join(absolute.parts[start:]) for start in range(1, len(absolute.parts)))
    for name in (str(absolute), *ends):
      if images := self._by_name.get(name):
        return self._only(path, images)
    return None

  def _find_by_last_part(
    self, paths: Sequence[Path], found: Mapping[Path, AnnotatedImage]
  ) -> tuple[dict[Path, AnnotatedImage], list[Path]]:
    """Returns images by the last part of the names of their files, and files that are several's.

    Args:
      paths: image files.
      found: those whose image is known.
    """
    same_name: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
      same_name[path.name].append(path)
    known = {image.id for image in found.values()}
    guessed: dict[Path, AnnotatedImage] = {}
    ambiguous: list[Path] = []
    for path in paths:
      images = self._by_last_part.get(path.name, [])
      if path in found or known.issuperset(image.id for image in images):
        continue
      names = {PurePosixPath(image.file_name.replace("\\", "/")) for image in images}
      if len(same_name[path.name]) > 1 or len(names) > 1:
        ambiguous.append(path)
      else:
        guessed[path] = self._only(path, images)
    return guessed, ambiguous

  def _only(self, path: Path, images: Sequence[AnnotatedImage]) -> AnnotatedImage:
    if len(images) > 1:
      ids = " and ".join(str(image.id) for image in images[:2])
      raise UserError(
        f"{path} is the image of {len(images)} ids in {self.path}, {ids}. Give all boxes of an "
        "image the same image_id."
      )
    return images[0]


def _normal_names(image: AnnotatedImage) -> dict[str, bool]:
  """Returns `possible_names` of an image without `./` and `//`."""
  names: dict[str, bool] = {}
  for name, is_last_part in possible_names(image.file_name).items():
    names.setdefault(str(PurePosixPath(name)), is_last_part)
  return names


def _plain_name(category: Category) -> str:
  """Returns a name without what tells it from another category's of the same file."""
  return category.name.removesuffix(f" ({category.id})")


def _left_out(paths: Sequence[Path]) -> str:
  return (
    f"{len(paths)} of the images are left out, because the last part of their names is that of "
    f"several files or annotated images; the first is {paths[0]}"
  )
