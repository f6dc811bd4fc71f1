"""Anchors against numbers worked out by hand."""

import numpy as np
import tensorflow as tf

from official_nasfpn.modeling import DetectorConfig, anchor_boxes, flat_anchors


def test_sizes_ratios_and_centres():
  config = DetectorConfig(image_size=(128, 256))
  boxes = anchor_boxes(config)
  assert {level: anchors.shape for level, anchors in boxes.items()} == {
    "3": (16, 32, 36), "4": (8, 16, 36), "5": (4, 8, 36), "6": (2, 4, 36), "7": (1, 2, 36),
  }  # fmt: skip
  # Row 1, column 2 at level 3: centre (1.5, 2.5) * 8. For each scale and ratio: side 4 * 8
  # times 2^(0, 1/3, 2/3); ratio is width over height at equal area.
  anchors = boxes["3"][1, 2].reshape(9, 4)
  heights = anchors[:, 2] - anchors[:, 0]
  widths = anchors[:, 3] - anchors[:, 1]
  np.testing.assert_allclose((anchors[:, 0] + anchors[:, 2]) / 2, 12, rtol=1e-6)
  np.testing.assert_allclose((anchors[:, 1] + anchors[:, 3]) / 2, 20, rtol=1e-6)
  sides = 32 * 2 ** np.repeat([0, 1 / 3, 2 / 3], 3)
  np.testing.assert_allclose(np.sqrt(heights * widths), sides, rtol=1e-5)
  np.testing.assert_allclose(widths / heights, np.tile([0.5, 1, 2], 3), rtol=1e-5)


def test_flat_anchors_are_in_order_of_level_row_column():
  config = DetectorConfig(image_size=(128, 128))
  flat = flat_anchors(config)
  boxes = anchor_boxes(config)
  assert flat.shape == (9 * (16**2 + 8**2 + 4**2 + 2**2 + 1), 4)
  assert flat.dtype == np.float32
  np.testing.assert_array_equal(flat[9 * (3 * 16 + 5)], boxes["3"][3, 5, :4])
  np.testing.assert_array_equal(flat[9 * 16**2 + 1], boxes["4"][0, 0, 4:8])


def test_constants_can_be_made_while_tracing():
  config = DetectorConfig(image_size=(128, 128))
  traced = tf.function(lambda: tf.constant(flat_anchors(config)))()
  np.testing.assert_array_equal(traced, flat_anchors(config))
