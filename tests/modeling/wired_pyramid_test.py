"""The wired pyramid, one graph for all architectures, against a pyramid of each architecture."""

import random

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.architecture import CATALOG, SearchSpace
from official_nasfpn.modeling import DetectorConfig, FeaturePyramid, build_detector
from official_nasfpn.modeling.norm import NormSettings
from official_nasfpn.modeling.wired_pyramid import (
  WiredPyramid,
  resample,
  wiring_of,
  wiring_signature,
)

SPACE = SearchSpace()
NORM = NormSettings(momentum=0.9, epsilon=1e-3)


@pytest.fixture(autouse=True)
def _seeded():
  tf_keras.utils.set_random_seed(0)


def random_specs(count, space=SPACE, seed=0):
  rng = random.Random(seed)
  return [space.sample(rng) for _ in range(count)]


def backbone_features(num_filters, size=128, batch=2, seed=0):
  rng = np.random.default_rng(seed)
  channels = {3: num_filters // 2, 4: num_filters, 5: 2 * num_filters}
  return {
    str(level): tf.constant(
      rng.normal(size=(batch, size >> level, size >> level, width)), tf.float32
    )
    for level, width in channels.items()
  }


def set_apart(pyramid, seed=1):
  """Gives batch norms other values than their initial 0 and 1."""
  rng = np.random.default_rng(seed)
  for variable in pyramid.variables:
    if len(variable.shape) == 1:
      variable.assign_add(rng.uniform(0.0, 0.3, variable.shape).astype(np.float32))


def gradients(pyramid, features, **arguments):
  """Returns the outputs of all repeats, and the gradients of a loss for weights and inputs."""
  with tf.GradientTape() as tape:
    tape.watch(features)
    outputs = pyramid(features, training=True, **arguments)
    loss = tf.add_n(
      [
        tf.reduce_sum(tf.sin(tf.cast(place + 1, tf.float32) * output))
        for place, output in enumerate(tf.nest.flatten(outputs))
      ]
    )
  return outputs, tape.gradient(loss, [pyramid.trainable_variables, features])


def assert_all_close(actual, expected, scale=None):
  """Compares to 1e-5 of each tensor's largest value, or of `scale`."""
  actual, expected = tf.nest.flatten(actual), tf.nest.flatten(expected)
  assert len(actual) == len(expected)
  for one, other in zip(actual, expected, strict=True):
    unit = scale or max(float(tf.reduce_max(tf.abs(other))), 1.0)
    np.testing.assert_allclose(one / unit, other / unit, rtol=0, atol=1e-5)


def assert_parity(wired, run, spec, features):
  reference = FeaturePyramid(
    spec,
    wired.num_filters,
    wired.num_repeats,
    separable=wired.separable,
    top_levels=wired.top_levels,
    norm=NORM,
  )
  reference(features)
  names = [variable.name.split("/", 1)[1] for variable in wired.variables]
  assert [variable.name.split("/", 1)[1] for variable in reference.variables] == names
  weights = wired.get_weights()
  reference.set_weights(weights)
  assert_all_close(
    run(features, wiring_of(spec), training=False), reference(features, training=False)
  )
  outputs, of_gradients = run(features, wiring_of(spec), training=True)
  expected, expected_gradients = gradients(reference, features)
  assert_all_close(outputs, expected)
  # The gradient of a cell that is not used is None in the pyramid, and zero in the wired one.
  expected_gradients = [
    tf.zeros_like(found) if wanted is None else wanted
    for found, wanted in zip(
      tf.nest.flatten(of_gradients), tf.nest.flatten(expected_gradients), strict=True
    )
  ]
  # The gradient of a bias before a batch norm is 0, up to the round-off of large sums.
  largest = max(float(tf.reduce_max(tf.abs(gradient))) for gradient in expected_gradients)
  assert_all_close(of_gradients, expected_gradients, scale=largest)
  assert_all_close(wired.get_weights(), reference.get_weights())  # Moving averages as well.
  wired.set_weights(weights)


def traced(wired, features):
  """Returns a function that runs the pyramid in two graphs, and a list of the traces."""
  traces = []
  shapes = tf.nest.map_structure(lambda map: tf.TensorSpec(map.shape, map.dtype), features)
  signature = (shapes, wiring_signature(wired.spec))

  @tf.function(input_signature=signature)
  def infer(features, wiring):
    traces.append("infer")
    return wired(features, training=False, wiring=wiring)

  @tf.function(input_signature=signature)
  def train(features, wiring):
    traces.append("train")
    return gradients(wired, features, wiring=wiring)

  return lambda features, wiring, training: (train if training else infer)(features, wiring), traces


@pytest.mark.slow
@pytest.mark.parametrize(
  ("num_repeats", "settings"),
  [(1, {}), (3, {}), (2, {"separable": True}), (1, {"top_levels": "convolution"})],
  ids=["1 repeat", "3 repeats", "separable", "top levels by convolution"],
)
def test_one_graph_computes_every_architecture(num_repeats, settings):
  wired = WiredPyramid(CATALOG["nas_fpn"], 8, num_repeats, **settings, norm=NORM)
  features = backbone_features(8)
  wired(features)
  set_apart(wired)
  run, traces = traced(wired, features)
  for spec in [CATALOG["nas_fpn"], *random_specs(10, seed=num_repeats)]:
    assert_parity(wired, run, spec, features)
  assert sorted(traces) == ["infer", "train"]


@pytest.mark.slow
@pytest.mark.parametrize(
  "space",
  [
    SearchSpace(max_level=6, num_intermediate_cells=4),
    SearchSpace(num_intermediate_cells=0),
    SearchSpace(ops=("sum",)),
  ],
  ids=["P3 to P6", "no intermediate cells", "sums alone"],
)
def test_other_spaces(space):
  specs = random_specs(5, space)
  wired = WiredPyramid(specs[0], 8, 1, norm=NORM)
  features = backbone_features(8)
  wired(features)
  run, _ = traced(wired, features)
  for spec in specs:
    assert_parity(wired, run, spec, features)


def test_without_a_wiring_it_computes_its_own_spec():
  spec = random_specs(1)[0]
  features = backbone_features(8)
  wired, reference = WiredPyramid(spec, 8, 1, norm=NORM), FeaturePyramid(spec, 8, 1, norm=NORM)
  wired(features)
  reference(features)
  reference.set_weights(wired.get_weights())
  assert_all_close(wired(features), reference(features))


def test_a_detector_takes_features_instead_of_images():
  config = DetectorConfig(
    backbone="R-10", backbone_width=0.25, num_filters=8, num_repeats=1, image_size=(128, 128)
  )
  detector = build_detector(config, num_classes=3, wired=True)
  images = tf.constant(np.random.default_rng(0).normal(size=(1, 128, 128, 3)), tf.float32)
  spec = random_specs(1)[0]
  features = detector.backbone(images, training=False)
  from_features = detector(features, training=False, wiring=wiring_of(spec))
  assert_all_close(from_features, detector(images, training=False, wiring=wiring_of(spec)))
  own = detector(features, training=False)
  assert float(tf.reduce_max(tf.abs(own[0]["box_deltas"]["3"]))) > 0
  assert not np.allclose(own[0]["box_deltas"]["3"], from_features[0]["box_deltas"]["3"])


@pytest.mark.parametrize("steps", range(-4, 5))
def test_resampling_by_data(steps):
  rng = np.random.default_rng(0)
  features = tf.constant(rng.normal(size=(1, 16, 16, 3)), tf.float32)
  resampled = resample(features, tf.constant(steps)).numpy()
  factor = 2 ** abs(steps)
  if steps <= 0:
    expected = features.numpy().repeat(factor, axis=1).repeat(factor, axis=2)
  else:
    windows = features.numpy().reshape(1, 16 // factor, factor, 16 // factor, factor, 3)
    expected = windows.max(axis=(2, 4))
  np.testing.assert_array_equal(resampled, expected)


def test_wirings_of_a_space_have_one_shape():
  shapes = {tuple(part.shape for part in wiring_of(spec)) for spec in random_specs(50)}
  assert shapes == {((7, 8), (5,))}


def test_it_drops_no_blocks():
  wired = WiredPyramid(CATALOG["nas_fpn"], 8, 1, norm=NORM)
  with pytest.raises(ValueError, match="drops no blocks"):
    wired(backbone_features(8), training=True, drop=object())
