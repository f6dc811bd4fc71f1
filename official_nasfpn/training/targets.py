"""The assignment of anchors to boxes.

Model Garden assigns anchors in the input pipeline, image by image on the host, which takes up to
70 % of the pipeline's time. Here the train step assigns them, for the whole batch and on the
device. The targets are the same: a parity test compares them with `anchor.AnchorLabeler`.
"""

from typing import NamedTuple

import tensorflow as tf
from official.vision.ops import box_ops

BACKGROUND = -1


class AnchorTargets(NamedTuple):
  """The targets of all anchors.

  Attributes:
    classes: int32 [batch, anchors], class index or `BACKGROUND`.
    boxes: float32 [batch, anchors, 4], box offsets relative to the anchor; 0 for background.
  """

  classes: tf.Tensor
  boxes: tf.Tensor


def assign_targets(
  anchors: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, match_iou: float
) -> AnchorTargets:
  """Assigns every anchor to the box with the highest IoU, or to the background.

  An anchor is positive from an IoU of `match_iou`. Each box also claims the anchor with the highest
  IoU, however low it is (Lin et al. 2017, section 4, as in Model Garden).

  Args:
    anchors: float32 [anchors, 4], corners (ymin, xmin, ymax, xmax) in pixels.
    boxes: float32 [batch, boxes, 4], same layout; padding rows have no area.
    classes: int32 [batch, boxes], class index; negative in padding rows.
    match_iou: IoU from which an anchor is positive, in [0, 1].

  Returns:
    The targets of all anchors.
  """
  valid = classes >= 0
  overlaps = tf.where(valid[:, :, tf.newaxis], _pairwise_iou(boxes, anchors), -1.0)
  box_of_anchor = tf.argmax(overlaps, axis=1, output_type=tf.int32)
  positive = tf.reduce_max(overlaps, axis=1) >= match_iou

  # A scatter instead of Model Garden's one_hot [boxes, anchors]. If two boxes claim one anchor, the
  # first box wins, as there.
  num_anchors = tf.shape(anchors)[0]
  num_boxes = tf.shape(boxes)[1]
  best_anchor = tf.argmax(overlaps, axis=2, output_type=tf.int32)
  # Padding rows claim an extra anchor after the last, which is cut off.
  best_anchor = tf.where(valid, best_anchor, num_anchors)
  row = tf.broadcast_to(tf.range(tf.shape(boxes)[0])[:, tf.newaxis], tf.shape(best_anchor))
  claims = tf.tensor_scatter_nd_min(
    tf.fill([tf.shape(boxes)[0], num_anchors + 1], num_boxes),
    tf.stack([row, best_anchor], axis=-1),
    tf.broadcast_to(tf.range(num_boxes), tf.shape(best_anchor)),
  )[:, :-1]
  claimed = claims < num_boxes
  box_of_anchor = tf.where(claimed, claims, box_of_anchor)
  positive = positive | claimed

  target_classes = tf.where(
    positive, tf.gather(classes, box_of_anchor, batch_dims=1), tf.constant(BACKGROUND, tf.int32)
  )
  matched = tf.gather(boxes, box_of_anchor, batch_dims=1)
  # The box of background is the anchor itself: its offsets are finite, and zero.
  matched = tf.where(positive[:, :, tf.newaxis], matched, anchors[tf.newaxis])
  target_boxes = box_ops.encode_boxes(
    matched, tf.broadcast_to(anchors[tf.newaxis], tf.shape(matched))
  )
  return AnchorTargets(target_classes, target_boxes)


def _pairwise_iou(boxes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
  """Returns the IoU [batch, boxes, anchors] of `boxes` [batch, boxes, 4] with all anchors."""
  # Anchors are the last dimension because it is long and contiguous. In Model Garden's
  # [anchors, boxes], the last dimension is a handful of boxes.
  top, left, bottom, right = tf.unstack(boxes[:, :, tf.newaxis, :], axis=-1)
  anchor_top, anchor_left, anchor_bottom, anchor_right = tf.unstack(anchors, axis=-1)
  height = tf.nn.relu(tf.minimum(bottom, anchor_bottom) - tf.maximum(top, anchor_top))
  width = tf.nn.relu(tf.minimum(right, anchor_right) - tf.maximum(left, anchor_left))
  intersection = height * width
  area = (bottom - top) * (right - left)
  anchor_area = (anchor_bottom - anchor_top) * (anchor_right - anchor_left)
  return tf.math.divide_no_nan(intersection, area + anchor_area - intersection)
