"""The RetinaNet detector: backbone, stacked pyramid, class and box heads."""

import tensorflow as tf
import tf_keras
from official.vision.modeling.heads.dense_prediction_heads import RetinaNetHead

from official_nasfpn.architecture import Fpn, Ssdlite
from official_nasfpn.modeling.backbones import build_backbone
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.drop_block import Drop
from official_nasfpn.modeling.feature_pyramid import FeaturePyramid
from official_nasfpn.modeling.ssdlite import SsdliteFeatures
from official_nasfpn.modeling.stacked_fpn import StackedFpn


class Detector(tf_keras.Model):
  """Images in, class logits and box deltas of the final pyramid out.

  Checkpoints hold the weights under the attributes `backbone`, `pyramid` and `head`.
  """

  def __init__(
    self,
    backbone: tf_keras.Model,
    pyramid: FeaturePyramid | StackedFpn | SsdliteFeatures,
    head: RetinaNetHead,
    name: str = "detector",
  ):
    """Joins the parts.

    Args:
      backbone: from images to {level: feature map}.
      pyramid: from those to the pyramids of every repeat.
      head: from one pyramid to class logits and box deltas.
      name: scope of the weights' names.

    Raises:
      ValueError: pyramid and head are of different levels.
    """
    levels = head.get_config()
    of_head = levels["min_level"], levels["max_level"]
    of_pyramid = pyramid.spec.min_level, pyramid.spec.max_level
    if of_head != of_pyramid:
      raise ValueError(
        f"The pyramid gives P{of_pyramid[0]} to P{of_pyramid[1]}, the head wants P{of_head[0]} to "
        f"P{of_head[1]}. Build the head for the levels of the pyramid's spec."
      )
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
  detector = Detector(
    backbone=build_backbone(
      config.backbone,
      config.image_size,
      width=config.backbone_width,
      **norm,
      sync_batch_norm=config.sync_batch_norm,
    ),
    pyramid=_build_pyramid(config),
    head=_build_head(config, num_classes),
  )
  detector(tf_keras.Input([*config.image_size, 3]))  # Makes the weights, runs nothing.
  _initialise_separable_head(detector.head)
  return detector


def _build_pyramid(config: DetectorConfig) -> FeaturePyramid | StackedFpn | SsdliteFeatures:
  norm = {
    "norm_momentum": config.norm_momentum,
    "norm_epsilon": config.norm_epsilon,
    "sync_batch_norm": config.sync_batch_norm,
  }
  stack = {
    "num_filters": config.num_filters,
    "num_repeats": config.num_repeats,
    "separable": config.separable_convolutions,
  }
  spec = config.architecture
  if isinstance(spec, Ssdlite):
    return SsdliteFeatures(**norm, name="pyramid")
  if isinstance(spec, Fpn):
    return StackedFpn(spec, **stack, **norm, name="pyramid")
  return FeaturePyramid(spec, **stack, top_levels=config.top_levels, **norm, name="pyramid")


def _build_head(config: DetectorConfig, num_classes: int) -> RetinaNetHead:
  spec = config.architecture
  settings = {
    "min_level": spec.min_level,
    "max_level": spec.max_level,
    "num_classes": num_classes,
    "norm_momentum": config.norm_momentum,
    "norm_epsilon": config.norm_epsilon,
    "use_sync_bn": config.sync_batch_norm,
    "name": "head",
  }
  if isinstance(spec, Ssdlite):
    # Maps of different widths, so every level has predictions of its own, straight from its map.
    return RetinaNetHead(
      num_anchors_per_location={
        str(level): len(spec.anchors_of_level(level))
        for level in range(spec.min_level, spec.max_level + 1)
      },
      num_convs=0,
      use_separable_conv=True,
      share_level_convs=False,
      **settings,
    )
  return RetinaNetHead(
    num_anchors_per_location=config.num_anchors_per_location,
    num_convs=config.head_num_convs,
    num_filters=config.head_num_filters or config.num_filters,
    use_separable_conv=config.separable_convolutions,
    **settings,
  )


def _initialise_separable_head(head: RetinaNetHead) -> None:
  """Initialises a separable head so that it learns as fast as a plain one; leaves a plain one."""
  # Model Garden draws the depthwise kernels of the predictions with a deviation of 0.03, so that
  # the pointwise kernels behind them get next to no gradient: in 410 train steps on BCCD a detector
  # reached an AP of 0.01, 0.22 with 1.0 and 0.26 with a plain head. With 1.0 a depthwise sum is as
  # large as the nine values that a plain kernel sees; 0.01 is what RetinaNet's plain heads have.
  deviations = {"depthwise_kernel": 1.0, "pointwise_kernel": 0.01}
  for variable in head.trainable_variables:
    for name, deviation in deviations.items():
      if name in variable.name:
        # A new one each time: one and the same would draw the same values again.
        initializer = tf_keras.initializers.RandomNormal(stddev=deviation)
        variable.assign(initializer(variable.shape))


def _to_float32(maps: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  # Losses, sigmoid and box decoding want full precision under a mixed policy too.
  return {level: tf.cast(features, tf.float32) for level, features in maps.items()}
