"""The common part of runtimes whose models take the pixels of one image and have no strings."""

import abc
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.serving.detectors.broken_images import refusal
from official_nasfpn.serving.export_folder import ExportFolder


class ImageRuntime(abc.ABC):
  """The model of one file, loaded; see `detector.Runtime`. It has one exit."""

  def __init__(self, export: ExportFolder):
    categories = LabelMap.load(export.label_map_file).categories
    self._category_ids = np.array([category.id for category in categories])
    self._names = np.array([category.name.encode() for category in categories], object)

  def __call__(
    self, encoded: Sequence[bytes], exit_number: int | None, budget_ms: float | None
  ) -> dict[str, np.ndarray]:
    """Decodes the images, and runs them one by one; there is no exit to choose."""
    del exit_number, budget_ms
    try:
      images = [tf.io.decode_image(i, channels=3, expand_animations=False) for i in encoded]
    except tf.errors.InvalidArgumentError as error:
      raise refusal(encoded) from error
    # Of no image, a single pixel tells the shapes.
    each = [self._detect(image) for image in images or [tf.zeros([1, 1, 3], tf.uint8)]]
    outputs = {
      name: np.concatenate([arrays[name] for arrays in each])[: len(encoded)] for name in each[0]
    }
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
      image: uint8 [height, width, 3], RGB.

    Returns:
      `boxes`, `scores`, `classes` and `num_detections` of `data.detections.BATCH_ARRAYS`, for a
      batch of one.
    """
