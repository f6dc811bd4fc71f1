"""A SavedModel in use: encoded images to detections, with TensorFlow alone."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.serving.detectors.broken_images import refusal
from official_nasfpn.serving.detectors.export_folder import find_saved_model
from official_nasfpn.serving.export.record import RECORD_FILE


class SavedDetector:
  """An export, loaded.

  Attributes:
    path: the SavedModel, the newest where a folder of several was given.
    label_map: the classes, from inside the SavedModel.
    exits: the numbers of an anytime detector's exits; empty for others.
    record: what it was made from: checksums of the run's files, the checkpoint's step.
    exit_latency: by exit, as measured when it was exported: `exit`, `median_ms`, `p90_ms`.
  """

  def __init__(self, path: str | Path):
    """Loads a SavedModel.

    Args:
      path: folder that `nasfpn export` wrote, or one of the numbered in it.

    Raises:
      UserError: it is no such folder, or it is damaged.
    """
    self.path = find_saved_model(Path(path))
    self.label_map = LabelMap.load(self.path / "assets" / "label_map.json")
    try:
      # Held on to: a signature does not keep the variables of its model alive.
      self._model = tf.saved_model.load(str(self.path))
      self.record = json.loads((self.path / "assets" / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, tf.errors.OpError) as error:
      raise UserError(
        f"The SavedModel {self.path} is damaged: {error}. Export it again."
      ) from error
    self.exit_latency = tuple(self.record.get("exit_latency", ()))
    self.exits = tuple(latency["exit"] for latency in self.exit_latency)

  def __call__(
    self, encoded: Sequence[bytes], exit_number: int | None = None
  ) -> dict[str, np.ndarray]:
    """Detects objects.

    Args:
      encoded: JPEG or PNG images.
      exit_number: one of `exits`; None takes the last, where all has been computed.

    Returns:
      `boxes` float32 [batch, n, 4] as (ymin, xmin, ymax, xmax) in pixels of each image, `scores`
      float32 [batch, n] best first, `classes` int32 [batch, n] class indices, `category_ids` int64
      [batch, n], `labels` bytes [batch, n], `num_detections` int32 [batch]; rows from
      `num_detections` on are zero.

    Raises:
      UserError: there is no such exit.
    """
    if exit_number is not None and exit_number not in self.exits:
      has = f"the exits {', '.join(map(str, self.exits))}" if self.exits else "one exit only"
      raise UserError(f"There is no exit {exit_number}: {self.path} has {has}.")
    return self._run("serving_default" if exit_number is None else f"exit_{exit_number}", encoded)

  def detect_within(self, encoded: Sequence[bytes], budget_ms: float) -> dict[str, np.ndarray]:
    """Detects objects at the last exit that a time allows, by the times measured at export.

    Args:
      encoded: JPEG or PNG images.
      budget_ms: milliseconds for all of them together.

    Returns:
      As when called; `exit` int32 [batch]: the exit taken, the first where none is fast enough;
      `expected_ms` float32 [batch]: milliseconds that nine of ten whole batches are below at that
      exit; where they are more than `budget_ms`, it is not met. Older exports do not tell.

    Raises:
      UserError: the detector has one exit only, or an image cannot be decoded.
    """
    if not self.exits:
      raise UserError(f"{self.path} has one exit only, so there is nothing to choose from.")
    return self._run("detect_within", encoded, budget_ms=tf.constant([budget_ms], tf.float32))

  def _run(
    self, signature: str, encoded: Sequence[bytes], **inputs: tf.Tensor
  ) -> dict[str, np.ndarray]:
    images = tf.constant(list(encoded), tf.string)
    try:
      outputs = self._model.signatures[signature](image_bytes=images, **inputs)
    except tf.errors.InvalidArgumentError as error:
      # TensorFlow does not say at which image decoding failed.
      if refused := refusal(encoded):
        raise refused from error
      raise
    return {name: value.numpy() for name, value in outputs.items()}
