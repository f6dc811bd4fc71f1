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
  num_boxes = tf.shape(boxes)[1]
  # Rows after the last box of the batch are padding.
  num_rows = tf.reduce_max(tf.where(valid, tf.range(1, num_boxes + 1), 0))
  highest, box_of_anchor, best_anchor = _best_matches(anchors, boxes, valid, num_rows)
  positive = highest >= match_iou

  # A scatter instead of Model Garden's one_hot [boxes, anchors]. If two boxes claim one anchor, the
  # first box wins, as there.
  num_anchors = tf.shape(anchors)[0]
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


def _best_matches(
  anchors: tf.Tensor, boxes: tf.Tensor, valid: tf.Tensor, num_rows: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Compares all anchors with one row of boxes after the other.

  So nothing is as large as [batch, boxes, anchors], which takes gigabytes at 640 pixels and a
  batch of 64, and no time goes into padding.

  Args:
    anchors: as in `assign_targets`.
    boxes: as in `assign_targets`.
    valid: bool [batch, boxes].
    num_rows: int32 [], how many of the rows to compare with.

  Returns:
    The highest IoU of every anchor, float32 [batch, anchors], -1 where an image has no boxes; the
    first box that has it, int32 [batch, anchors]; and the first of the anchors with the highest IoU
    of every box, int32 [batch, boxes].
  """
  anchor_top, anchor_left, anchor_bottom, anchor_right = tf.unstack(anchors, axis=-1)
  anchor_area = (anchor_bottom - anchor_top) * (anchor_right - anchor_left)
  columns = tf.range(tf.shape(boxes)[1])

  def compare(row, highest, box_of_anchor, best_anchor):
    top, left, bottom, right = tf.unstack(boxes[:, row, :, tf.newaxis], axis=1)
    height = tf.nn.relu(tf.minimum(bottom, anchor_bottom) - tf.maximum(top, anchor_top))
    width = tf.nn.relu(tf.minimum(right, anchor_right) - tf.maximum(left, anchor_left))
    intersection = height * width
    union = (bottom - top) * (right - left) + anchor_area - intersection
    iou = tf.math.divide_no_nan(intersection, union)
    iou = tf.where(valid[:, row, tf.newaxis], iou, -1.0)
    box_of_anchor = tf.where(iou > highest, row, box_of_anchor)
    best = tf.argmax(iou, axis=1, output_type=tf.int32)
    best_anchor = tf.where(columns == row, best[:, tf.newaxis], best_anchor)
    return row + 1, tf.maximum(highest, iou), box_of_anchor, best_anchor

  shape = [tf.shape(boxes)[0], tf.shape(anchors)[0]]
  _, *matches = tf.while_loop(
    lambda row, *_: row < num_rows,
    compare,
    (0, tf.fill(shape, -1.0), tf.zeros(shape, tf.int32), tf.zeros_like(valid, tf.int32)),
  )
  return tuple(matches)
