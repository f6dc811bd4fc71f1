"""What one image costs the detector of a trial."""

import dataclasses

import pytest

from official_nasfpn.architecture import CATALOG
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detector import build_detector
from official_nasfpn.modeling.model_size import total_size
from official_nasfpn.search.proxy.cost import latency_of, multiply_adds_of

CONFIG = DetectorConfig(
  backbone="R-10", num_filters=8, num_repeats=2, head_num_convs=1, image_size=(128, 128)
)


@pytest.mark.parametrize("separable", [False, True])
def test_multiply_adds_are_those_of_the_whole_detector(separable):
  config = dataclasses.replace(CONFIG, separable_convolutions=separable)
  count = multiply_adds_of(config, num_classes=3)
  costs = {name: count(CATALOG[name]) for name in ("nas_fpn", "panet", "bifpn_like")}
  assert len(set(costs.values())) == 3
  # One of them is built; tests/modeling/closed_form_test.py has all kinds of detectors.
  detector = build_detector(dataclasses.replace(config, architecture=CATALOG["panet"]), 3)
  assert costs["panet"] == total_size(detector).multiply_adds


def test_latency_is_a_time():
  assert 0 < latency_of(CONFIG, num_classes=3)(CATALOG["nas_fpn"]) < 60_000
