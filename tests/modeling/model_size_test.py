"""Parameters and multiply-adds against TensorFlow's own counter and the closed form."""

import dataclasses

import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from official_nasfpn.architecture import pyramid_multiply_adds, pyramid_parameters
from official_nasfpn.modeling import DetectorConfig, build_detector, measure_size
from official_nasfpn.modeling.closed_form import detector_size, total_size
from official_nasfpn.modeling.layer_sizes import Size
from official_nasfpn.modeling.model_size import stored_activation_bytes


@pytest.fixture(scope="module")
def config():
  return DetectorConfig(
    backbone="R-10", num_filters=32, num_repeats=2, head_num_convs=1, image_size=(128, 256)
  )


@pytest.fixture(scope="module")
def detector(config):
  return build_detector(config, num_classes=3)


@pytest.fixture(scope="module")
def sizes(detector):
  return measure_size(detector)


@pytest.fixture(scope="module")
def mixed(config):
  """Returns the same detector in mixed precision."""
  tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
  try:
    return build_detector(config, num_classes=3)
  finally:
    tf_keras.mixed_precision.set_global_policy("float32")


def profiled_multiply_adds(detector, image_size):
  """Counts with TensorFlow's profiler, which counts a multiply-add as two operations."""
  image = tf.TensorSpec([1, *image_size, 3])
  frozen = convert_variables_to_constants_v2(tf.function(detector).get_concrete_function(image))
  options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
  options |= {"account_type_regexes": ["Conv2D"], "output": "none"}
  counted = tf.compat.v1.profiler.profile(frozen.graph, cmd="op", options=options)
  return counted.total_float_ops / 2


def test_multiply_adds_are_those_of_tensorflows_profiler(detector, sizes, config):
  total = sum(sizes.values(), Size()).multiply_adds
  assert total == profiled_multiply_adds(detector, config.image_size)


def test_parts_add_up_to_all_trainable_weights(detector, sizes):
  total = sum(sizes.values(), Size()).parameters
  assert total == sum(weight.shape.num_elements() for weight in detector.trainable_weights)


def test_a_detector_is_as_in_closed_form(sizes, config):
  # tests/modeling/closed_form_test.py covers pyramids and heads of every kind.
  assert sizes == detector_size(config, num_classes=3)
  assert sum(sizes.values(), Size()) == total_size(config, num_classes=3)


def test_pyramid_is_as_in_closed_form(sizes, config):
  size = sizes["pyramid"]
  spec = config.architecture
  assert size.parameters == 2 * pyramid_parameters(spec, 32)
  assert size.multiply_adds == 2 * pyramid_multiply_adds(spec, 32, config.image_size)


def test_mixed_precision_counts_the_same(mixed, sizes):
  assert measure_size(mixed) == sizes


class Stack(tf_keras.Model):
  """A small model in place of a detector; its stored maps can be counted by hand."""

  def __init__(self):
    super().__init__()
    image = tf_keras.Input([8, 8, 3])
    convolved = tf_keras.layers.Conv2D(4, 3, padding="same")(image)
    rectified = tf_keras.layers.ReLU()(convolved)
    convolved = tf_keras.layers.Conv2D(5, 3, padding="same")(rectified)
    self.backbone = tf_keras.Model(image, convolved)

  def call(self, images, training=None):
    return {"outputs": {"3": self.backbone(images, training=training)}}


def test_what_the_backward_pass_reads_is_counted_once():
  # For the backward pass the first convolution keeps its input, which is an argument and does not
  # count; ReLU and the second convolution both keep the rectified map.
  assert stored_activation_bytes(Stack()) == 8 * 8 * 4 * 4


def test_activations_grow_with_the_image_and_shrink_with_the_precision(detector, mixed, config):
  small = stored_activation_bytes(detector)
  larger = dataclasses.replace(config, image_size=(256, 256))
  assert stored_activation_bytes(build_detector(larger, 3)) == pytest.approx(2 * small, rel=0.01)
  tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
  try:
    assert 0.45 < stored_activation_bytes(mixed) / small < 0.75
  finally:
    tf_keras.mixed_precision.set_global_policy("float32")
