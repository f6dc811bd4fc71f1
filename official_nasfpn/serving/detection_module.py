"""What an export holds: encoded images in, detections in pixels of those images out."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.data.preprocessing import resize_and_pad
from official_nasfpn.modeling.anchors import flat_anchors
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detections import detect_boxes
from official_nasfpn.modeling.detector import Detector


class DetectionModule(tf.Module):
  """A detector from encoded images to boxes, as a plain module of variables and one function.

  Saving the tree of Keras layers instead takes five times as long and adds nothing to serving.
  """

  def __init__(
    self,
    detector: Detector,
    config: DetectorConfig,
    label_map: LabelMap,
    assets: Sequence[Path] = (),
  ):
    """Joins a detector with all that comes before and after it.

    Args:
      detector: with the weights to serve.
      config: the settings that it was built from.
      label_map: its classes.
      assets: files that travel inside the SavedModel.
    """
    super().__init__(name="detection")
    self.detector_variables = detector.variables
    self.assets = [tf.saved_model.Asset(str(path)) for path in assets]
    anchors = tf.constant(flat_anchors(config))
    category_ids = tf.constant([category.id for category in label_map.categories], tf.int64)

    def prepare(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
      # Three channels whatever the file has: grey and CMYK images are converted.
      image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
      image.set_shape([None, None, 3])
      network_input, scaled_size = resize_and_pad(image, config.image_size)
      return network_input, scaled_size, tf.cast(tf.shape(image)[:2], tf.float32)

    @tf.autograph.experimental.do_not_convert
    def detect(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
      with tf.device("CPU:0"):  # Images of many sizes, one by one: nothing for an accelerator.
        images, scaled_sizes, original_sizes = tf.map_fn(
          prepare,
          image_bytes,
          fn_output_signature=(
            tf.TensorSpec([*config.image_size, 3], tf.float32),
            tf.TensorSpec([2], tf.float32),
            tf.TensorSpec([2], tf.float32),
          ),
        )
      detections = detect_boxes(detector(images, training=False)[-1], anchors, scaled_sizes, config)
      scale = tf.tile(original_sizes / scaled_sizes, [1, 2])
      filled = tf.sequence_mask(detections["num_detections"], config.max_detections)
      ids = tf.gather(category_ids, detections["classes"])
      return {
        **detections,
        "boxes": detections["boxes"] * scale[:, tf.newaxis, :],
        "category_ids": tf.where(filled, ids, 0),
      }

    signature = [tf.TensorSpec([None], tf.string, name="image_bytes")]
    self.detect = tf.function(detect, input_signature=signature)
