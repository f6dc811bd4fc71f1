"""A TensorFlow Lite export in use, by LiteRT.

Not by TensorFlow 2.20's own `tf.lite.Interpreter`, which gets some padded convolutions wrong.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from official_nasfpn.configuration import read_stored
from official_nasfpn.data.preprocessing import fit_pixels
from official_nasfpn.errors import UserError
from official_nasfpn.installation import require
from official_nasfpn.modeling.anchors import flat_anchors
from official_nasfpn.modeling.detections import detect_boxes
from official_nasfpn.serving.detectors.file_detector import FileDetector
from official_nasfpn.training.experiment import load_experiment


class TfliteDetector(FileDetector):
  """Runs `model.tflite`; called as a `SavedDetector` of one exit is."""

  def __init__(self, path: str | Path, num_threads: int = 2):
    """Loads an export.

    Args:
      path: folder that `export --format tflite` wrote.
      num_threads: that compute one image.

    Raises:
      UserError: LiteRT is not installed, or the export is damaged.
    """
    require(f"The export {path}", "ai_edge_litert")
    super().__init__(path)
    from ai_edge_litert.interpreter import Interpreter

    self._config = load_experiment([read_stored(self.path / "config.gin")]).detector
    self._is_integer = self.record["precision"] == "int8"
    try:
      interpreter = Interpreter(str(self.path / "model.tflite"), num_threads=num_threads)
      interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
      raise UserError(f"{self.path} is damaged: {error}. Export it again.") from error
    self._run = interpreter.get_signature_runner()
    self._anchors = flat_anchors(self._config)

  def _detect(self, image: tf.Tensor) -> dict[str, np.ndarray]:
    fitted, size = fit_pixels(image, self._config.image_size)
    images, sizes = fitted.numpy()[np.newaxis], size.numpy()[np.newaxis]
    if self._is_integer:
      found = self._suppress(self._run(images=np.rint(images).astype(np.uint8)), sizes)
    else:
      found = dict(self._run(images=images, sizes=sizes))
    scale = np.tile(np.array(image.shape[:2], np.float32) / sizes[0], 2)
    return {**found, "boxes": found["boxes"] * scale}

  def _suppress(self, quantized: dict[str, np.ndarray], sizes: np.ndarray) -> dict[str, np.ndarray]:
    """Decodes the outputs of the network in integers and keeps the best boxes."""
    details = self._run.get_output_details()
    outputs = {"class_logits": {}, "box_deltas": {}}
    for name, values in quantized.items():
      scale, zero = details[name]["quantization"]
      kind, level = name.rsplit("_", 1)
      outputs[kind][level] = tf.constant(scale * (values.astype(np.float32) - zero))
    found = detect_boxes(outputs, self._anchors, tf.constant(sizes), self._config)
    return {name: values.numpy() for name, values in found.items()}
