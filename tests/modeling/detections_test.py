"""Decoding and non-maximum suppression against Model Garden's generators."""

import numpy as np
import pytest
import tensorflow as tf
from official.vision.modeling.layers import detection_generator
from official.vision.ops import box_ops

from official_nasfpn.modeling import (
  DetectorConfig,
  anchor_boxes,
  detect_boxes,
  flat_anchors,
  flatten_outputs,
)

CONFIG = DetectorConfig(image_size=(128, 256))
NUM_CLASSES = 3
IMAGE_SIZES = np.array([[128.0, 256.0], [96.0, 200.0]], np.float32)


def peaky_outputs(num_peaks=40, seed=0):
  """Returns outputs like a trained model's: nearly all anchors are confident background."""
  rng = np.random.default_rng(seed)
  class_logits, box_deltas = {}, {}
  for level, anchors in anchor_boxes(CONFIG).items():
    height, width, _ = anchors.shape
    logits = rng.normal(-8.0, 0.5, (2, height, width, 9 * NUM_CLASSES))
    peaks = rng.choice(logits.size, size=min(num_peaks, logits.size), replace=False)
    logits.flat[peaks] = rng.uniform(-4.0, 3.0, len(peaks))
    class_logits[level] = tf.constant(logits, tf.float32)
    box_deltas[level] = tf.constant(rng.normal(0, 0.3, (2, *anchors.shape)), tf.float32)
  return {"class_logits": class_logits, "box_deltas": box_deltas}


def model_garden_detections(outputs, nms_version):
  """Runs Model Garden's generator, which drops the first class as background."""
  scores = {}
  for level, logits in outputs["class_logits"].items():
    batch, height, width, _ = logits.shape
    by_anchor = tf.reshape(logits, [batch, height, width, 9, NUM_CLASSES])
    padded = tf.pad(by_anchor, [[0, 0]] * 4 + [[1, 0]])
    scores[level] = tf.reshape(padded, [batch, height, width, -1])
  anchors = {
    level: tf.tile(boxes[tf.newaxis], [2, 1, 1, 1]) for level, boxes in anchor_boxes(CONFIG).items()
  }
  generator = detection_generator.MultilevelDetectionGenerator(nms_version=nms_version)
  return generator(outputs["box_deltas"], scores, anchors, IMAGE_SIZES)


@pytest.mark.parametrize("nms_version", ["v1", "batched"])
def test_equals_model_garden(nms_version):
  outputs = peaky_outputs()
  ours = detect_boxes(outputs, flat_anchors(CONFIG), IMAGE_SIZES, CONFIG)
  expected = model_garden_detections(outputs, nms_version)
  # It also returns boxes that clipping left empty.
  boxes = expected["detection_boxes"].numpy()
  is_found = np.arange(boxes.shape[1]) < expected["num_detections"].numpy()[:, np.newaxis]
  kept = is_found & np.all(boxes[..., 2:] > boxes[..., :2], axis=-1)
  np.testing.assert_array_equal(ours["num_detections"], kept.sum(axis=1))
  for image, count in enumerate(ours["num_detections"].numpy()):
    assert 10 < count <= 100
    for ours_key, key in (("boxes", "detection_boxes"), ("scores", "detection_scores")):
      np.testing.assert_allclose(
        ours[ours_key][image, :count],
        expected[key][image].numpy()[kept[image]],
        rtol=1e-5,
        atol=1e-4,
      )
    # Model Garden counts the background as class 0.
    classes = expected["detection_classes"][image].numpy()[kept[image]] - 1
    np.testing.assert_array_equal(ours["classes"][image, :count], classes)


def test_shapes_order_and_clipping():
  ours = detect_boxes(peaky_outputs(), flat_anchors(CONFIG), IMAGE_SIZES, CONFIG)
  assert ours["boxes"].shape == (2, 100, 4)
  assert ours["classes"].dtype == ours["num_detections"].dtype == tf.int32
  assert np.all(np.diff(ours["scores"]) <= 0)
  assert float(tf.reduce_min(ours["boxes"])) >= 0
  # Clipped to the image, not to the padded input of the network.
  np.testing.assert_array_less(ours["boxes"][1].numpy().max(0), [96.01, 200.01, 96.01, 200.01])


def test_what_lies_in_the_padding_is_not_found():
  outputs, sizes = peaky_outputs(), np.array([[128.0, 256.0], [128.0, 20.0]], np.float32)
  whole = detect_boxes(outputs, flat_anchors(CONFIG), sizes[[0, 0]], CONFIG)
  found = detect_boxes(outputs, flat_anchors(CONFIG), sizes, CONFIG)
  count = int(found["num_detections"][1])
  assert 0 < count < whole["num_detections"][1] // 2
  boxes = found["boxes"][1, :count].numpy()
  np.testing.assert_array_less(boxes[:, :2], boxes[:, 2:])


def test_a_box_is_found_where_it_was_encoded():
  truth = np.array([[30.0, 40.0, 80.0, 110.0], [10.0, 150.0, 60.0, 190.0]], np.float32)
  anchors = anchor_boxes(CONFIG)
  class_logits = {
    level: np.full((1, *boxes.shape[:2], 9 * NUM_CLASSES), -9.0, np.float32)
    for level, boxes in anchors.items()
  }
  box_deltas = {level: np.zeros((1, *boxes.shape), np.float32) for level, boxes in anchors.items()}
  for label, (box, level, row, column, anchor) in enumerate(
    [(truth[0], "4", 3, 4, 5), (truth[1], "3", 4, 21, 2)]
  ):
    prior = anchors[level][row, column, 4 * anchor : 4 * anchor + 4]
    deltas = box_ops.encode_boxes(tf.constant([box]), tf.constant([prior]))
    box_deltas[level][0, row, column, 4 * anchor : 4 * anchor + 4] = deltas[0]
    class_logits[level][0, row, column, NUM_CLASSES * anchor + label + 1] = 4.0 - label
  found = detect_boxes(
    {"class_logits": to_tensors(class_logits), "box_deltas": to_tensors(box_deltas)},
    flat_anchors(CONFIG),
    IMAGE_SIZES[:1],
    CONFIG,
  )
  assert found["num_detections"].numpy().tolist() == [2]
  np.testing.assert_allclose(found["boxes"][0, :2], truth, atol=1e-3)
  np.testing.assert_array_equal(found["classes"][0, :2], [1, 2])


def to_tensors(maps):
  return {level: tf.constant(map) for level, map in maps.items()}


def test_nothing_found_gives_no_detections():
  outputs = peaky_outputs()
  outputs["class_logits"] = {
    level: tf.fill(logits.shape, -9.0) for level, logits in outputs["class_logits"].items()
  }
  found = detect_boxes(outputs, flat_anchors(CONFIG), IMAGE_SIZES, CONFIG)
  assert found["num_detections"].numpy().tolist() == [0, 0]
  assert not np.any(found["scores"])


def test_flat_outputs_are_in_the_order_of_the_anchors():
  outputs = {
    "class_logits": {
      level: tf.constant(np.repeat(boxes[np.newaxis, ..., ::4], 2, axis=-1))
      for level, boxes in anchor_boxes(CONFIG).items()
    },
    "box_deltas": to_tensors(
      {level: boxes[np.newaxis] for level, boxes in anchor_boxes(CONFIG).items()}
    ),
  }
  class_logits, box_deltas = flatten_outputs(outputs)
  anchors = flat_anchors(CONFIG)
  np.testing.assert_array_equal(box_deltas[0], anchors)
  np.testing.assert_array_equal(class_logits[0], anchors[:, [0, 0]])
