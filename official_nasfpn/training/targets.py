"""Which anchor learns which box.

Model Garden assigns anchors in the input pipeline, image by image on the host, which takes up to
70 % of its time. Here it happens inside the train step, for the whole batch and on the device; the
targets are the same, which a parity test against `anchor.AnchorLabeler` holds.
"""

from typing import NamedTuple

import tensorflow as tf
from official.vision.ops import box_ops

BACKGROUND = -1


class AnchorTargets(NamedTuple):
  """What every anchor should predict.

  Attributes:
    classes: int32 [batch, anchors], class index or `BACKGROUND`.
    boxes: float32 [batch, anchors, 4], box offsets relative to the anchor; 0 for background.
  """

  classes: tf.Tensor
  boxes: tf.Tensor


def assign_targets(
  anchors: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, match_iou: float
) -> AnchorTargets:
  """Assigns every anchor to the box it overlaps most, or to the background.

  An anchor is positive from an overlap of `match_iou`. Each box also claims the anchor that
  overlaps it most, however little (Lin et al. 2017, section 4, as in Model Garden).

  Args:
    anchors: float32 [anchors, 4], corners (ymin, xmin, ymax, xmax) in pixels.
    boxes: float32 [batch, boxes, 4], same layout; padding rows have no area.
    classes: int32 [batch, boxes], class index; negative in padding rows.
    match_iou: in [0, 1].

  Returns:
    The targets of all anchors.
  """
  valid = classes >= 0
  overlaps = tf.where(valid[:, :, tf.newaxis], _pairwise_iou(boxes, anchors), -1.0)
  box_of_anchor = tf.argmax(overlaps, axis=1, output_type=tf.int32)
  positive = tf.reduce_max(overlaps, axis=1) >= match_iou

  # Scatters instead of Model Garden's one_hot [boxes, anchors]. Where two boxes claim one anchor
  # the first wins, as there.
  num_anchors = tf.shape(anchors)[0]
  num_boxes = tf.shape(boxes)[1]
  best_anchor = tf.argmax(overlaps, axis=2, output_type=tf.int32)
  # Padding rows claim an extra anchor behind the last, which is cut off.
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
  # The anchor itself stands in for background: its offsets are finite, and zero.
  matched = tf.where(positive[:, :, tf.newaxis], matched, anchors[tf.newaxis])
  target_boxes = box_ops.encode_boxes(
    matched, tf.broadcast_to(anchors[tf.newaxis], tf.shape(matched))
  )
  return AnchorTargets(target_classes, target_boxes)


def _pairwise_iou(boxes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
  """Returns the overlaps [batch, boxes, anchors] of `boxes` [batch, boxes, 4] with all anchors."""
  # Anchors stand in the last dimension: it is long and contiguous, where Model Garden's
  # [anchors, boxes] runs along a handful of boxes.
  top, left, bottom, right = tf.unstack(boxes[:, :, tf.newaxis, :], axis=-1)
  anchor_top, anchor_left, anchor_bottom, anchor_right = tf.unstack(anchors, axis=-1)
  height = tf.nn.relu(tf.minimum(bottom, anchor_bottom) - tf.maximum(top, anchor_top))
  width = tf.nn.relu(tf.minimum(right, anchor_right) - tf.maximum(left, anchor_left))
  intersection = height * width
  area = (bottom - top) * (right - left)
  anchor_area = (anchor_bottom - anchor_top) * (anchor_right - anchor_left)
  return tf.math.divide_no_nan(intersection, area + anchor_area - intersection)
