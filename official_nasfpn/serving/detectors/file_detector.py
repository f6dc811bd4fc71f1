"""What the detectors have in common that run a file of another runtime, image by image."""

import abc
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.serving.detectors.broken_images import refusal
from official_nasfpn.serving.export.record import RECORD_FILE


class FileDetector(abc.ABC):
  """An export of `model_file.py`, called as a `SavedDetector` of one exit is.

  Attributes:
    path: the folder.
    label_map: the classes.
    record: what it was made from, the precision and the exit among it.
    exits: empty, since the file has one exit, chosen when it was exported.
  """

  exits: tuple[int, ...] = ()

  def __init__(self, path: str | Path):
    self.path = Path(path)
    self.label_map = LabelMap.load(self.path / "label_map.json")
    self.record = json.loads((self.path / RECORD_FILE).read_text(encoding="utf-8"))
    self._category_ids = np.array([category.id for category in self.label_map.categories])
    names = [category.name.encode() for category in self.label_map.categories]
    self._names = np.array(names, object)

  def __call__(
    self, encoded: Sequence[bytes], exit_number: int | None = None
  ) -> dict[str, np.ndarray]:
    """Detects objects; see `SavedDetector.__call__`.

    Args:
      encoded: JPEG or PNG images.
      exit_number: None; the exit was chosen when the file was exported.

    Raises:
      UserError: an exit is asked for, or an image cannot be decoded; its position is named.
    """
    if exit_number is not None:
      raise UserError(f"{self.path} has the one exit that was chosen when it was exported.")
    try:
      images = [tf.io.decode_image(i, channels=3, expand_animations=False) for i in encoded]
    except tf.errors.InvalidArgumentError as error:
      raise refusal(encoded) from error
    each = [self._detect(image) for image in images]
    outputs = {name: np.concatenate([found[name] for found in each]) for name in each[0]}
    max_detections = outputs["scores"].shape[1]
    filled = np.arange(max_detections) < outputs["num_detections"][:, np.newaxis]
    return {
      **outputs,
      "category_ids": np.where(filled, self._category_ids[outputs["classes"]], 0),
      "labels": np.where(filled, self._names[outputs["classes"]], b""),
    }

  @abc.abstractmethod
  def _detect(self, image: tf.Tensor) -> dict[str, np.ndarray]:
    """Detects in one image.

    Args:
      image: uint8 [h, w, 3], RGB.

    Returns:
      `boxes` in pixels of the image, `scores`, `classes` and `num_detections`, each [1, ...].
    """
