"""The RetinaNet detector: backbone, stacked pyramid, class and box heads at its exits."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras
from official.vision.modeling.heads.dense_prediction_heads import RetinaNetHead

from official_nasfpn.modeling.backbones import build_backbone
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detections import Outputs
from official_nasfpn.modeling.drop_block import Drop
from official_nasfpn.modeling.pyramid_stack import PyramidLayer
from official_nasfpn.modeling.pyramids import build_pyramid, pyramid_kind
from official_nasfpn.modeling.shared_head import SharedHead
from official_nasfpn.modeling.stored_settings import StoredSettings
from official_nasfpn.modeling.wired_pyramid import Wiring


class Detector(tf_keras.Model):
  """Images in, class logits and box deltas of one or several exits out (section 3.2).

  Exit k is read off the k-th stacked pyramid. Every detector has the last exit; an anytime detector
  has all of them. Checkpoints hold the weights under the attributes `backbone`, `pyramid`, `head`
  and `early_heads`.

  Attributes:
    exits: the numbers of its exits, the last one last.
  """

  def __init__(
    self,
    backbone: tf_keras.Model,
    pyramid: PyramidLayer,
    head: RetinaNetHead,
    early_heads: Sequence[RetinaNetHead] = (),
    name: str = "detector",
  ):
    """Joins the parts.

    Args:
      backbone: from images to {level: feature map}.
      pyramid: from those to the pyramids of every repeat.
      head: from the final pyramid to class logits and box deltas.
      early_heads: the same for the pyramids before it, the first one first; none where there is the
        last exit only.
      name: scope of the weights' names.

    Raises:
      ValueError: pyramid and heads are of different levels, or some early pyramids have no head.
    """
    of_pyramid = pyramid.spec.min_level, pyramid.spec.max_level
    for each in (head, *early_heads):
      levels = each.get_config()
      of_head = levels["min_level"], levels["max_level"]
      if of_head != of_pyramid:
        raise ValueError(
          f"The pyramid gives P{of_pyramid[0]} to P{of_pyramid[1]}, the head wants P{of_head[0]} "
          f"to P{of_head[1]}. Build the head for the levels of the pyramid's spec."
        )
    if len(early_heads) not in (0, pyramid.num_repeats - 1):
      raise ValueError(
        f"{len(early_heads)} early heads for the {pyramid.num_repeats - 1} pyramids before the "
        "last. Give one for each of them, or none."
      )
    super().__init__(name=name)
    self.backbone = backbone
    self.pyramid = pyramid
    self.head = head
    self.early_heads = list(early_heads)
    first = pyramid.num_repeats - len(early_heads)
    self.exits = tuple(range(first, pyramid.num_repeats + 1))

  @tf.autograph.experimental.do_not_convert
  def call(
    self,
    images: tf.Tensor | Mapping[str, tf.Tensor],
    training: bool | None = None,
    drop: Drop | None = None,
    exits: Sequence[int] | None = None,
    wiring: Wiring | None = None,
  ) -> list[Outputs]:
    """Runs the detector; beyond the highest exit asked for, nothing is computed.

    Args:
      images: float32 [batch, height, width, 3], normalised; or what the backbone has made of them,
        {level: map}, which is then not run.
      training: whether batch norms use, and follow, the batch's statistics.
      drop: blocks that the pyramid's cells drop if `training`; None drops nothing.
      exits: which to run, some of `self.exits`; None runs all.
      wiring: the architecture to compute, where the pyramid is a `WiredPyramid`; None computes
        the pyramid's own spec.

    Returns:
      For every exit {"class_logits": {level: [batch, height_l, width_l, anchors * num_classes]},
      "box_deltas": {level: [batch, height_l, width_l, anchors * 4]}}, float32.
    """
    exits = self.exits if exits is None else exits
    heads = dict(zip(self.exits, [*self.early_heads, self.head], strict=True))
    is_image = not isinstance(images, Mapping)
    features = self.backbone(images, training=training) if is_image else images
    others = {} if wiring is None else {"wiring": wiring}
    pyramids = self.pyramid(
      features, training=training, drop=drop, last_repeat=max(exits), **others
    )
    outputs = []
    for number in exits:
      class_logits, box_deltas, _ = heads[number](pyramids[number - 1])
      outputs.append(
        {"class_logits": _to_float32(class_logits), "box_deltas": _to_float32(box_deltas)}
      )
    return outputs


def build_detector(config: DetectorConfig, num_classes: int, wired: bool = False) -> Detector:
  """Builds a detector with freshly initialised weights.

  After `tf_keras.utils.set_random_seed` the same config gives the same weights.

  Args:
    config: what it is made of.
    num_classes: object classes, without a background class.
    wired: whether its pyramid is a `WiredPyramid`, which computes other architectures as well.

  Raises:
    ValueError: it is to be wired, and its architecture has no merging cells.
  """
  head = _build_head(config, num_classes)
  detector = Detector(
    backbone=build_backbone(
      config.backbone, config.image_size, width=config.backbone_width, norm=config.norm
    ),
    pyramid=build_pyramid(config, wired),
    head=head,
    early_heads=_build_early_heads(config, head),
  )
  detector.settings = StoredSettings(config)
  detector(tf_keras.Input([*config.image_size, 3]))  # Makes the weights, runs nothing.
  _initialise_separable_heads([*detector.early_heads, head])
  return detector


def _build_head(config: DetectorConfig, num_classes: int) -> RetinaNetHead:
  spec = config.architecture
  settings = {
    "min_level": spec.min_level,
    "max_level": spec.max_level,
    "num_classes": num_classes,
    **config.norm.for_model_garden(),
    "name": "head",
  }
  if level_anchors := pyramid_kind(spec).level_anchors:
    return RetinaNetHead(
      num_anchors_per_location={
        str(level): len(level_anchors(spec, level)) for level in spec.levels
      },
      num_convs=0,
      use_separable_conv=True,
      share_level_convs=False,  # The levels' maps have different widths.
      **settings,
    )
  return RetinaNetHead(
    num_anchors_per_location=config.num_anchors_per_location,
    num_convs=config.head_num_convs,
    num_filters=config.head_num_filters or config.num_filters,
    use_separable_conv=config.separable_convolutions,
    **settings,
  )


def _build_early_heads(config: DetectorConfig, last: RetinaNetHead) -> list[RetinaNetHead]:
  """Returns the heads of the exits before the last, as `Detector.exit_heads` wants them."""
  names = [f"head_{number}" for number in range(1, config.num_repeats)]
  if config.exit_heads == "shared":
    return [SharedHead(last, name=name) for name in names]
  if config.exit_heads == "separate":
    settings = last.get_config()
    return [RetinaNetHead(**settings, name=name) for name in names]
  return []


def _initialise_separable_heads(heads: Sequence[RetinaNetHead]) -> None:
  """Initialises separable heads so that they learn as fast as plain ones; leaves plain ones."""
  # Model Garden draws the depthwise kernels of the predictions with a deviation of 0.03, so that
  # the pointwise kernels behind them get next to no gradient: in 410 train steps on BCCD a detector
  # reached an AP of 0.01, 0.22 with 1.0 and 0.26 with a plain head. With 1.0 a depthwise sum is as
  # large as the nine values that a plain kernel sees; 0.01 is what RetinaNet's plain heads have.
  deviations = {"depthwise_kernel": 1.0, "pointwise_kernel": 0.01}
  variables = {id(variable): variable for head in heads for variable in head.trainable_variables}
  for variable in variables.values():
    for name, deviation in deviations.items():
      if name in variable.name:
        # A new one each time: one and the same would draw the same values again.
        initializer = tf_keras.initializers.RandomNormal(stddev=deviation)
        variable.assign(initializer(variable.shape))


def _to_float32(maps: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  # Losses, sigmoid and box decoding want full precision under a mixed policy too.
  return {level: tf.cast(features, tf.float32) for level, features in maps.items()}
