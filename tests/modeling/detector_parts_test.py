"""The parts of a detector that can be frozen or trained at another pace."""

import dataclasses

import pytest
import tf_keras

from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detector import build_detector
from official_nasfpn.modeling.detector_parts import factors_by_weight, freeze, layers_of_parts

CONFIG = DetectorConfig(
  backbone="R-10",
  backbone_width=0.25,
  architecture="fpn",
  num_filters=8,
  num_repeats=2,
  exit_heads="separate",
  head_num_convs=1,
  image_size=(128, 128),
)
GROUPS = ("stem", "group_2", "group_3", "group_4", "group_5")


def names(layers):
  return {weight.name for layer in layers for weight in layer.weights}


@pytest.mark.parametrize(
  ("backbone", "blocks"),
  [("R-18", 2), ("R-18-torch", 2), ("R-50-keras", 3), ("MobileNetV2", 0), ("MobileNetV2-keras", 0)],
)
def test_the_groups_of_a_backbone_are_all_of_it(backbone, blocks):
  config = dataclasses.replace(
    CONFIG, backbone=backbone, backbone_width=0.125, num_repeats=1, exit_heads="last"
  )
  parts = layers_of_parts(build_detector(config, 2))
  of_groups = [names(parts[group]) for group in GROUPS]
  assert all(of_groups)
  assert sum(map(len, of_groups)) == len(set.union(*of_groups))
  assert set.union(*of_groups) == names(parts["backbone"])
  if backbone.startswith("R-"):
    assert len(of_groups[0]) in (5, 6)  # A convolution, with a bias or without, and its norm.
  if backbone.endswith(("-torch", "-keras")) and blocks:
    # The stage's first convolution, whose map has the size of the stage before.
    assert any(name.startswith("layer2.0.conv1") for name in of_groups[2])
    assert all(name.startswith("layer4") for name in of_groups[4])


def test_frozen_parts_are_not_trained():
  detector = build_detector(CONFIG, 2)
  trained = {weight.name for weight in detector.trainable_weights}
  freeze(detector, ("stem", "group_2", "head"))
  parts = layers_of_parts(detector)
  frozen = names([*parts["stem"], *parts["group_2"], *parts["head"]])
  left = {weight.name for weight in detector.trainable_weights}
  assert left == trained - frozen
  assert left
  # Every exit has a head of its own.
  assert any("head_1" in name for name in trained - left)


def test_the_backbones_batch_norms_can_be_frozen_alone():
  detector = build_detector(CONFIG, 2)
  freeze(detector, (), backbone_norms=True)
  kinds = {
    part: {
      isinstance(layer, tf_keras.layers.BatchNormalization): layer.trainable
      for layer in getattr(detector, part).submodules
      if isinstance(layer, (tf_keras.layers.BatchNormalization, tf_keras.layers.Conv2D))
    }
    for part in ("backbone", "pyramid")
  }
  assert kinds["backbone"] == {True: False, False: True}
  assert all(kinds["pyramid"].values())


def test_the_factor_of_the_narrower_part_counts():
  detector = build_detector(CONFIG, 2)
  factors = factors_by_weight(detector, {"stem": 0.01, "backbone": 0.1})
  parts = layers_of_parts(detector)
  stem = {name.removesuffix(":0") for name in names(parts["stem"])}
  assert {factors[name] for name in stem} == {0.01}
  assert {factor for name, factor in factors.items() if name not in stem} == {0.1}
  assert factors.keys() == {name.removesuffix(":0") for name in names(parts["backbone"])}
