"""A detector as an ONNX model, non-maximum suppression included."""

import logging

import tensorflow as tf

from official_nasfpn.modeling.detector import Detector
from official_nasfpn.serving.export.portable import detect_in_pixels
from official_nasfpn.training.experiment import Experiment

# Of 2022: NonMaxSuppression and Resize mean what TensorFlow means by them, and every runtime of
# the last years reads it.
_OPSET = 17


def to_onnx(detector: Detector, experiment: Experiment, exit_number: int) -> bytes:
  """Converts a detector.

  Args:
    detector: computing in float32, with the weights to export.
    experiment: the settings that it was built from.
    exit_number: one of `detector.exits`.

  Returns:
    The file: uint8 images [batch, height, width, 3] of any one size to what `portable` says.
  """
  import tf2onnx

  logging.getLogger("tf2onnx").setLevel(logging.ERROR)
  function = detect_in_pixels(detector, experiment.detector, exit_number)
  with tf.device("CPU:0"):
    model, _ = tf2onnx.convert.from_function(
      function, input_signature=function.input_signature, opset=_OPSET
    )
  return model.SerializeToString()
