"""A detector as a TensorFlow Lite model, in floats or in integers."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.preprocessing import fit_pixels
from official_nasfpn.data.stored_images import stored_images
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.detector import Detector
from official_nasfpn.progress import progress_bar
from official_nasfpn.serving.export.portable import detect_in_network_input, raw_outputs
from official_nasfpn.serving.formats import CALIBRATION_IMAGES
from official_nasfpn.training.experiment import Experiment


def to_tflite_float32(detector: Detector, experiment: Experiment, exit_number: int) -> bytes:
  """Converts a detector, non-maximum suppression included.

  Args:
    detector: computing in float32, with the weights to export.
    experiment: the settings that it was built from.
    exit_number: one of `detector.exits`.

  Returns:
    The file, whose inputs and outputs are those of `portable.detect_in_network_input`.
  """
  function = detect_in_network_input(detector, experiment.detector, exit_number)
  return _converter(detector, function).convert()


def to_tflite_float16(detector: Detector, experiment: Experiment, exit_number: int) -> bytes:
  """Converts as `to_tflite_float32` does, with the weights stored as float16.

  Runtimes compute in float32 unless they have something faster.
  """
  function = detect_in_network_input(detector, experiment.detector, exit_number)
  converter = _converter(detector, function)
  converter.optimizations = [tf.lite.Optimize.DEFAULT]
  converter.target_spec.supported_types = [tf.float16]
  return converter.convert()


def to_tflite_int8(
  detector: Detector,
  experiment: Experiment,
  exit_number: int,
  calibration_images: int = CALIBRATION_IMAGES,
) -> bytes:
  """Converts the network into one that computes in integers alone, as accelerators of phones do.

  The ranges of all activations are taken from what the network makes of training images.

  Args:
    detector: computing in float32, with the weights to export.
    experiment: the settings that it was built from, and where its data is.
    exit_number: one of `detector.exits`.
    calibration_images: the number of training images to take the ranges from, at most.

  Returns:
    The file: uint8 images to the int8 outputs of `portable.raw_outputs`, each with a scale and a
    zero point of its own.

  Raises:
    UserError: the data is not there.
  """
  dataset = calibration_data(experiment)
  converter = _converter(detector, raw_outputs(detector, experiment.detector, exit_number))
  converter.optimizations = [tf.lite.Optimize.DEFAULT]
  converter.representative_dataset = lambda: (
    [image[np.newaxis]] for image in _calibration_images(experiment, dataset, calibration_images)
  )
  # Without this the converter would leave in floats what it cannot turn into integers.
  converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
  converter.inference_input_type = tf.uint8
  converter.inference_output_type = tf.int8
  return converter.convert()


def calibration_data(experiment: Experiment) -> DatasetInfo:
  """Returns the run's own data, with which int8 is calibrated.

  Raises:
    UserError: it is not there.
  """
  try:
    return DatasetInfo.load(experiment.input.data_dir or "")
  except UserError as error:
    raise UserError(f"int8 is calibrated with images of the run's own data: {error}") from error


def _calibration_images(
  experiment: Experiment, dataset: DatasetInfo, most: int
) -> Iterator[np.ndarray]:
  """Yields training images, float32 [H, W, 3] of 0 to 255, as `fit_pixels` makes them."""
  parts = experiment.input.train_parts
  count = min(most, dataset.num_images(parts))
  with progress_bar(count, "calibrate", "image") as bar:
    for _, (_, encoded) in zip(range(count), stored_images(dataset, parts), strict=False):
      image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
      yield fit_pixels(image, experiment.detector.image_size)[0].numpy()
      bar.update()


def _converter(detector: Detector, function: tf.function) -> tf.lite.TFLiteConverter:
  module = tf.Module()
  module.detector_variables = detector.variables
  return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
