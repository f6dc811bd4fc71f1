"""The images with the most errors, and the best ones, with annotated and detected boxes."""

import base64
import dataclasses
import io
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.drawing import draw_boxes
from official_nasfpn.printable import one_line
from official_nasfpn.progress import progress_bar
from official_nasfpn.training.analysis.boxes import EvaluatedBoxes, Ints
from official_nasfpn.training.analysis.errors import (
  BOX_KINDS,
  CORRECT,
  DETECTION_KINDS,
  FOUND,
  NOT_COUNTED,
  TAKEN,
  Errors,
)

# So many of each, if the page stays small.
NUM_PICTURES = 6
# Bytes of all pictures together in the page.
_BUDGET = 4_000_000
# The longer side in pixels.
_SIDE = 640
_QUALITY = 80
_LONGEST_LABEL = 40


@dataclasses.dataclass(frozen=True)
class ImageScore:
  """How well a detector did in an image.

  Attributes:
    image: position in `image_ids`.
    num_right: detections that are right.
    num_wrong: detections that are not.
    num_lost: annotated boxes that no detection takes.
    f1: of the image; None without boxes and detections.
  """

  image: int
  num_right: int
  num_wrong: int
  num_lost: int
  f1: float | None

  @property
  def num_errors(self) -> int:
    return self.num_wrong + self.num_lost


@dataclasses.dataclass(frozen=True)
class Picture:
  """An image in the page.

  Attributes:
    name: its file.
    score: how well the detector did.
    annotated: JPEG as a `data:` URL.
    detected: likewise.
  """

  name: str
  score: ImageScore
  annotated: str
  detected: str


def score_images(boxes: EvaluatedBoxes, errors: Errors) -> list[ImageScore]:
  """Returns how well a detector did in each image, by position."""
  number = len(boxes.image_ids)

  def count(images: Ints, chosen: np.ndarray) -> list[int]:
    numbers: list[int] = np.bincount(images[chosen], minlength=number).tolist()
    return numbers

  kinds, became = errors.of_detections, errors.of_boxes
  right = count(boxes.images, kinds == CORRECT)
  wrong = count(boxes.images, (kinds != CORRECT) & (kinds != NOT_COUNTED))
  lost = count(boxes.true_images, (became > TAKEN))
  annotated = count(boxes.true_images, became != NOT_COUNTED)
  return [
    ImageScore(
      image=image,
      num_right=right[image],
      num_wrong=wrong[image],
      num_lost=lost[image],
      f1=2 * right[image] / total
      if (total := right[image] + wrong[image] + annotated[image])
      else None,
    )
    for image in range(number)
  ]


def choose(scores: Sequence[ImageScore]) -> tuple[list[ImageScore], list[ImageScore]]:
  """Returns the images with the most errors, and of the others those with the highest F1.

  Of equally many errors those with the fewest detections right come first; of equally good images
  those with the most. No image is in both.
  """
  with_errors = [score for score in scores if score.num_errors]
  worst = sorted(with_errors, key=lambda score: (-score.num_errors, score.num_right, score.image))
  worst = worst[:NUM_PICTURES]
  shown = {score.image for score in worst}
  with_right = [score for score in scores if score.num_right and score.image not in shown]
  best = sorted(with_right, key=lambda score: (-(score.f1 or 0), -score.num_right, score.image))
  return worst, best[:NUM_PICTURES]


def draw_pictures(
  dataset: DatasetInfo,
  part: str,
  boxes: EvaluatedBoxes,
  errors: Errors,
  chosen: Sequence[ImageScore],
) -> list[Picture]:
  """Returns pictures of images, in the order of `chosen`, as many as the page has room for.

  Args:
    dataset: with the images.
    part: of it, in which they are.
    boxes: the boxes.
    errors: what became of them.
    chosen: the images.
  """
  wanted = {int(boxes.image_ids[score.image]): score for score in chosen}
  encoded = _read_images(dataset, part, wanted)
  pictures: list[Picture] = []
  room = _BUDGET
  for image_id, score in wanted.items():
    if image_id not in encoded:
      continue
    annotated, detected = _draw(encoded[image_id], boxes, errors, score.image)
    room -= len(annotated) + len(detected)
    if room < 0:
      break
    pictures.append(Picture(boxes.file_names[score.image], score, annotated, detected))
  return pictures


def _read_images(dataset: DatasetInfo, part: str, wanted: Iterable[int]) -> dict[int, bytes]:
  """Returns encoded images as the detector saw them, by id: from the records, upright."""
  missing = set(wanted)
  if not missing:
    return {}
  # TensorFlow, which takes seconds to import, reads them.
  from official_nasfpn.data.stored_images import stored_images

  found: dict[int, bytes] = {}
  with progress_bar(dataset.num_images((part,)), "find pictures", "image") as bar:
    for image_id, data in stored_images(dataset, (part,)):
      bar.update()
      if image_id in missing:
        found[image_id] = data
        missing.remove(image_id)
        if not missing:
          break
  return found


def _draw(data: bytes, boxes: EvaluatedBoxes, errors: Errors, image: int) -> tuple[str, str]:
  from official_nasfpn.data.image_encoding import decoded_picture

  picture = decoded_picture(data)
  factor = _SIDE / max(picture.size)
  size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
  scale = np.tile([size[1] / picture.height, size[0] / picture.width], 2)
  picture = picture.resize(size, Image.Resampling.LANCZOS)

  def name(index: int) -> str:
    # Fonts take one line, and what they have a picture of.
    text = " ".join(one_line(boxes.label_map.name(index)).split())
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"

  (true,) = np.nonzero(boxes.true_images == image)
  became = errors.of_boxes[true]
  names = [name(index) for index in boxes.true_classes[true]]
  texts = _labels(names, became, FOUND, tuple(BOX_KINDS), "crowd")
  annotated = draw_boxes(
    picture, boxes.true_boxes[true] * scale, boxes.true_classes[true], texts, _SIDE
  )
  (found,) = np.nonzero((boxes.images == image) & (boxes.scores >= errors.threshold))
  found = found[np.argsort(-boxes.scores[found], kind="stable")]
  names = [f"{name(boxes.classes[box])} {boxes.scores[box]:.2f}" for box in found]
  kinds = errors.of_detections[found]
  texts = _labels(names, kinds, CORRECT, tuple(DETECTION_KINDS), "in a crowd")
  detected = draw_boxes(picture, boxes.boxes[found] * scale, boxes.classes[found], texts, _SIDE)
  return _as_url(annotated), _as_url(detected)


def _labels(
  names: Sequence[str], kinds: Ints, right: int, words: Sequence[str], uncounted: str
) -> list[str]:
  """Returns what stands at boxes: the name, and the kind where it is not right."""
  return [
    name if kind == right else f"{name} ({uncounted if kind == NOT_COUNTED else words[kind]})"
    for name, kind in zip(names, kinds.tolist(), strict=True)
  ]


def _as_url(picture: Image.Image) -> str:
  stream = io.BytesIO()
  picture.save(stream, "JPEG", quality=_QUALITY)
  return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
