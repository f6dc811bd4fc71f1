"""The detector as functions of pixels, with operations that ONNX Runtime and LiteRT have.

They have no strings and decode no files; TensorFlow Lite needs static shapes and one image at a
time.
"""

import tensorflow as tf
from official.vision.ops import preprocess_ops

from official_nasfpn.data.preprocessing import resize_and_pad
from official_nasfpn.modeling.anchors import flat_anchors
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detections import (
  Outputs,
  decode_outputs,
  detect_in_images,
  zero_scores_of_empty,
)
from official_nasfpn.modeling.detector import Detector

# Model Garden's `pre_nms_top_k`: no fewer boxes than this take part in non-maximum suppression.
_NUM_CANDIDATES = 5000


def detect_in_pixels(detector: Detector, config: DetectorConfig, exit_number: int) -> tf.function:
  """Returns a function for runtimes that know TensorFlow's non-maximum suppression, as ONNX does.

  Args:
    detector: with the weights to export.
    config: the settings that it was built from.
    exit_number: one of `detector.exits`.

  Returns:
    images, uint8 [batch, height, width, 3], RGB of any one size -> `boxes`, `scores`, `classes` and
    `num_detections` as a SavedModel gives them.
  """
  anchors = flat_anchors(config)

  def detect(images: tf.Tensor) -> dict[str, tf.Tensor]:
    # Elsewhere resizing keeps the type.
    network_inputs, scaled_size = resize_and_pad(tf.cast(images, tf.float32), config.image_size)
    shape = tf.shape(images)
    (outputs,) = detector(network_inputs, training=False, exits=(exit_number,))
    scaled, original = (
      tf.tile(size[tf.newaxis], [shape[0], 1])
      for size in (scaled_size, tf.cast(shape[1:3], tf.float32))
    )
    return detect_in_images(outputs, anchors, scaled, original, config)

  return _function(detect, tf.TensorSpec([None, None, None, 3], tf.uint8, name="images"))


def detect_in_network_input(
  detector: Detector, config: DetectorConfig, exit_number: int
) -> tf.function:
  """Returns a function of static shapes, with the plain non-maximum suppression of mobile runtimes.

  Args:
    detector: with the weights to export.
    config: the settings that it was built from.
    exit_number: one of `detector.exits`.

  Returns:
    images, float32 [1, H, W, 3], RGB of 0 to 255, fitted into the network's input, and sizes,
    float32 [1, 2], the height and width that the image takes of it -> `boxes`, in pixels of the
    network's input, `scores`, `classes` and `num_detections`.
  """
  anchors = flat_anchors(config)

  def detect(images: tf.Tensor, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
    boxes, scores = decode_outputs(_run(detector, images, exit_number), anchors, sizes)
    return _suppress(boxes[0], scores[0], config)

  height, width = config.image_size
  return _function(
    detect,
    tf.TensorSpec([1, height, width, 3], tf.float32, name="images"),
    tf.TensorSpec([1, 2], tf.float32, name="sizes"),
  )


def raw_outputs(detector: Detector, config: DetectorConfig, exit_number: int) -> tf.function:
  """Returns the network alone, to be computed in integers.

  Boxes are decoded and suppressed outside, since pixels of 8 bits would displace them, and each
  level gives its own outputs, since one scale for all would blur them.

  Args:
    detector: with the weights to export.
    config: the settings that it was built from.
    exit_number: one of `detector.exits`.

  Returns:
    images, float32 [1, H, W, 3] as above -> `class_logits_L` [1, height, width, anchors * classes]
    and `box_deltas_L` [1, height, width, anchors * 4] for every level L of the pyramid.
  """

  def run(images: tf.Tensor) -> dict[str, tf.Tensor]:
    # Or a pixel of 8 bits would mean what the brightest image of the calibration says.
    pixels = tf.quantization.fake_quant_with_min_max_args(images, 0.0, 255.0)
    outputs = _run(detector, pixels, exit_number)
    return {
      f"{kind}_{level}": values
      for kind, levels in outputs.items()
      for level, values in levels.items()
    }

  height, width = config.image_size
  return _function(run, tf.TensorSpec([1, height, width, 3], tf.float32, name="images"))


def _function(function, *signature: tf.TensorSpec) -> tf.function:
  return tf.function(tf.autograph.experimental.do_not_convert(function), input_signature=signature)


def _run(detector: Detector, images: tf.Tensor, exit_number: int) -> Outputs:
  mean, deviation = (
    tf.constant(values) for values in (preprocess_ops.MEAN_RGB, preprocess_ops.STDDEV_RGB)
  )
  (outputs,) = detector((images - mean) / deviation, training=False, exits=(exit_number,))
  return outputs


def _suppress(boxes: tf.Tensor, scores: tf.Tensor, config: DetectorConfig) -> dict[str, tf.Tensor]:
  """Keeps the best of each class that do not overlap.

  Args:
    boxes: float32 [anchors, 4] in pixels of the network's input.
    scores: float32 [anchors, classes].
    config: gives the thresholds and the number of detections.
  """
  num_classes = scores.shape[-1]
  num_candidates = min(_NUM_CANDIDATES, scores.shape[0] * num_classes)
  scores, indices = tf.math.top_k(tf.reshape(scores, [-1]), num_candidates)
  classes = indices % num_classes
  boxes = tf.gather(boxes, indices // num_classes)
  # Classes are moved apart, so that boxes of two never overlap and one pass does for all.
  offsets = tf.cast(classes, tf.float32) * (max(config.image_size) + 1.0)
  apart = boxes + offsets[:, tf.newaxis]
  # LiteRT suppresses a box that it has kept by its overlap with itself. Without area, as rounding
  # beside a large offset can leave it, that is 0, and it is kept until the output is full of it.
  scores = zero_scores_of_empty(apart, scores[:, tf.newaxis])[:, 0]
  kept, num_detections = tf.image.non_max_suppression_padded(
    apart,
    scores,
    config.max_detections,
    iou_threshold=config.nms_iou_threshold,
    score_threshold=config.score_threshold,
    pad_to_max_output_size=True,
  )
  filled = tf.range(config.max_detections) < num_detections
  kept = {
    "boxes": tf.gather(boxes, kept) * tf.cast(filled, tf.float32)[:, tf.newaxis],
    "scores": tf.gather(scores, kept) * tf.cast(filled, tf.float32),
    "classes": tf.gather(classes, kept) * tf.cast(filled, tf.int32),
    "num_detections": num_detections,
  }
  return {name: values[tf.newaxis] for name, values in kept.items()}
