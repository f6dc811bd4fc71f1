"""From the network's raw outputs to boxes: decoding and non-maximum suppression."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from official.vision.ops import box_ops

from official_nasfpn.modeling.config import DetectorConfig

# Of one exit: "class_logits" and "box_deltas", each by level.
Outputs = Mapping[str, Mapping[str, tf.Tensor]]


def flatten_outputs(outputs: Outputs) -> tuple[tf.Tensor, tf.Tensor]:
  """Joins the levels of a detector's outputs, in the order of `flat_anchors`.

  Args:
    outputs: of one exit of a `Detector`.

  Returns:
    Class logits [batch, num_anchors, num_classes] and box deltas [batch, num_anchors, 4].
  """
  class_logits, box_deltas = [], []
  for level in sorted(outputs["box_deltas"], key=int):
    deltas = outputs["box_deltas"][level]
    logits = outputs["class_logits"][level]
    _, height, width, channels = deltas.shape
    anchors_per_location = channels // 4
    num_anchors = height * width * anchors_per_location
    num_classes = logits.shape[-1] // anchors_per_location
    box_deltas.append(tf.reshape(deltas, [-1, num_anchors, 4]))
    class_logits.append(tf.reshape(logits, [-1, num_anchors, num_classes]))
  return tf.concat(class_logits, axis=1), tf.concat(box_deltas, axis=1)


def decode_outputs(
  outputs: Outputs, anchors: np.ndarray | tf.Tensor, image_sizes: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the box and the scores of every anchor.

  Args:
    outputs: of one exit of a `Detector`.
    anchors: `flat_anchors(config)`, [num_anchors, 4].
    image_sizes: [batch, 2], or [1, 2] for all, height and width in pixels that the image takes of
      the network's input, from the top left corner; boxes are clipped to it.

  Returns:
    float32 [batch, num_anchors, 4], (ymin, xmin, ymax, xmax) in pixels of the network's input, and
    float32 [batch, num_anchors, num_classes] in [0, 1]: 0 where clipping left nothing of the box.
  """
  class_logits, box_deltas = flatten_outputs(outputs)
  boxes = box_ops.decode_boxes(box_deltas, tf.constant(anchors, tf.float32))
  boxes = box_ops.clip_boxes(boxes, image_sizes[:, tf.newaxis, :])
  # Model Garden lets boxes that lie in the padding take part in non-maximum suppression, where
  # nothing suppresses them, and returns them as lines along the border of the image.
  return boxes, zero_scores_of_empty(boxes, tf.sigmoid(class_logits))


def zero_scores_of_empty(boxes: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
  """Returns the scores, 0 for boxes without area.

  Args:
    boxes: [..., 4], (ymin, xmin, ymax, xmax).
    scores: [..., num_classes].
  """
  sides = boxes[..., 2:] - boxes[..., :2]
  has_area = tf.reduce_all(sides > 0, axis=-1, keepdims=True)
  return scores * tf.cast(has_area, scores.dtype)


def detect_boxes(
  outputs: Outputs,
  anchors: np.ndarray | tf.Tensor,
  image_sizes: tf.Tensor,
  config: DetectorConfig,
) -> dict[str, tf.Tensor]:
  """Decodes the boxes and keeps the best of each class that do not overlap.

  Args:
    outputs: of one exit of a `Detector`.
    anchors: `flat_anchors(config)`, [num_anchors, 4].
    image_sizes: [batch, 2], height and width in pixels that the image takes of the network's input,
      from the top left corner; the rest is padding, and boxes are clipped to the image.
    config: gives the thresholds and the number of detections.

  Returns:
    `boxes`, `scores`, `classes` and `num_detections` of `BATCH_ARRAYS` in `data/detections.py`,
    with `max_detections` rows for each image, but boxes in pixels of the network's input.
  """
  boxes, scores = decode_outputs(outputs, anchors, image_sizes)
  # Model Garden's default, a while loop of TensorFlow operations, is 200 times slower at equal AP.
  kept = tf.image.combined_non_max_suppression(
    boxes[:, :, tf.newaxis, :],
    scores,
    max_output_size_per_class=config.max_detections,
    max_total_size=config.max_detections,
    iou_threshold=config.nms_iou_threshold,
    score_threshold=config.score_threshold,
    clip_boxes=False,
  )
  return {
    "boxes": kept.nmsed_boxes,
    "scores": kept.nmsed_scores,
    "classes": tf.cast(kept.nmsed_classes, tf.int32),
    "num_detections": kept.valid_detections,
  }


def detect_in_images(
  outputs: Outputs,
  anchors: np.ndarray | tf.Tensor,
  scaled_sizes: tf.Tensor,
  original_sizes: tf.Tensor,
  config: DetectorConfig,
) -> dict[str, tf.Tensor]:
  """Detects as `detect_boxes` does, with boxes in pixels of the original images.

  Args:
    outputs: of one exit of a `Detector`.
    anchors: `flat_anchors(config)`, [num_anchors, 4].
    scaled_sizes: [batch, 2], the `image_sizes` of `detect_boxes`.
    original_sizes: float32 [batch, 2], height and width of the images before they were fitted.
    config: gives the thresholds and the number of detections.
  """
  detections = detect_boxes(outputs, anchors, scaled_sizes, config)
  scale = tf.tile(original_sizes / scaled_sizes, [1, 2])
  return {**detections, "boxes": detections["boxes"] * scale[:, tf.newaxis, :]}
