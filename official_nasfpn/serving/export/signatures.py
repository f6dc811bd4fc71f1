"""The signatures of a SavedModel; `saved_model.py` describes their inputs and outputs."""

from collections.abc import Callable

import tensorflow as tf

from official_nasfpn.data.image_headers import IMAGE_STARTS
from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.data.preprocessing import normalize, resize_and_pad
from official_nasfpn.modeling.anchors import flat_anchors
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detections import decode_outputs, detect_in_images
from official_nasfpn.modeling.detector import Detector

_BYTES = tf.TensorSpec([None], tf.string, name="image_bytes")
_TENSORS = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
_BUDGET = tf.TensorSpec([None], tf.float32, name="budget_ms")

# Images as the network wants them, their sizes in it, and their own sizes, each [batch, ...].
_Prepared = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def detection_signatures(
  detector: Detector,
  config: DetectorConfig,
  label_map: LabelMap,
  exit_latency_ms: tf.Variable,
) -> dict[str, Callable]:
  """Returns the signatures of a SavedModel, by name.

  Args:
    detector: with the weights to serve.
    config: the settings that it was built from.
    label_map: its classes.
    exit_latency_ms: float32 [exits], the times by which `detect_within` chooses.
  """
  anchors = tf.constant(flat_anchors(config))
  category_ids = tf.constant([category.id for category in label_map.categories], tf.int64)
  names = tf.constant([category.name for category in label_map.categories])

  network_input = tf.TensorSpec([None, *config.image_size, 3], tf.float32, name="images")

  def outputs_of(exit_number: int) -> Callable:
    return _function(
      lambda images: detector(images, training=False, exits=(exit_number,))[0], [network_input]
    )

  # Traced once for all signatures, and once in the file: what is read in a third of the time.
  networks = {number: outputs_of(number) for number in detector.exits}

  def detect(prepared: _Prepared, exit_number: int) -> dict[str, tf.Tensor]:
    images, scaled_sizes, original_sizes = prepared
    outputs = networks[exit_number](images)
    detections = detect_in_images(outputs, anchors, scaled_sizes, original_sizes, config)
    filled = tf.sequence_mask(detections["num_detections"], config.max_detections)
    return {
      **detections,
      "category_ids": tf.where(filled, tf.gather(category_ids, detections["classes"]), 0),
      "labels": tf.where(filled, tf.gather(names, detections["classes"]), ""),
    }

  def detect_at(exit_number: int) -> Callable:
    def detect_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
      return detect(_decode(image_bytes, config.image_size), exit_number)

    return detect_bytes

  def detect_tensors(images: tf.Tensor) -> dict[str, tf.Tensor]:
    network_inputs, scaled_size = resize_and_pad(images, config.image_size)
    shape = tf.shape(images)
    sizes = (scaled_size, tf.cast(shape[1:3], tf.float32))
    return detect(
      (network_inputs, *(tf.tile(size[tf.newaxis], [shape[0], 1]) for size in sizes)),
      detector.exits[-1],
    )

  def detect_within(image_bytes: tf.Tensor, budget_ms: tf.Tensor) -> dict[str, tf.Tensor]:
    prepared = _decode(image_bytes, config.image_size)
    batch = tf.shape(image_bytes)[0]
    # A batch is expected to take as long as its images one by one.
    affordable = exit_latency_ms * tf.cast(batch, tf.float32) <= tf.reduce_min(budget_ms)
    positions = tf.range(len(detector.exits))
    position = tf.reduce_max(tf.where(affordable, positions, 0))
    outputs = tf.switch_case(
      position, [lambda number=number: detect(prepared, number) for number in detector.exits]
    )
    chosen = tf.gather(tf.constant(detector.exits), position)
    expected_ms = tf.gather(exit_latency_ms, position) * tf.cast(batch, tf.float32)
    return {
      **outputs,
      "exit": tf.fill([batch], chosen),
      "expected_ms": tf.fill([batch], expected_ms),
    }

  def without_nms(images: tf.Tensor) -> dict[str, tf.Tensor]:
    finite = tf.reduce_all(tf.math.is_finite(images), axis=[1, 2, 3])
    with _refusal_of_all_but(finite, "images has pixels that are no finite numbers at position"):
      images = tf.identity(images)
    outputs = networks[detector.exits[-1]](normalize(images))
    size = tf.constant([config.image_size], tf.float32)
    boxes, scores = decode_outputs(outputs, anchors, size)
    return {"boxes": boxes, "scores": scores}

  functions = {
    "serving_default": (detect_at(detector.exits[-1]), [_BYTES]),
    "image_tensors": (detect_tensors, [_TENSORS]),
    "without_nms": (without_nms, [network_input]),
  }
  if len(detector.exits) > 1:
    functions |= {f"exit_{number}": (detect_at(number), [_BYTES]) for number in detector.exits}
    functions["detect_within"] = (detect_within, [_BYTES, _BUDGET])
  return {name: _function(*parts) for name, parts in functions.items()}


def _function(function: Callable, signature: list[tf.TensorSpec]) -> Callable:
  # Nothing in them depends on the values of tensors but through TensorFlow's own operations.
  return tf.function(tf.autograph.experimental.do_not_convert(function), input_signature=signature)


def _refusal_of_all_but(good: tf.Tensor, problem: str):
  """Returns a context whose operations fail unless all elements of a batch are good."""
  bad = tf.boolean_mask(tf.range(tf.size(good)), ~good)
  return tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(good), [problem, bad])])


def _decode(image_bytes: tf.Tensor, image_size: tuple[int, int]) -> _Prepared:
  # Decoding would fail as well, but not say at which of the images.
  start = tf.strings.substr(image_bytes, 0, 2)
  known = tf.reduce_any([tf.equal(start, magic) for magic in IMAGE_STARTS], axis=0)
  problem = "image_bytes has no JPEG, PNG, GIF, BMP or WebP image at position"

  def decode(encoded: tf.Tensor) -> _Prepared:
    # Three channels whatever the file has: grey and CMYK images are converted.
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    network_input, scaled_size = resize_and_pad(image, image_size)
    return network_input, scaled_size, tf.cast(tf.shape(image)[:2], tf.float32)

  size = tf.TensorSpec([2], tf.float32)
  # Images of many sizes, one by one: nothing for an accelerator.
  with tf.device("CPU:0"), _refusal_of_all_but(known, problem):
    return tf.map_fn(
      decode,
      tf.identity(image_bytes),
      fn_output_signature=(tf.TensorSpec([*image_size, 3], tf.float32), size, size),
    )
