"""Sizes in closed form against built detectors of every kind."""

import dataclasses
import random

import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.architecture import Fpn, PyramidSpec, SearchSpace
from official_nasfpn.modeling import DetectorConfig, build_detector, detector, measure_size
from official_nasfpn.modeling.backbone_size import backbone_size
from official_nasfpn.modeling.closed_form import detector_size, total_size
from official_nasfpn.modeling.layer_sizes import Size

SMALL = DetectorConfig(
  backbone="R-10",
  backbone_width=0.125,
  num_filters=12,
  num_repeats=1,
  head_num_convs=1,
  image_size=(128, 256),
)
# P3 to P4 of images whose sides are no multiples of 32.
LOW = PyramidSpec(3, 4, (((0, 1), 4, "sum"), ((1, 2), 3, "global_pool")))
LITE = {"separable_convolutions": True, "top_levels": "convolution"}
# Together they cover every setting of a detector; few of them, since each takes a second.
CHANGES = {
  "two repeats": {"num_repeats": 2, "num_scales": 1, "aspect_ratios": (1.0, 2.0)},
  "P4 to P6, wider heads": {
    "architecture": SearchSpace(4, 6).sample(random.Random(0)),
    "head_num_filters": 20,
    "head_num_convs": 2,
  },
  "the backbone's width, separable, heads of one layer": {
    "num_filters": 32,
    "separable_convolutions": True,
    "head_num_convs": 0,
  },
  "NAS-FPNLite, up to P6": {**LITE, "architecture": "nas_fpnlite_ours"},
  "P3 and P4 of an odd image": {"architecture": LOW, "image_size": (48, 80), "num_repeats": 2},
  "two FPNs": {"architecture": "fpn", "num_repeats": 2},
  "FPNLite, up to P6": {**LITE, "architecture": Fpn(max_level=6)},
  "FPN of P3 and P4, of an odd image": {"architecture": Fpn(3, 4), "image_size": (48, 80)},
  "FPN from P5": {"architecture": Fpn(5, 7)},
  "shared exits": {"exit_heads": "shared", "num_repeats": 2, "architecture": LOW},
  "separate exits, of two FPNs": {
    **LITE,
    "exit_heads": "separate",
    "num_repeats": 2,
    "architecture": Fpn(4, 6),
    "head_num_filters": 20,
  },
}


@pytest.fixture
def maps_alone(monkeypatch):
  """Replaces backbones by a cheap model whose maps have the right shapes.

  tests/modeling/backbones_test.py tests the size of backbones.
  """

  def build(name, image_size, *, width, **norm):
    image = tf_keras.Input([*image_size, 3])
    _, maps = backbone_size(name, image_size, width)
    outputs = {
      level: tf.zeros([1, map.height, map.width, map.channels]) + 0 * image[:1, :1, :1, :1]
      for level, map in maps.items()
    }
    return tf_keras.Model(image, outputs)

  monkeypatch.setattr(detector, "build_backbone", build)


@pytest.mark.parametrize("kind", CHANGES)
def test_pyramid_and_heads(kind, maps_alone):
  config = dataclasses.replace(SMALL, **CHANGES[kind])
  measured = measure_size(build_detector(config, 5))
  counted = detector_size(config, 5)
  assert {**counted, "backbone": Size()} == {**measured, "backbone": Size()}


def test_the_size_is_known_before_the_backbone_could_be_built():
  config = DetectorConfig(backbone="AmoebaNet-D", num_filters=384, image_size=(1280, 1280))
  # Figure 9a of the paper, 185.16 M, less a classifier of 4.10 M that no detector has.
  assert total_size(config, 90).parameters / 1e6 == pytest.approx(181.06, rel=5e-3)


@pytest.mark.parametrize("spec", [Fpn(2, 6), Fpn(6, 7)])
def test_levels_that_no_backbone_gives_are_refused(spec):
  with pytest.raises(
    ValueError, match=f"begins at level {spec.min_level}, and backbones give levels 3 to 5"
  ):
    DetectorConfig(architecture=spec, num_repeats=1)
