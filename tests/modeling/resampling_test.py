"""Resampling of feature maps: values, gradients, and compilation by XLA."""

import numpy as np
import pytest
import tensorflow as tf
from official.vision.ops import spatial_transform_ops

from official_nasfpn.modeling.resampling import Candidate, global_max, upsample


@pytest.fixture
def features():
  return tf.constant(np.random.default_rng(0).normal(size=(2, 4, 6, 3)), tf.float32)


def gradient_of(function, features, upstream):
  with tf.GradientTape() as tape:
    tape.watch(features)
    outputs = function(features)
  return tape.gradient(outputs, features, upstream)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradient_of_the_global_maximum_is_that_of_tensorflow(features, jit_compile):
  upstream = tf.constant(np.random.default_rng(1).normal(size=(2, 1, 1, 3)), tf.float32)
  expected = gradient_of(
    lambda map: tf.reduce_max(map, axis=[1, 2], keepdims=True), features, upstream
  )
  step = tf.function(lambda map: gradient_of(global_max, map, upstream), jit_compile=jit_compile)
  np.testing.assert_array_equal(step(features), expected)
  # Of equal values the first is taken, where TensorFlow divides the gradient among them.
  np.testing.assert_array_equal(step(tf.ones_like(features))[:, 0, 0], upstream[:, 0, 0])
  np.testing.assert_array_equal(step(tf.ones_like(features))[:, 1:], 0)


@pytest.mark.parametrize("factor", [2, 4, 16])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_upsampling_and_its_gradient_equal_model_garden(features, factor, jit_compile):
  expected = spatial_transform_ops.nearest_upsampling(features, factor)
  compiled = tf.function(lambda map: upsample(map, factor), jit_compile=jit_compile)
  np.testing.assert_array_equal(compiled(features), expected)
  upstream = tf.random.stateless_normal(expected.shape, seed=(1, 2))
  step = tf.function(
    lambda map: gradient_of(lambda x: upsample(x, factor), map, upstream), jit_compile=jit_compile
  )
  np.testing.assert_allclose(
    step(features),
    gradient_of(
      lambda map: spatial_transform_ops.nearest_upsampling(map, factor), features, upstream
    ),
    rtol=1e-5,
    atol=1e-5,
  )


def test_upsampling_of_bfloat16_and_of_unknown_size(features):
  half = tf.cast(features, tf.bfloat16)
  run = tf.function(
    lambda map: upsample(map, 2), input_signature=[tf.TensorSpec([None] * 4, tf.bfloat16)]
  )
  assert run(half).dtype == tf.bfloat16
  np.testing.assert_array_equal(
    tf.cast(run(half)[:, ::2, 1::2], tf.float32), tf.cast(half, tf.float32)
  )


def test_a_candidate_at_other_levels():
  ramp = tf.reshape(tf.range(16.0), [1, 4, 4, 1])
  candidate = Candidate(4, ramp)
  assert candidate.at_level(4) is ramp
  assert candidate.at_level(5)[0, :, :, 0].numpy().tolist() == [[5, 7], [13, 15]]
  assert candidate.at_level(6).numpy().item() == 15
  assert candidate.at_level(3).shape == (1, 8, 8, 1)
  assert candidate.at_level(3) is candidate.at_level(3)
  assert candidate.global_max() is candidate.global_max()


def test_global_maximum_is_that_of_every_resampled_map(features):
  candidate = Candidate(4, features)
  for level in (2, 3, 4, 5):
    np.testing.assert_array_equal(
      tf.reduce_max(candidate.at_level(level), axis=[1, 2], keepdims=True), candidate.global_max()
    )
