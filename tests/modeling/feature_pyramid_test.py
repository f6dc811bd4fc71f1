"""The stacked pyramid against Model Garden's, at 256 filters, where Model Garden's is right."""

import random

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.vision.modeling.decoders import nasfpn

from official_nasfpn.architecture import (
  CATALOG,
  MergingCell,
  PyramidSpec,
  pyramid_parameters,
  unconsumed_inputs,
)
from official_nasfpn.modeling import FeaturePyramid
from official_nasfpn.modeling.feature_pyramid import ConvolutionAndNorm
from official_nasfpn.modeling.norm import NormSettings

LEVELS = ("3", "4", "5", "6", "7")
BACKBONE_CHANNELS = {"3": 32, "4": 48, "5": 64}


@pytest.fixture(autouse=True)
def _seeded():
  tf_keras.utils.set_random_seed(0)


def backbone_features(channels=BACKBONE_CHANNELS, size=128, batch=2, seed=0):
  rng = np.random.default_rng(seed)
  return {
    level: tf.constant(
      rng.normal(size=(batch, size >> int(level), size >> int(level), width)), tf.float32
    )
    for level, width in channels.items()
  }


def random_spec(seed, output_levels=None):
  """Returns a random spec of two intermediate and five output cells, in a given or random order."""
  rng = random.Random(seed)
  output_levels = output_levels or rng.sample(range(3, 8), 5)
  levels = [rng.randint(4, 7), rng.randint(4, 7), *output_levels]
  cells = [
    MergingCell(tuple(rng.sample(range(5 + index), 2)), level, rng.choice(("sum", "global_pool")))
    for index, level in enumerate(levels)
  ]
  return PyramidSpec(cells=tuple(cells))


RANDOM_SPECS = [random_spec(seed) for seed in range(10)] + [
  random_spec(seed, output_levels=[3, 4, 5, 6, 7]) for seed in range(10, 20)
]


def model_garden_pyramid(spec, features, num_filters, num_repeats):
  ops = {"sum": "sum", "global_pool": "attention"}
  return nasfpn.NASFPN(
    input_specs={level: map.shape for level, map in features.items()},
    block_specs=[
      nasfpn.BlockSpec(cell.level, ops[cell.op], cell.inputs, spec.is_output(index))
      for index, cell in enumerate(spec.cells)
    ],
    num_filters=num_filters,
    num_repeats=num_repeats,
    norm_momentum=0.9,
    norm_epsilon=1e-3,
  )


def assert_parity(spec, num_repeats):
  features = backbone_features()
  reference = model_garden_pyramid(spec, features, 256, num_repeats)
  pyramid = FeaturePyramid(spec, 256, num_repeats, norm=NormSettings(0.9, 1e-3))
  pyramid(features)
  # Both make their layers in the same order: laterals, then cells. Batch norms are set apart from
  # their initial 0, 1, 0, 1, and convolutions kept small enough to compare absolutely.
  rng = np.random.default_rng(1)
  weights = [
    weight + rng.uniform(0.0, 0.2, weight.shape).astype(np.float32) if weight.ndim == 1 else weight
    for weight in reference.get_weights()
  ]
  reference.set_weights(weights)
  copy_weights(reference, pyramid)
  for training in (False, True):
    expected = reference(features, training=training)
    ours = pyramid(features, training=training)
    assert len(ours) == num_repeats
    assert list(ours[-1]) == list(LEVELS)
    for level in LEVELS:
      np.testing.assert_allclose(ours[-1][level], expected[level], rtol=1e-5, atol=1e-5)
  # Both updated the moving statistics alike.
  for ours, expected in zip(norms(pyramid), norms(reference), strict=True):
    np.testing.assert_allclose(ours.moving_mean, expected.moving_mean, atol=1e-5)
    np.testing.assert_allclose(ours.moving_variance, expected.moving_variance, atol=1e-5)


def in_order_of_creation(pyramid):
  blocks = [pyramid.laterals[level] for level in sorted(pyramid.laterals)]
  return blocks + [cell for repeat in pyramid.repeats for cell in repeat.cells]


def copy_weights(reference, pyramid):
  convs = [layer for layer in reference.layers if isinstance(layer, tf_keras.layers.Conv2D)]
  blocks = in_order_of_creation(pyramid)
  for block, conv, norm in zip(blocks, by_number(convs), norms(reference), strict=True):
    block.conv.set_weights(conv.get_weights())
    block.norm.set_weights(norm.get_weights())


def norms(pyramid):
  if isinstance(pyramid, FeaturePyramid):
    return [block.norm for block in in_order_of_creation(pyramid)]
  kind = tf_keras.layers.BatchNormalization
  return by_number([layer for layer in pyramid.layers if isinstance(layer, kind)])


def by_number(layers):
  """Sorts conv2d, conv2d_1, ..., conv2d_10: the order in which Keras made them."""

  def number(layer):
    suffix = layer.name.rsplit("_", 1)[-1]
    return int(suffix) if suffix.isdigit() else 0

  return sorted(layers, key=number)


def test_equals_model_garden_for_the_discovered_architecture():
  assert_parity(CATALOG["nas_fpn"], num_repeats=2)


@pytest.mark.parametrize("index", range(20))
def test_equals_model_garden_for_random_architectures(index):
  assert_parity(RANDOM_SPECS[index], num_repeats=1)


def test_random_architectures_cover_what_can_differ():
  assert any([cell.level for cell in spec.output_cells] != [3, 4, 5, 6, 7] for spec in RANDOM_SPECS)
  assert any(any(unconsumed_inputs(spec)) for spec in RANDOM_SPECS)
  gates = [
    [spec.level_of(index) for index in cell.inputs]
    for spec in RANDOM_SPECS
    for cell in spec.cells
    if cell.op == "global_pool"
  ]
  assert any(first > second for first, second in gates)
  assert any(first < second for first, second in gates)
  assert any(first == second for first, second in gates)


@pytest.mark.parametrize("num_filters", [48, 64, 128, 256, 384])
def test_parameters_are_those_of_the_closed_form(num_filters):
  num_repeats = 3
  features = backbone_features()
  pyramid = FeaturePyramid(CATALOG["nas_fpn"], num_filters, num_repeats)
  pyramid(features)
  # A 3x3 convolution with bias, and gamma and beta, in each cell; laterals where widths differ.
  cells = num_repeats * 7 * (9 * num_filters**2 + 3 * num_filters)
  laterals = sum(
    width * num_filters + 3 * num_filters
    for width in BACKBONE_CHANNELS.values()
    if width != num_filters
  )
  assert number_of_trainable_weights(pyramid) == cells + laterals
  for maps in pyramid(features):
    assert {map.shape[-1] for map in maps.values()} == {num_filters}


@pytest.mark.parametrize("num_filters", [48, 64])
def test_separable_cells_are_those_of_the_closed_form(num_filters):
  features = backbone_features(dict.fromkeys(LEVELS, num_filters))
  pyramid = FeaturePyramid(CATALOG["nas_fpn"], num_filters, 2, separable=True)
  pyramid(features)
  expected = 2 * pyramid_parameters(CATALOG["nas_fpn"], num_filters, separable=True)
  assert number_of_trainable_weights(pyramid) == expected


def test_a_separable_convolution_is_a_depthwise_and_a_pointwise_one():
  layer = ConvolutionAndNorm(6, 3, NormSettings(epsilon=1e-3), separable=True)
  features = tf.random.stateless_normal([2, 8, 8, 4], [0, 1])
  result = layer(features, training=False)
  depthwise, pointwise, bias = layer.conv.get_weights()
  expected = tf.nn.depthwise_conv2d(features, depthwise, [1, 1, 1, 1], "SAME")
  expected = tf.nn.conv2d(expected, pointwise, 1, "SAME") + bias
  np.testing.assert_allclose(result, expected / np.sqrt(1 + 1e-3), atol=1e-5)


def test_convolutions_may_make_the_levels_above_the_backbone():
  features = backbone_features()
  pyramid = FeaturePyramid(CATALOG["nas_fpn"], 8, 1, top_levels="convolution")
  pyramid(features)
  kernels = {level: lateral.conv.kernel.shape for level, lateral in pyramid.laterals.items()}
  # P6 from the unprojected C5, P7 from P6.
  assert kernels["6"] == (3, 3, BACKBONE_CHANNELS["5"], 8)
  assert kernels["7"] == (3, 3, 8, 8)
  maps = pyramid._inputs(features, training=False)
  assert [maps[level].shape[1] for level in "34567"] == [16, 8, 4, 2, 1]
  below = tf.nn.relu(maps["6"])
  np.testing.assert_array_equal(maps["7"], pyramid.laterals["7"](below, training=False))


def test_no_stray_projections_as_in_model_garden():
  """Model Garden projects the inputs of every cell to 256 channels, whatever the width."""
  features = backbone_features(dict.fromkeys(("3", "4", "5"), 64))
  spec = CATALOG["nas_fpn"]
  reference = model_garden_pyramid(spec, features, num_filters=64, num_repeats=1)
  pyramid = FeaturePyramid(spec, 64, 1)
  pyramid(features)
  assert number_of_trainable_weights(pyramid) == 7 * (9 * 64**2 + 3 * 64)
  assert number_of_trainable_weights(reference) > 4 * number_of_trainable_weights(pyramid)


def number_of_trainable_weights(layer):
  return sum(weight.shape.num_elements() for weight in layer.trainable_weights)


def test_config_keeps_the_architecture_unlike_model_garden():
  """Model Garden's get_config drops the block specs, so a custom pyramid comes back as NAS-FPN."""
  spec = random_spec(3)
  features = backbone_features()
  pyramid = FeaturePyramid(
    spec, 16, 2, norm=NormSettings(0.9, 1e-3, synchronized=True), name="mine"
  )
  expected = pyramid(features)
  restored = tf_keras.layers.deserialize(tf_keras.layers.serialize(pyramid))
  assert restored.spec == spec
  assert restored.norm == NormSettings(0.9, 1e-3, synchronized=True)
  assert restored.get_config() == pyramid.get_config()
  restored(features)
  restored.set_weights(pyramid.get_weights())
  for ours, theirs in zip(restored(features), expected, strict=True):
    for level in LEVELS:
      np.testing.assert_array_equal(ours[level], theirs[level])


def test_saves_inside_a_keras_model(tmp_path):
  features = backbone_features()
  inputs = {level: tf_keras.Input(map.shape[1:]) for level, map in features.items()}
  model = tf_keras.Model(inputs, FeaturePyramid(CATALOG["fpn_like"], 8, 2)(inputs))
  model.save(tmp_path / "pyramid.keras")
  restored = tf_keras.models.load_model(tmp_path / "pyramid.keras")
  np.testing.assert_array_equal(restored(features)[-1]["3"], model(features)[-1]["3"])


def test_equal_width_needs_no_lateral():
  features = backbone_features({"3": 32, "4": 16, "5": 32})
  pyramid = FeaturePyramid(CATALOG["nas_fpn"], 32, 1)
  pyramid(features)
  assert list(pyramid.laterals) == ["4"]


def test_top_levels_may_come_from_the_backbone():
  features = backbone_features(dict.fromkeys(LEVELS, 8))
  pooled = {level: features[level] for level in ("3", "4", "5")}
  pooled["6"] = tf.nn.max_pool2d(pooled["5"], 2, 2, "SAME")
  pyramid = FeaturePyramid(CATALOG["nas_fpn"], 8, 1)
  three_given = pyramid({level: pooled[level] for level in ("3", "4", "5")})[-1]
  four_given = pyramid(pooled)[-1]
  np.testing.assert_array_equal(three_given["7"], four_given["7"])
  assert pyramid(features)[-1]["7"].shape == four_given["7"].shape


def test_other_levels_than_3_to_7():
  spec = PyramidSpec(
    3,
    6,
    (((1, 3), 4, "global_pool"), ((0, 4), 3, "sum"), ((4, 5), 4, "sum"), ((2, 6), 5, "sum"),
     ((3, 7), 6, "sum")),
  )  # fmt: skip
  outputs = FeaturePyramid(spec, 8, 1)(backbone_features(size=64))
  assert {level: map.shape[1] for level, map in outputs[-1].items()} == {
    "3": 8, "4": 4, "5": 2, "6": 1,
  }  # fmt: skip


@pytest.fixture
def mixed_bfloat16():
  tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
  yield
  tf_keras.mixed_precision.set_global_policy("float32")


def test_mixed_bfloat16_stays_close(mixed_bfloat16):
  features = backbone_features()
  pyramid = FeaturePyramid(CATALOG["nas_fpn"], 32, 2)
  in_training = pyramid(features, training=True)[-1]
  assert {weight.dtype for weight in pyramid.weights} == {tf.float32}
  assert {map.dtype for map in in_training.values()} == {tf.bfloat16}
  # Compared at inference: in training, norms over the two pixels of level 7 magnify any rounding.
  outputs = pyramid(features)[-1]
  tf_keras.mixed_precision.set_global_policy("float32")
  exact = FeaturePyramid(CATALOG["nas_fpn"], 32, 2)
  exact(features)
  exact.set_weights(pyramid.get_weights())
  for level, expected in exact(features)[-1].items():
    # bfloat16 has 8 bits: 0.4 % for each of some twenty roundings. 2 % was observed.
    difference = tf.cast(outputs[level], tf.float32) - expected
    assert tf.math.reduce_std(difference) < 0.05 * tf.math.reduce_std(expected)


def test_gradients_reach_every_weight():
  features = backbone_features()
  pyramid = FeaturePyramid(CATALOG["nas_fpn"], 16, 2)
  with tf.GradientTape() as tape:
    final = pyramid(features, training=True)[-1]
    # A plain sum of a batch norm's output has no gradient.
    loss = tf.add_n([tf.reduce_sum(map * tf.random.normal(map.shape)) for map in final.values()])
  names = [weight.name for weight in pyramid.trainable_weights]
  for name, gradient in zip(names, tape.gradient(loss, pyramid.trainable_weights), strict=True):
    # The batch norm after a convolution removes its bias.
    if not name.endswith("bias:0"):
      assert gradient is not None, name
      assert float(tf.reduce_max(tf.abs(gradient))) > 1e-6, name


def test_each_candidate_is_resampled_once_per_level_and_repeat():
  """Cells 5 and 6 both read C3 at level 4, and both take their gates from C7."""
  spec = PyramidSpec(
    cells=(
      ((0, 4), 4, "global_pool"), ((0, 4), 4, "global_pool"), ((0, 5), 3, "sum"),
      ((1, 6), 4, "sum"), ((2, 4), 5, "sum"), ((3, 4), 6, "sum"), ((4, 5), 7, "sum"),
    )
  )  # fmt: skip
  features = backbone_features(dict.fromkeys(LEVELS, 8))
  pyramid = FeaturePyramid(spec, 8, 1)
  specs = {level: tf.TensorSpec(map.shape) for level, map in features.items()}
  graph = tf.function(pyramid).get_concrete_function(specs).graph
  types = [operation.type for operation in graph.get_operations()]
  # Down: C3 to 4, then cell 5 to 7. Global maximum: of C7 alone.
  assert types.count("MaxPool") == 2
  assert types.count("Max") == 1
  # Up: C7 to 4, 5 and 6; cell 5 to 3.
  assert types.count("ResizeNearestNeighbor") == 4


def test_early_repeats_do_not_depend_on_later_ones():
  features = backbone_features()
  pyramid = FeaturePyramid(CATALOG["nas_fpn"], 8, 3)
  first = pyramid(features)[0]
  for cell in pyramid.repeats[2].cells:
    cell.set_weights([weight + 1 for weight in cell.get_weights()])
  np.testing.assert_array_equal(pyramid(features)[0]["5"], first["5"])


@pytest.mark.parametrize(
  ("levels", "sizes", "message"),
  [
    (("4", "5"), (8, 4), "levels from '3' up without a gap"),
    (("3", "5"), (16, 4), "levels from '3' up without a gap"),
    ((3, 4, 5), (16, 8, 4), "under string keys"),
    (("3", "4", "5"), (16, 8, 3), "Level 5 must be half as large as level 4"),
    (("3", "4", "5"), (24, 12, 6), r"cannot be halved down to level 7\. .* multiples of 128"),
  ],
)
def test_unusable_inputs_are_refused(levels, sizes, message):
  features = {
    level: tf.zeros([1, size, size, 8]) for level, size in zip(levels, sizes, strict=True)
  }
  with pytest.raises(ValueError, match=message):
    FeaturePyramid(CATALOG["nas_fpn"], 8, 1)(features)


@pytest.mark.parametrize("arguments", [(0, 1), (8, 0), (-1, 1)])
def test_width_and_repeats_must_be_positive(arguments):
  with pytest.raises(ValueError, match="must be positive"):
    FeaturePyramid(CATALOG["nas_fpn"], *arguments)
