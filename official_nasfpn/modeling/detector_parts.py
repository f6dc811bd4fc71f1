"""The parts of a detector by name, to freeze them or to train them at another pace.

`backbone`, `pyramid` and `head` (those of all exits) are the whole. Of a backbone, `group_2` to
`group_5` are the layers between two levels, the blocks of a ResNet's stage, and `stem` is what
comes before them.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping

import tensorflow as tf
import tf_keras

from official_nasfpn.modeling.detector import Detector

# Stages of ResNets with PyTorch's names, whose first convolutions have the former level's size.
_STAGE = re.compile(r"layer(\d)\.")


def layers_of_parts(detector: Detector) -> dict[str, list[tf_keras.layers.Layer]]:
  """Returns the layers of every part, by its name."""
  parts: dict[str, list[tf_keras.layers.Layer]] = {
    "stem": [],
    **{f"group_{level}": [] for level in (2, 3, 4, 5)},
    "backbone": [detector.backbone],
    "pyramid": [detector.pyramid],
    "head": [detector.head, *detector.early_heads],
  }
  height = detector.backbone.input_shape[1]
  for layer in _layers(detector.backbone):
    if layer.weights:
      parts[_group(layer, height)].append(layer)
  return parts


def freeze(detector: Detector, parts: Collection[str], backbone_norms: bool = False) -> None:
  """Keeps the weights of some parts as they are, also the statistics of their batch norms.

  Args:
    detector: a built detector.
    parts: names, as `layers_of_parts` has them.
    backbone_norms: whether all batch norms of the backbone are kept.
  """
  layers = layers_of_parts(detector)
  for part in parts:
    for layer in layers[part]:
      layer.trainable = False
  if backbone_norms:
    for layer in detector.backbone.submodules:
      if isinstance(layer, tf_keras.layers.BatchNormalization):
        layer.trainable = False


def factors_by_weight(detector: Detector, factors: Mapping[str, float] | None) -> dict[str, float]:
  """Returns the factor of every weight that has one, by the weight's name.

  Args:
    detector: a built detector.
    factors: by name of a part. Where one part lies in another, its own factor counts.
  """
  if not factors:
    return {}
  layers = layers_of_parts(detector)
  widest_first = sorted(factors, key=lambda part: part != "backbone")
  return {
    weight.name.removesuffix(":0"): factors[part]
    for part in widest_first
    for layer in layers[part]
    for weight in layer.weights
  }


def _layers(model: tf_keras.Model) -> Iterator[tf_keras.layers.Layer]:
  """Yields the layers of a functional model and of those in it; blocks of layers as a whole."""
  for layer in model.layers:
    if isinstance(layer, tf_keras.Model):
      yield from _layers(layer)
    else:
      yield layer


def _group(layer: tf_keras.layers.Layer, image_height: int) -> str:
  if found := _STAGE.match(layer.name):
    return f"group_{int(found[1]) + 1}"
  # Some blocks of Model Garden give further maps after their own.
  height = tf.nest.flatten(layer.output)[0].shape[1]
  level = round(math.log2(image_height / height))
  return f"group_{level}" if level > 1 else "stem"
