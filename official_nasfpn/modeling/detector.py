"""The RetinaNet detector: backbone, stacked pyramid, class and box heads."""

import tensorflow as tf
import tf_keras
from official.vision.modeling.heads.dense_prediction_heads import RetinaNetHead

from official_nasfpn.architecture import Fpn
from official_nasfpn.modeling.backbones import build_backbone
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.drop_block import Drop
from official_nasfpn.modeling.feature_pyramid import FeaturePyramid
from official_nasfpn.modeling.stacked_fpn import StackedFpn


class Detector(tf_keras.Model):
  """Images in, class logits and box deltas of the final pyramid out.

  Checkpoints hold the weights under the attributes `backbone`, `pyramid` and `head`.
  """

  def __init__(
    self,
    backbone: tf_keras.Model,
    pyramid: FeaturePyramid | StackedFpn,
    head: RetinaNetHead,
    name: str = "detector",
  ):
    """Joins the parts.

    Args:
      backbone: from images to {level: feature map}.
      pyramid: from those to the pyramids of every repeat.
      head: from one pyramid to class logits and box deltas.
      name: scope of the weights' names.
    """
    super().__init__(name=name)
    self.backbone = backbone
    self.pyramid = pyramid
    self.head = head

  @tf.autograph.experimental.do_not_convert
  def call(
    self, images: tf.Tensor, training: bool | None = None, drop: Drop | None = None
  ) -> dict[str, dict[str, tf.Tensor]]:
    """Runs the detector.

    Args:
      images: float32 [batch, height, width, 3], normalised.
      training: whether batch norms use, and follow, the batch's statistics.
      drop: blocks that the pyramid's cells drop if `training`; None drops nothing.

    Returns:
      {"class_logits": {level: [batch, height_l, width_l, anchors * num_classes]},
      "box_deltas": {level: [batch, height_l, width_l, anchors * 4]}}, float32.
    """
    features = self.backbone(images, training=training)
    pyramids = self.pyramid(features, training=training, drop=drop)
    class_logits, box_deltas, _ = self.head(pyramids[-1])
    return {
      "class_logits": _to_float32(class_logits),
      "box_deltas": _to_float32(box_deltas),
    }


def build_detector(config: DetectorConfig, num_classes: int) -> Detector:
  """Builds a detector with freshly initialised weights.

  After `tf_keras.utils.set_random_seed` the same config gives the same weights.

  Args:
    config: what it is made of.
    num_classes: object classes, without a background class.
  """
  norm = {"norm_momentum": config.norm_momentum, "norm_epsilon": config.norm_epsilon}
  spec = config.architecture
  detector = Detector(
    backbone=build_backbone(
      config.backbone,
      config.image_size,
      width=config.backbone_width,
      **norm,
      sync_batch_norm=config.sync_batch_norm,
    ),
    pyramid=_build_pyramid(config),
    head=RetinaNetHead(
      min_level=spec.min_level,
      max_level=spec.max_level,
      num_classes=num_classes,
      num_anchors_per_location=config.num_anchors_per_location,
      num_convs=config.head_num_convs,
      num_filters=config.head_num_filters or config.num_filters,
      use_separable_conv=config.separable_convolutions,
      **norm,
      use_sync_bn=config.sync_batch_norm,
      name="head",
    ),
  )
  detector(tf_keras.Input([*config.image_size, 3]))  # Makes the weights, runs nothing.
  return detector


def _build_pyramid(config: DetectorConfig) -> FeaturePyramid | StackedFpn:
  settings = {
    "num_filters": config.num_filters,
    "num_repeats": config.num_repeats,
    "separable": config.separable_convolutions,
    "norm_momentum": config.norm_momentum,
    "norm_epsilon": config.norm_epsilon,
    "sync_batch_norm": config.sync_batch_norm,
    "name": "pyramid",
  }
  if isinstance(config.architecture, Fpn):
    return StackedFpn(config.architecture, **settings)
  return FeaturePyramid(config.architecture, top_levels=config.top_levels, **settings)


def _to_float32(maps: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  # Losses, sigmoid and box decoding want full precision under a mixed policy too.
  return {level: tf.cast(features, tf.float32) for level, features in maps.items()}
