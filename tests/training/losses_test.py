"""The loss terms against Model Garden's RetinaNet task."""

import numpy as np
import pytest
import tensorflow as tf
from official.vision.configs import retinanet as mg_config
from official.vision.tasks import retinanet as mg_task

from official_nasfpn.training import losses
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.strategies import build_strategy
from official_nasfpn.training.targets import AnchorTargets

NUM_CLASSES = 4
SIDES = {"3": 4, "4": 2, "5": 1}
ANCHORS = 9


@pytest.fixture
def batch():
  rng = np.random.default_rng(0)
  shape = {level: (2, side, side, ANCHORS) for level, side in SIDES.items()}

  def normal(last):
    return {
      level: tf.constant(rng.normal(size=(*s[:3], ANCHORS * last)).astype(np.float32))
      for level, s in shape.items()
    }

  outputs = {"class_logits": normal(NUM_CLASSES), "box_deltas": normal(4)}
  classes = {level: rng.integers(-1, NUM_CLASSES, s).astype(np.int32) for level, s in shape.items()}
  boxes = {level: rng.normal(size=(*s, 4)).astype(np.float32) for level, s in shape.items()}
  return outputs, classes, boxes


def flatten(levels, *last):
  return np.concatenate([x.reshape(2, -1, *last) for x in levels.values()], axis=1)


def test_losses_are_model_gardens(batch):
  outputs, classes, boxes = batch
  targets = AnchorTargets(tf.constant(flatten(classes)), tf.constant(flatten(boxes, 4)))
  config = TrainingConfig()
  ours = losses.detection_losses([outputs], targets, config)[0]

  mg = mg_task.RetinaNetTask(
    mg_config.RetinaNetTask(model=mg_config.RetinaNet(num_classes=NUM_CLASSES))
  )
  _, class_loss, box_loss, _ = mg.build_losses(
    outputs={"cls_outputs": outputs["class_logits"], "box_outputs": outputs["box_deltas"]},
    labels={
      "cls_targets": classes,
      "box_targets": {level: b.reshape(*b.shape[:3], -1) for level, b in boxes.items()},
      "cls_weights": tf.ones_like(targets.classes, tf.float32),
      "box_weights": tf.cast(targets.classes >= 0, tf.float32),
    },
  )
  np.testing.assert_allclose(ours["class_loss"], class_loss, rtol=1e-5)
  np.testing.assert_allclose(ours["box_loss"], config.box_loss_weight * box_loss, rtol=1e-5)


def test_a_batch_without_objects_has_a_finite_loss_and_no_box_loss(batch):
  outputs, _, _ = batch
  num_anchors = sum(ANCHORS * side**2 for side in SIDES.values())
  targets = AnchorTargets(tf.fill([2, num_anchors], -1), tf.zeros([2, num_anchors, 4]))
  terms = losses.detection_losses([outputs], targets, TrainingConfig())[0]
  assert np.isfinite(terms["class_loss"])
  assert terms["box_loss"] == 0.0


def test_replicas_sum_to_one_device(batch):
  # Positives are unevenly spread over the replicas: normalising per replica would be seen.
  outputs, classes, boxes = batch
  flat_classes, flat_boxes = flatten(classes), flatten(boxes, 4)
  flat_classes[1, 3:] = -1
  targets = AnchorTargets(tf.constant(flat_classes), tf.constant(flat_boxes))
  (whole,) = losses.detection_losses([outputs], targets, TrainingConfig())
  strategy = build_strategy("mirrored")
  assert strategy.num_replicas_in_sync == 2

  def share(context):
    row = slice(context.replica_id_in_sync_group, context.replica_id_in_sync_group + 1)
    return (
      {name: {k: v[row] for k, v in maps.items()} for name, maps in outputs.items()},
      AnchorTargets(tf.constant(flat_classes[row]), tf.constant(flat_boxes[row])),
    )

  shares = strategy.experimental_distribute_values_from_function(share)

  @tf.function
  def run(values):
    return strategy.run(
      lambda x: losses.detection_losses([x[0]], x[1], TrainingConfig())[0], (values,)
    )

  for name, values in run(shares).items():
    total = strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)
    np.testing.assert_allclose(total, whole[name], rtol=1e-5)


def test_weight_decay_is_half_the_squared_norm_of_kernels_only():
  kernel = tf.Variable([[3.0, 4.0]], name="conv/kernel")
  others = [tf.Variable([100.0], name=name) for name in ("conv/bias", "norm/gamma", "norm/beta")]
  loss = losses.weight_decay_loss([kernel, *others], 1e-4)
  np.testing.assert_allclose(loss, 1e-4 * 25 / 2, rtol=1e-6)
