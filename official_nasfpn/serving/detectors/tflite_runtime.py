"""Runs `model.tflite`, by LiteRT.

Not by TensorFlow 2.20's own `tf.lite.Interpreter`, which gets some padded convolutions wrong.
"""

import threading

import numpy as np
import tensorflow as tf

from official_nasfpn.configuration import read_stored
from official_nasfpn.data.preprocessing import fit_pixels
from official_nasfpn.modeling.anchors import flat_anchors
from official_nasfpn.modeling.detections import detect_boxes
from official_nasfpn.serving.detectors.image_runtime import ImageRuntime
from official_nasfpn.serving.export_folder import ExportFolder, damaged
from official_nasfpn.training.experiment import load_experiment

_NUM_THREADS = 2


class TfliteRuntime(ImageRuntime):
  """A TensorFlow Lite model, loaded."""

  def __init__(self, export: ExportFolder):
    """Loads it.

    Raises:
      UserError: it is damaged.
    """
    super().__init__(export)
    from ai_edge_litert.interpreter import Interpreter

    self._config = load_experiment([read_stored(export.config_file)]).detector
    self._is_integer = export.record()["precision"] == "int8"
    try:
      file = str(export.path / export.format.model_file)
      interpreter = Interpreter(file, num_threads=_NUM_THREADS)
      interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
      raise damaged(export.path, error) from error
    self._run = interpreter.get_signature_runner()
    self._lock = threading.Lock()
    self._anchors = flat_anchors(self._config)

  def _detect(self, image: tf.Tensor) -> dict[str, np.ndarray]:
    fitted, size = fit_pixels(image, self._config.image_size)
    images, sizes = fitted.numpy()[np.newaxis], size.numpy()[np.newaxis]
    # An interpreter has one set of tensors, for one caller at a time.
    with self._lock:
      if self._is_integer:
        arrays = self._suppress(self._run(images=self._quantized(images)), sizes)
      else:
        arrays = dict(self._run(images=images, sizes=sizes))
    scale = np.tile(np.array(image.shape[:2], np.float32) / sizes[0], 2)
    return {**arrays, "boxes": arrays["boxes"] * scale}

  def _quantized(self, images: np.ndarray) -> np.ndarray:
    scale, zero = self._run.get_input_details()["images"]["quantization"]
    return np.clip(np.rint(images / scale + zero), 0, 255).astype(np.uint8)

  def _suppress(self, quantized: dict[str, np.ndarray], sizes: np.ndarray) -> dict[str, np.ndarray]:
    """Decodes the outputs of the network in integers and keeps the best boxes."""
    details = self._run.get_output_details()
    outputs = {"class_logits": {}, "box_deltas": {}}
    for name, values in quantized.items():
      scale, zero = details[name]["quantization"]
      kind, level = name.rsplit("_", 1)
      outputs[kind][level] = tf.constant(scale * (values.astype(np.float32) - zero))
    arrays = detect_boxes(outputs, self._anchors, tf.constant(sizes), self._config)
    return {name: values.numpy() for name, values in arrays.items()}
