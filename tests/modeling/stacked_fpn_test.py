"""The original FPN, stacked: against Model Garden's decoder and the paper's counts."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.vision.modeling.decoders.fpn import FPN

from official_nasfpn.architecture import Fpn
from official_nasfpn.errors import UserError
from official_nasfpn.modeling import DetectorConfig, StackedFpn, build_detector, measure_size
from official_nasfpn.modeling.drop_block import Drop

CHANNELS = {"3": 8, "4": 12, "5": 20}


@pytest.fixture(scope="module")
def features():
  return {
    level: tf.random.stateless_normal([2, 256 >> int(level), 128 >> int(level), channels], [1, 2])
    for level, channels in CHANNELS.items()
  }


@pytest.fixture(scope="module")
def stacked(features):
  tf_keras.utils.set_random_seed(0)
  layer = StackedFpn(Fpn(), num_filters=16, num_repeats=2)
  layer(features)
  return layer


def test_repeats_have_all_levels(stacked, features):
  for maps in stacked(features):
    assert {level: map.shape for level, map in maps.items()} == {
      str(level): (2, 256 >> level, 128 >> level, 16) for level in range(3, 8)
    }


def test_one_repeat_is_model_gardens_decoder(features):
  ours = StackedFpn(Fpn(3, 6), num_filters=16, num_repeats=1, separable=True)
  ours(features)
  theirs = FPN(
    {level: map.shape for level, map in features.items()},
    min_level=3,
    max_level=6,
    num_filters=16,
    use_separable_conv=True,
    norm_momentum=0.997,
    norm_epsilon=1e-4,
  )
  theirs.set_weights(ours.repeats[0].get_weights())
  for training in (False, True):
    expected = theirs(features, training=training)
    for level, map in ours(features, training=training)[-1].items():
      np.testing.assert_allclose(map, expected[level], rtol=1e-5, atol=1e-5)


def test_a_further_repeat_has_laterals_and_outputs_on_every_level(stacked):
  first, second = stacked.repeats
  kernels = sorted(v.name.split("/")[0] for v in second.trainable_variables if "kernel" in v.name)
  assert kernels == [f"{kind}_{level}" for kind in ("lateral", "post_hoc") for level in range(3, 8)]
  kernels = sorted(v.name.split("/")[0] for v in first.trainable_variables if "kernel" in v.name)
  assert kernels == ["coarser_6", "coarser_7"] + [
    f"{kind}_{level}" for kind in ("lateral", "post_hoc") for level in range(3, 6)
  ]


@pytest.mark.slow
def test_a_further_repeat_costs_what_figure_8a_says():
  # 10^9 FLOPs of R-50 @ 256 at 640 pixels with 1, 3, 5 and 7 repeats: 193.50, 215.86, 238.23,
  # 260.59. FLOPs are twice the multiply-adds.
  sizes = [
    measure_size(
      build_detector(DetectorConfig(backbone="R-10", architecture="fpn", num_repeats=repeats), 90)
    )["pyramid"]
    for repeats in (1, 2)
  ]
  published = (260.59 - 193.50) / 6 / 2 * 1e9
  ours = sizes[1].multiply_adds - sizes[0].multiply_adds
  assert ours == pytest.approx(published, rel=1e-3)


def test_gradients_reach_every_weight_of_a_detector_with_it():
  config = DetectorConfig(
    backbone="MobileNetV2",
    architecture=Fpn(3, 6),
    num_filters=16,
    num_repeats=2,
    image_size=(64, 64),
    head_num_convs=1,
    separable_convolutions=True,
  )
  tf_keras.utils.set_random_seed(0)
  detector = build_detector(config, 3)
  images = tf.random.stateless_normal([2, 64, 64, 3], [0, 1])
  with tf.GradientTape() as tape:
    outputs = tf.nest.flatten(detector(images, training=True))
    loss = tf.add_n([tf.reduce_sum(map**2) for map in outputs])
  for variable, gradient in zip(
    detector.trainable_variables,
    tape.gradient(loss, detector.trainable_variables),
    strict=True,
  ):
    assert gradient is not None, variable.name


def test_config_round_trips(stacked, features):
  copy = StackedFpn.from_config(stacked.get_config())
  copy(features)
  copy.set_weights(stacked.get_weights())
  for ours, theirs in zip(copy(features), stacked(features), strict=True):
    np.testing.assert_array_equal(ours["6"], theirs["6"])


def test_every_repeat_drops_other_blocks_in_training_only(stacked, features):
  drop = Drop(tf.constant(0.2), tf.constant([1, 2]))
  plain = stacked(features, training=False)
  for maps, same in zip(stacked(features, training=False, drop=drop), plain, strict=True):
    np.testing.assert_array_equal(maps["3"], same["3"])
  first, second = (maps["3"].numpy() == 0 for maps in stacked(features, training=True, drop=drop))
  assert 0.1 < first.mean() < 0.25
  assert (first != second).any()


def test_impossible_levels_are_refused():
  with pytest.raises(ValueError, match="min_level 6 and max_level 6"):
    Fpn(6, 6)
  with pytest.raises((UserError, ValueError), match="not a multiple of 64"):
    DetectorConfig(architecture=Fpn(3, 6), image_size=(96, 96))
