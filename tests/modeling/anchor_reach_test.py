"""The closed form of anchors' reach against all anchors, one by one, and their assignment."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.errors import UserError
from official_nasfpn.modeling.anchor_reach import best_matches, level_anchors
from official_nasfpn.modeling.anchors import anchor_boxes, flat_anchors
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.training.targets import BACKGROUND, assign_targets

DETECTORS = {
  "usual": DetectorConfig(image_size=(128, 128)),
  "wide": DetectorConfig(
    image_size=(128, 384), anchor_size=1.75, num_scales=2, aspect_ratios=(0.2, 1.0, 1.5, 6.0)
  ),
  "few levels": DetectorConfig(image_size=(128, 128), architecture="fpn", anchor_size=2.5),
  # Levels of 20, 10, 5, 3, 2 and 1 cells, and anchors that `Detector` does not set.
  "ssdlite": DetectorConfig(
    backbone="MobileNetV2", architecture="ssdlite", num_repeats=1, image_size=(320, 320)
  ),
}


def random_boxes(rng, image_size, count=300):
  """Returns boxes from 1 pixel to the whole image, float32 [count, 4]; many reach the border."""
  size = np.array(image_size)
  centers = rng.uniform(0, size, (count, 2))
  sides = np.exp(rng.uniform(0, np.log(size), (count, 2)))
  corners = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1)
  corners = np.clip(corners, 0, np.tile(size, 2)).astype(np.float32)
  return corners[np.all(corners[:, 2:] - corners[:, :2] >= 1, axis=1)]


def iou_of(anchors, boxes):
  """Returns the IoU of each box with each anchor, [boxes, anchors]."""
  low = np.maximum(boxes[:, np.newaxis, :2], anchors[:, :2])
  high = np.minimum(boxes[:, np.newaxis, 2:], anchors[:, 2:])
  intersection = np.maximum(high - low, 0).prod(axis=-1)
  areas = [(each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, anchors)]
  return intersection / (areas[0][:, np.newaxis] + areas[1] - intersection)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_best_anchor_is_that_of_all_anchors(name):
  config = DETECTORS[name]
  boxes = random_boxes(np.random.default_rng(0), config.image_size)
  found = best_matches(level_anchors(config), boxes)
  by_level = {
    int(level): iou_of(anchors.reshape(-1, 4), boxes).max(axis=1)
    for level, anchors in anchor_boxes(config).items()
  }
  highest = np.max(list(by_level.values()), axis=0)
  np.testing.assert_allclose(found.iou, highest, rtol=1e-5)
  # Another level may be as good, up to rounding.
  at_level = [by_level[level][box] for box, level in enumerate(found.level)]
  np.testing.assert_allclose(at_level, highest, rtol=1e-5)
  assert len(set(found.level)) >= 2


@pytest.mark.parametrize("name", DETECTORS)
def test_the_shapes_are_those_of_the_anchors(name):
  config = DETECTORS[name]
  for anchors in level_anchors(config):
    boxes = anchor_boxes(config)[str(anchors.level)]
    assert boxes.shape[:2] == anchors.grid
    first = boxes[0, 0].reshape(-1, 4)
    np.testing.assert_allclose(first[:, 2:] - first[:, :2], anchors.sides, rtol=1e-4)
    centers = (first[:, 2:] + first[:, :2]) / 2
    np.testing.assert_allclose(centers, np.tile(anchors.stride, (len(first), 1)) / 2, rtol=1e-4)


@pytest.mark.parametrize("match_iou", [0.5, 0.3])
def test_reached_boxes_are_those_that_the_train_step_gives_anchors_for_their_iou(match_iou):
  config = DETECTORS["wide"]
  anchors = flat_anchors(config)
  boxes = random_boxes(np.random.default_rng(1), config.image_size, count=100)
  reach = best_matches(level_anchors(config), boxes).iou
  # One box an image: nothing else competes for its anchors.
  classes = np.zeros((len(boxes), 1), np.int32)
  assigned = [
    assign_targets(
      tf.constant(anchors), tf.constant(boxes[:, np.newaxis]), tf.constant(classes), threshold
    ).classes.numpy()
    != BACKGROUND
    for threshold in (match_iou, 1.0)
  ]
  by_iou, claimed = assigned
  # At 1.0 there is the claimed anchor alone, and it is the best.
  np.testing.assert_array_equal(claimed.sum(axis=1), 1)
  iou = iou_of(anchors, boxes)
  np.testing.assert_allclose(iou[claimed], reach, rtol=1e-5)
  reached = reach >= match_iou
  assert 0.2 < reached.mean() < 0.95
  np.testing.assert_array_equal((by_iou & (iou >= match_iou)).any(axis=1), reached)
  # The others have the claimed one and no more.
  np.testing.assert_array_equal(by_iou[~reached], claimed[~reached])


def test_a_size_that_is_to_be_chosen_has_no_anchors_yet():
  config = DetectorConfig(anchor_size="auto")
  for make in (level_anchors, anchor_boxes):
    with pytest.raises(UserError, match=r"Detector\.anchor_size = 'auto' becomes a number when"):
      make(config)


def test_it_needs_no_tensorflow():
  code = (
    "import sys, official_nasfpn.training.anchors.report; sys.exit('tensorflow' in sys.modules)"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
