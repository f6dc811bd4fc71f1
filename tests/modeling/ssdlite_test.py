"""SSDLite: its maps, its anchors, its size, and what cannot be combined with it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn import configuration
from official_nasfpn.architecture import Ssdlite
from official_nasfpn.errors import UserError
from official_nasfpn.modeling import (
  DetectorConfig,
  anchor_boxes,
  build_detector,
  detector_size,
  flatten_outputs,
  measure_size,
)
from official_nasfpn.training.experiment import load_experiment

RECIPE = Path(__file__).parents[2] / "gin" / "paper" / "ssdlite.gin"
CONFIG = DetectorConfig(
  backbone="MobileNetV2", architecture="ssdlite", num_repeats=1, image_size=(320, 320)
)


@pytest.fixture(scope="module")
def detector():
  tf_keras.utils.set_random_seed(0)
  return build_detector(CONFIG, 90)


def test_the_backbone_with_the_arithmetic_of_keras_will_do(detector):
  of_keras = build_detector(dataclasses.replace(CONFIG, backbone="MobileNetV2-keras"), 90)
  (outputs,), (expected,) = (each(tf.zeros([1, 320, 320, 3])) for each in (of_keras, detector))
  assert tf.nest.map_structure(np.shape, outputs) == tf.nest.map_structure(np.shape, expected)


def test_every_anchor_has_an_output(detector):
  (outputs,) = detector(tf.zeros([1, 320, 320, 3]))
  sizes = {level: map.shape[1:3] for level, map in outputs["box_deltas"].items()}
  # Odd sides are rounded up: 20, 10, 5, 3, 2, 1 at 320 pixels (Liu et al. 2016: 19 to 1 at 300).
  assert {level: tuple(size) for level, size in sizes.items()} == {
    "4": (20, 20), "5": (10, 10), "6": (5, 5), "7": (3, 3), "8": (2, 2), "9": (1, 1)
  }  # fmt: skip
  anchors = anchor_boxes(CONFIG)
  for level, boxes in anchors.items():
    assert boxes.shape == outputs["box_deltas"][level].shape[1:]
  class_logits, box_deltas = flatten_outputs(outputs)
  count = 400 * 3 + (100 + 25 + 9 + 4 + 1) * 6
  assert class_logits.shape == (1, count, 90)
  assert box_deltas.shape == (1, count, 4)


def test_anchors_are_those_of_the_ssd_paper():
  anchors = {level: boxes.reshape(-1, 4) for level, boxes in anchor_boxes(CONFIG).items()}
  first = anchors["5"][:6]
  heights, widths = first[:, 2] - first[:, 0], first[:, 3] - first[:, 1]
  scale = 0.2 + 0.15  # Equation 4: 0.2 to 0.95 in six levels.
  np.testing.assert_allclose((heights * widths)[:5] ** 0.5, scale * 320, rtol=1e-5)
  np.testing.assert_allclose(widths / heights, [1, 2, 1 / 2, 3, 1 / 3, 1], rtol=1e-5)
  np.testing.assert_allclose(heights[5], 320 * (scale * (scale + 0.15)) ** 0.5, rtol=1e-5)
  # One for each cell of a grid over the image; the highest level has one in the middle.
  np.testing.assert_allclose((first[:, :2] + first[:, 2:]) / 2, 16, atol=1e-3)
  top = anchors["9"]
  np.testing.assert_allclose((top[:, :2] + top[:, 2:]) / 2, 160, atol=1e-3)


def test_parts_of_the_published_size(detector):
  parts = measure_size(detector)
  assert parts == detector_size(CONFIG, 90)
  assert parts["backbone"].parameters == 1_811_712
  # 320 x 1280, then (1280, 256, 512), (512, 128, 256), (256, 128, 256), (256, 64, 128), each with a
  # depthwise 3x3 in the middle; two numbers a channel of batch norm.
  channels = [(1280, 256, 512), (512, 128, 256), (256, 128, 256), (256, 64, 128)]
  expected = 320 * 1280 + 2 * 1280
  expected += sum(a * b + 9 * b + b * c + 2 * (b + b + c) for a, b, c in channels)
  assert parts["pyramid"].parameters == expected


def test_gradients_reach_every_weight():
  tf_keras.utils.set_random_seed(0)
  detector = build_detector(
    DetectorConfig(
      backbone="MobileNetV2", architecture="ssdlite", num_repeats=1, image_size=(64, 64)
    ),
    3,
  )
  with tf.GradientTape() as tape:
    maps = tf.nest.flatten(detector(tf.random.normal([2, 64, 64, 3]), training=True))
    loss = tf.add_n([tf.reduce_sum(map**2) for map in maps])
  gradients = tape.gradient(loss, detector.trainable_variables)
  # The last bottleneck of level 4 also feeds level 5, so no weights of the backbone are unused.
  for variable, gradient in zip(detector.trainable_variables, gradients, strict=True):
    assert gradient is not None, variable.name


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"backbone": "R-50"}, "R-50 has none. Set Detector.backbone = 'MobileNetV2'"),
    ({"num_repeats": 2}, "cannot be stacked: set Detector.num_repeats = 1"),
    ({"image_size": (300, 300)}, "height 300 is not a multiple of 32"),
    ({"architecture": "ssd_lite"}, "Did you mean ssdlite"),
  ],
)
def test_what_cannot_be_combined(settings, message):
  values = {"backbone": "MobileNetV2", "architecture": "ssdlite", "num_repeats": 1, **settings}
  with pytest.raises(UserError, match=message):
    configuration.build(DetectorConfig, **values)


def test_scales_must_rise():
  with pytest.raises(ValueError, match=r"min_scale 0.9 must be less than max_scale 0.5"):
    Ssdlite(0.9, 0.5)


def test_drop_block_is_refused():
  with pytest.raises(
    UserError, match=r"drop_block_rate = 0\.1: DropBlock does not work on Ssdlite"
  ):
    load_experiment([RECIPE], ["Training.drop_block_rate = 0.1"])
