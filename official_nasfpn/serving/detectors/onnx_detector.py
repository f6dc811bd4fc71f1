"""An ONNX export in use, by ONNX Runtime."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from official_nasfpn.errors import UserError
from official_nasfpn.installation import require
from official_nasfpn.serving.detectors.file_detector import FileDetector


class OnnxDetector(FileDetector):
  """Runs `model.onnx`; called as a `SavedDetector` of one exit is."""

  def __init__(self, path: str | Path):
    """Loads an export.

    Args:
      path: folder that `export --format onnx` wrote.

    Raises:
      UserError: ONNX Runtime is not installed, or the export is damaged.
    """
    require(f"The export {path}", "onnxruntime")
    super().__init__(path)
    import onnxruntime

    try:
      self._session = onnxruntime.InferenceSession(self.path / "model.onnx")
    # Its errors have no public base class but this.
    except Exception as error:
      raise UserError(f"{self.path} is damaged: {error}. Export it again.") from error
    self._outputs = [output.name for output in self._session.get_outputs()]

  def _detect(self, image: tf.Tensor) -> dict[str, np.ndarray]:
    values = self._session.run(self._outputs, {"images": image.numpy()[np.newaxis]})
    return dict(zip(self._outputs, values, strict=True))
