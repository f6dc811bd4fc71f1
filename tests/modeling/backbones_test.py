"""Every backbone keeps the same contract."""

import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.modeling.backbones import BACKBONES, build_backbone

CHANNELS = {
  "R-10": (128, 256, 512),
  "R-18": (128, 256, 512),
  "R-34": (128, 256, 512),
  "R-50": (512, 1024, 2048),
  "R-101": (512, 1024, 2048),
}
# Trunks as published, in millions (torchvision's models less the classifier: 21.28, 23.51, 42.50;
# the Model Garden projects the first shortcut of basic blocks too, 4,224 weights more).
PARAMETERS = {"R-10": 4.91, "R-18": 11.18, "R-34": 21.29, "R-50": 23.51, "R-101": 42.50}


@pytest.mark.parametrize("name", BACKBONES)
def test_contract(name):
  backbone = build_backbone(name, (64, 96))
  assert {level: map.shape[1:] for level, map in backbone.output.items()} == {
    level: (64 >> int(level), 96 >> int(level), channels)
    for level, channels in zip(("3", "4", "5"), CHANNELS[name], strict=True)
  }
  parameters = sum(weight.shape.num_elements() for weight in backbone.trainable_weights)
  assert parameters / 1e6 == pytest.approx(PARAMETERS[name], abs=0.005)


@pytest.mark.parametrize("name", ["R-10", "R-50"])
def test_gradients_reach_every_weight(name):
  backbone = build_backbone(name, (64, 64))
  images = tf.constant(np.random.default_rng(0).normal(size=(2, 64, 64, 3)), tf.float32)
  with tf.GradientTape() as tape:
    maps = backbone(images, training=True)
    loss = tf.add_n([tf.reduce_sum(map**2) for map in maps.values()])
  gradients = tape.gradient(loss, backbone.trainable_weights)
  for weight, gradient in zip(backbone.trainable_weights, gradients, strict=True):
    assert gradient is not None, weight.name
    assert float(tf.reduce_max(tf.abs(gradient))) > 0, weight.name


@pytest.mark.parametrize("name", BACKBONES)
def test_width_scales_every_layer(name):
  narrow = build_backbone(name, (64, 64), width=0.25)
  assert {level: map.shape[-1] for level, map in narrow.output.items()} == {
    level: channels // 4 for level, channels in zip(("3", "4", "5"), CHANNELS[name], strict=True)
  }
  shapes = [weight.shape for weight in narrow.trainable_weights if weight.shape.rank == 4]
  full = build_backbone(name, (64, 64))
  for narrowed, published in zip(
    shapes, [w.shape for w in full.trainable_weights if w.shape.rank == 4], strict=True
  ):
    assert narrowed[-1] * 4 == published[-1]
    assert narrowed[-2] * 4 == published[-2] or narrowed[-2] == published[-2] == 3  # The image.


def test_batch_norm_settings_arrive():
  backbone = build_backbone("R-10", (64, 64), norm_momentum=0.9, norm_epsilon=1e-2)
  norms = [layer for layer in backbone.submodules if "batch_normalization" in layer.name]
  assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.9, 1e-2)}


def test_unknown_backbone():
  with pytest.raises(ValueError, match=r"Unknown backbone 'R-11'; there are R-10, R-18"):
    build_backbone("R-11", (64, 64))
