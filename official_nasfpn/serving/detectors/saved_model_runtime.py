"""Runs a SavedModel, with TensorFlow alone."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from official_nasfpn.gpus import warn_of_an_unused_gpu
from official_nasfpn.serving.detectors.broken_images import refusal
from official_nasfpn.serving.export_folder import ExportFolder, damaged
from official_nasfpn.training.checkpoint_files import refuse_pattern


class SavedModelRuntime:
  """A SavedModel, loaded; see `detector.Runtime`."""

  def __init__(self, export: ExportFolder):
    """Loads it.

    Raises:
      UserError: it is damaged, or TensorFlow takes its path for a pattern.
    """
    warn_of_an_unused_gpu()
    try:
      # Held on to: a signature does not keep the variables of its model alive.
      self._model = tf.saved_model.load(str(export.path))
    except (OSError, ValueError, tf.errors.OpError) as error:
      refuse_pattern(export.path, "The SavedModel")
      raise damaged(export.path, error) from error

  def __call__(
    self, encoded: Sequence[bytes], exit_number: int | None, budget_ms: float | None
  ) -> dict[str, np.ndarray]:
    """Runs the signature that the choice of an exit asks for."""
    signature = "serving_default" if exit_number is None else f"exit_{exit_number}"
    inputs = {"image_bytes": tf.constant(list(encoded), tf.string)}
    if budget_ms is not None:
      signature = "detect_within"
      inputs["budget_ms"] = tf.constant([budget_ms], tf.float32)
    try:
      outputs = self._model.signatures[signature](**inputs)
    except tf.errors.InvalidArgumentError as error:
      # TensorFlow does not say at which image decoding failed.
      if refused := refusal(encoded):
        raise refused from error
      raise
    return {name: value.numpy() for name, value in outputs.items()}
