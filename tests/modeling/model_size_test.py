"""Parameters and multiply-adds against TensorFlow's own counter and the closed form."""

import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from official_nasfpn.architecture import pyramid_multiply_adds, pyramid_parameters
from official_nasfpn.modeling import DetectorConfig, build_detector, measure_size
from official_nasfpn.modeling.model_size import Size


@pytest.fixture(scope="module")
def config():
  return DetectorConfig(backbone="R-10", num_filters=32, num_repeats=2, image_size=(128, 256))


@pytest.fixture(scope="module")
def detector(config):
  return build_detector(config, num_classes=3)


def profiled_multiply_adds(detector, image_size):
  """Counts with TensorFlow's profiler, which takes a multiply-add as two operations."""
  image = tf.TensorSpec([1, *image_size, 3])
  frozen = convert_variables_to_constants_v2(tf.function(detector).get_concrete_function(image))
  options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
  options |= {"account_type_regexes": ["Conv2D"], "output": "none"}
  counted = tf.compat.v1.profiler.profile(frozen.graph, cmd="op", options=options)
  return counted.total_float_ops / 2


def test_multiply_adds_are_those_of_tensorflows_profiler(detector, config):
  total = sum(measure_size(detector).values(), Size()).multiply_adds
  assert total == profiled_multiply_adds(detector, config.image_size)


def test_parts_add_up_to_all_trainable_weights(detector):
  total = sum(measure_size(detector).values(), Size()).parameters
  assert total == sum(weight.shape.num_elements() for weight in detector.trainable_weights)


def test_pyramid_is_as_in_closed_form(detector, config):
  size = measure_size(detector)["pyramid"]
  spec = config.architecture
  assert size.parameters == 2 * pyramid_parameters(spec, 32)
  assert size.multiply_adds == 2 * pyramid_multiply_adds(spec, 32, config.image_size)


def test_mixed_precision_counts_the_same(detector, config):
  tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
  try:
    mixed = build_detector(config, num_classes=3)
    assert measure_size(mixed) == measure_size(detector)
  finally:
    tf_keras.mixed_precision.set_global_policy("float32")
