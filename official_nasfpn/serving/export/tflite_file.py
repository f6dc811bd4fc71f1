"""A detector as a TensorFlow Lite model, in floats or in integers."""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detector import Detector
from official_nasfpn.serving.export.portable import detect_in_network_input, raw_outputs


def to_tflite_float(
  detector: Detector, config: DetectorConfig, exit_number: int, half: bool
) -> bytes:
  """Converts a detector, non-maximum suppression included.

  Args:
    detector: computing in float32, with the weights to export.
    config: the settings that it was built from.
    exit_number: one of `detector.exits`.
    half: whether the weights are stored as float16; runtimes compute in float32 unless they have
      something faster.

  Returns:
    The file, whose inputs and outputs are those of `portable.detect_in_network_input`.
  """
  converter = _converter(detector, detect_in_network_input(detector, config, exit_number))
  if half:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
  return converter.convert()


def to_tflite_int8(
  detector: Detector,
  config: DetectorConfig,
  exit_number: int,
  calibration_images: Iterable[np.ndarray],
) -> bytes:
  """Converts the network into one that computes in integers alone, as accelerators of phones do.

  Args:
    detector: computing in float32, with the weights to export.
    config: the settings that it was built from.
    exit_number: one of `detector.exits`.
    calibration_images: float32 [H, W, 3] of 0 to 255 as `preprocessing.fit_pixels` makes them; the
      ranges of all activations are taken from what the network makes of them.

  Returns:
    The file: uint8 images to the int8 outputs of `portable.raw_outputs`, each with a scale and a
    zero point of its own.
  """
  converter = _converter(detector, raw_outputs(detector, config, exit_number))
  converter.optimizations = [tf.lite.Optimize.DEFAULT]
  converter.representative_dataset = lambda: ([image[np.newaxis]] for image in calibration_images)
  # Without this the converter would leave in floats what it cannot turn into integers.
  converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
  converter.inference_input_type = tf.uint8
  converter.inference_output_type = tf.int8
  return converter.convert()


def _converter(detector: Detector, function: tf.function) -> tf.lite.TFLiteConverter:
  module = tf.Module()
  module.detector_variables = detector.variables
  return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
