"""The cost of a trial's detector for one image."""

import dataclasses
import random

import pytest

from official_nasfpn.architecture import CATALOG, SearchSpace
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detector import build_detector
from official_nasfpn.modeling.layer_sizes import Size
from official_nasfpn.modeling.model_size import measure_size
from official_nasfpn.search.proxy import cost
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
  # Only one of them is built; tests/modeling/closed_form_test.py covers all kinds of detectors.
  detector = build_detector(dataclasses.replace(config, architecture=CATALOG["panet"]), 3)
  assert costs["panet"] == sum(measure_size(detector).values(), Size()).multiply_adds


class Clock:
  """A clock by which each warm-up run takes 1 s, and timed run number n takes n ms."""

  def __init__(self):
    self.now = 0.0
    self.readings = 0

  def perf_counter(self):
    self.readings += 1
    run, is_end = divmod(self.readings - 1, 2)
    if is_end:
      self.now += 1.0 if run < 3 else (run - 2) / 1000
    return self.now


def test_latency_is_the_median_of_twenty_runs_in_milliseconds(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(cost, "time", clock)
  latency = latency_of(CONFIG, num_classes=3)(CATALOG["nas_fpn"])
  assert clock.readings == 2 * 23
  assert latency == pytest.approx(10.5)  # The median of 1, 2, ..., 20 ms.


def test_latency_is_that_of_the_detector_and_of_the_pyramid():
  large = dataclasses.replace(CONFIG, num_filters=64, image_size=(512, 512))
  latencies = [latency_of(config, num_classes=3)(CATALOG["nas_fpn"]) for config in (CONFIG, large)]
  assert latencies[1] > 3 * latencies[0]  # It has a hundred times the multiply-adds.
  with pytest.raises(ValueError, match="not a multiple of 256"):
    latency_of(CONFIG, num_classes=3)(SearchSpace(3, 8).sample(random.Random(0)))
