"""A detector as an ONNX model, non-maximum suppression included."""

import logging

import tensorflow as tf

from official_nasfpn.installation import require
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detector import Detector
from official_nasfpn.serving.export.portable import detect_in_pixels

# Of 2022: NonMaxSuppression and Resize mean what TensorFlow means by them, and every runtime of
# the last years reads it.
_OPSET = 17


def require_onnx() -> None:
  """Raises a `UserError` where what makes ONNX files is not installed."""
  require("--format onnx", "tf2onnx", "onnx")


def to_onnx(detector: Detector, config: DetectorConfig, exit_number: int) -> bytes:
  """Converts a detector.

  Args:
    detector: computing in float32, with the weights to export.
    config: the settings that it was built from.
    exit_number: one of `detector.exits`.

  Returns:
    The file: uint8 images [batch, height, width, 3] of any one size to what `portable` says.
  """
  import tf2onnx

  logging.getLogger("tf2onnx").setLevel(logging.ERROR)
  function = detect_in_pixels(detector, config, exit_number)
  with tf.device("CPU:0"):
    model, _ = tf2onnx.convert.from_function(
      function, input_signature=function.input_signature, opset=_OPSET
    )
  return model.SerializeToString()
