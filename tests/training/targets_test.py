"""Anchor assignment against Model Garden's `AnchorLabeler`."""

import numpy as np
import pytest
import tensorflow as tf
from official.vision.ops import anchor as mg_anchor

from official_nasfpn.modeling.anchors import flat_anchors
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.training.targets import BACKGROUND, assign_targets

SIZE = 128


@pytest.fixture(scope="module")
def anchors():
  return flat_anchors(DetectorConfig(image_size=(SIZE, SIZE)))


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
  centres = rng.uniform(0, SIZE, (count, 2))
  sizes = np.exp(rng.uniform(np.log(2), np.log(SIZE), (count, 2)))
  corners = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
  return np.clip(corners, 0, SIZE).astype(np.float32)


def model_garden_targets(boxes: np.ndarray, classes: np.ndarray):
  """Returns Model Garden's classes [anchors], boxes [anchors, 4] and positive [anchors]."""
  anchor = mg_anchor.build_anchor_generator(3, 7, 3, [0.5, 1.0, 2.0], 4.0)((SIZE, SIZE))
  labels = mg_anchor.AnchorLabeler(0.5, 0.5).label_anchors(
    anchor, tf.constant(boxes), tf.constant(classes[:, np.newaxis])
  )
  flat_classes = np.concatenate([np.reshape(x, -1) for x in labels[0].values()])
  flat_boxes = np.concatenate([np.reshape(x, (-1, 4)) for x in labels[1].values()])
  return flat_classes, flat_boxes, np.asarray(labels[4]).reshape(-1)


@pytest.mark.parametrize("seed", range(5))
def test_targets_are_model_gardens(anchors, seed):
  rng = np.random.default_rng(seed)
  # Different numbers of boxes share a batch, with padding; one image has none.
  counts = [7, 0, 20]
  boxes = np.zeros((3, 24, 4), np.float32)
  classes = np.full((3, 24), -1, np.int32)
  for row, count in enumerate(counts):
    boxes[row, :count] = random_boxes(rng, count)
    classes[row, :count] = rng.integers(0, 5, count)

  ours = assign_targets(tf.constant(anchors), tf.constant(boxes), tf.constant(classes), 0.5)

  for row, count in enumerate(counts):
    expected = model_garden_targets(boxes[row, :count], classes[row, :count])
    np.testing.assert_array_equal(ours.classes[row], expected[0])
    positive = expected[2] == 1.0
    np.testing.assert_array_equal(ours.classes[row] != BACKGROUND, positive)
    np.testing.assert_allclose(
      ours.boxes[row].numpy()[positive], expected[1][positive], rtol=1e-5, atol=1e-6
    )


def test_every_box_claims_an_anchor_however_small(anchors):
  boxes = tf.constant([[[60.0, 60.0, 61.5, 61.5], [0.0, 0.0, 0.0, 0.0]]])
  classes = tf.constant([[2, -1]])
  targets = assign_targets(tf.constant(anchors), boxes, classes, 0.5)
  assert np.count_nonzero(targets.classes == 2) == 1


def test_an_image_without_boxes_is_all_background_and_finite(anchors):
  targets = assign_targets(
    tf.constant(anchors), tf.zeros([2, 4, 4]), tf.fill([2, 4], tf.constant(-1)), 0.5
  )
  assert np.all(targets.classes == BACKGROUND)
  np.testing.assert_array_equal(targets.boxes, np.zeros_like(targets.boxes))


def test_assignment_compiles_with_static_shapes(anchors):
  boxes = tf.constant(random_boxes(np.random.default_rng(3), 8)[np.newaxis])
  classes = tf.constant([[0, 1, 2, 0, 1, 2, 0, -1]])
  plain = assign_targets(tf.constant(anchors), boxes, classes, 0.5)
  compiled = tf.function(assign_targets, jit_compile=True)(
    tf.constant(anchors), boxes, classes, tf.constant(0.5)
  )
  np.testing.assert_array_equal(plain.classes, compiled.classes)
  np.testing.assert_allclose(plain.boxes, compiled.boxes, rtol=1e-5, atol=1e-6)
