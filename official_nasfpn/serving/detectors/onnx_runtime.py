"""Runs `model.onnx`, by ONNX Runtime."""

import numpy as np
import tensorflow as tf

from official_nasfpn.serving.detectors.image_runtime import ImageRuntime
from official_nasfpn.serving.export_folder import ExportFolder, damaged


class OnnxRuntime(ImageRuntime):
  """An ONNX model, loaded."""

  def __init__(self, export: ExportFolder):
    """Loads it.

    Raises:
      UserError: it is damaged.
    """
    super().__init__(export)
    import onnxruntime

    try:
      self._session = onnxruntime.InferenceSession(export.path / export.format.model_file)
    # Its errors have no public base class but this.
    except Exception as error:
      raise damaged(export.path, error) from error
    self._outputs = [output.name for output in self._session.get_outputs()]

  def _detect(self, image: tf.Tensor) -> dict[str, np.ndarray]:
    values = self._session.run(self._outputs, {"images": image.numpy()[np.newaxis]})
    return dict(zip(self._outputs, values, strict=True))
