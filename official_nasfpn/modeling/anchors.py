"""Anchor boxes as constants; they depend on the configuration alone."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from official.vision.ops import anchor

from official_nasfpn.modeling.anchor_reach import settled_anchor_size
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.pyramids import pyramid_kind


def anchor_boxes(config: DetectorConfig) -> dict[str, np.ndarray]:
  """Returns the anchors of every level.

  Args:
    config: describes the detector.

  Returns:
    {level: float32 [height_l, width_l, anchors * 4]}; a box is (ymin, xmin, ymax, xmax) in pixels
    of the network's input, and may reach beyond it.

  Raises:
    UserError: `Detector.anchor_size` is 'auto': `open_dataset` makes it a number.
  """
  spec = config.architecture
  with tf.init_scope():  # Constants are wanted also while a graph is being traced.
    if level_anchors := pyramid_kind(spec).level_anchors:
      return {
        str(level): _anchors_of_level(level_anchors(spec, level), level, config.image_size)
        for level in spec.levels
      }
    anchors = anchor.Anchor(
      min_level=spec.min_level,
      max_level=spec.max_level,
      num_scales=config.num_scales,
      aspect_ratios=config.aspect_ratios,
      anchor_size=settled_anchor_size(config),
      image_size=config.image_size,
    )
    return {level: boxes.numpy() for level, boxes in anchors.multilevel_boxes.items()}


def _anchors_of_level(
  scales_and_ratios: Sequence[tuple[float, float]], level: int, image_size: tuple[int, int]
) -> np.ndarray:
  """Returns the anchors of a level that has its own, float32 [height_l, width_l, anchors * 4]."""
  boxes = [
    anchor.Anchor(
      min_level=level,
      max_level=level,
      num_scales=1,
      aspect_ratios=(ratio,),
      anchor_size=scale * min(image_size) / 2**level,
      image_size=image_size,
    ).multilevel_boxes[str(level)]
    for scale, ratio in scales_and_ratios
  ]
  return tf.concat(boxes, axis=-1).numpy()


def flat_anchors(config: DetectorConfig) -> np.ndarray:
  """Returns the anchors of all levels, lowest level first, as float32 [num_anchors, 4]."""
  return np.concatenate([boxes.reshape(-1, 4) for boxes in anchor_boxes(config).values()])
