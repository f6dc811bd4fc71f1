"""A SavedModel in use: encoded images to detections, with TensorFlow alone."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.errors import UserError


class SavedDetector:
  """The `serving_default` signature of an export.

  Attributes:
    path: the SavedModel.
    label_map: the classes, from inside the SavedModel.
  """

  def __init__(self, path: str | Path):
    """Loads a SavedModel.

    Args:
      path: folder that `python -m official_nasfpn.export` wrote.

    Raises:
      UserError: it is no such folder, or it is damaged.
    """
    self.path = Path(path)
    if not (self.path / "saved_model.pb").is_file():
      raise UserError(
        f"{str(self.path)!r} is not a SavedModel: it has no saved_model.pb. Make one with "
        "`python -m official_nasfpn.export`."
      )
    self.label_map = LabelMap.load(self.path / "assets" / "label_map.json")
    try:
      # Held on to: a signature does not keep the variables of its model alive.
      self._model = tf.saved_model.load(str(self.path))
    except (OSError, tf.errors.OpError) as error:
      raise UserError(
        f"The SavedModel {self.path} is damaged: {error}. Export it again."
      ) from error
    self._detect = self._model.signatures["serving_default"]

  def __call__(self, encoded: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Detects objects.

    Args:
      encoded: JPEG or PNG images.

    Returns:
      `boxes` float32 [batch, n, 4] as (ymin, xmin, ymax, xmax) in pixels of each image, `scores`
      float32 [batch, n] best first, `classes` int32 [batch, n] class indices, `category_ids` int64
      [batch, n], `num_detections` int32 [batch]; rows from `num_detections` on are zero.
    """
    outputs = self._detect(image_bytes=tf.constant(list(encoded), tf.string))
    return {name: value.numpy() for name, value in outputs.items()}


def fingerprint(path: Path) -> str:
  """Returns a hash of a SavedModel's graph and of the checksums of its weights."""
  digest = hashlib.sha256()
  for name in ("saved_model.pb", "variables/variables.index", "assets/label_map.json"):
    file = path / name
    digest.update(file.read_bytes() if file.is_file() else b"")
  return digest.hexdigest()
