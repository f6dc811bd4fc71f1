"""The cost of a trial's detector for one image."""

import contextlib
import dataclasses
import random
import sys

import pytest

from official_nasfpn.architecture import CATALOG, SearchSpace
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detector import build_detector
from official_nasfpn.modeling.layer_sizes import Size
from official_nasfpn.modeling.model_size import measure_size
from official_nasfpn.search.proxy import cost
from official_nasfpn.search.proxy.config import LatencyConfig
from official_nasfpn.search.proxy.cost import costs_of, same_parameters, time_network
from official_nasfpn.search.proxy.runtimes import require_runtime

CONFIG = DetectorConfig(
  backbone="R-10", num_filters=8, num_repeats=2, head_num_convs=1, image_size=(128, 128)
)


@pytest.mark.parametrize("separable", [False, True])
def test_multiply_adds_are_those_of_the_whole_detector(separable):
  config = dataclasses.replace(CONFIG, separable_convolutions=separable)
  count = costs_of(("multiply_adds", "parameters"), config, 3, LatencyConfig())
  sizes = {name: count(CATALOG[name]) for name in ("nas_fpn", "panet", "bifpn_like")}
  costs = {name: size["multiply_adds"] for name, size in sizes.items()}
  assert len(set(costs.values())) == 3
  # Only one of them is built; tests/modeling/closed_form_test.py covers all kinds of detectors.
  detector = build_detector(dataclasses.replace(config, architecture=CATALOG["panet"]), 3)
  size = sum(measure_size(detector).values(), Size())
  assert sizes["panet"] == {"multiply_adds": size.multiply_adds, "parameters": size.parameters}


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


def test_latency_is_the_median_of_twenty_runs_and_their_quartiles_its_noise(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(cost, "time", clock)
  timing = time_network(lambda: None)
  assert clock.readings == 2 * 23
  assert timing == pytest.approx((10.5, 15.25 - 5.75))  # Of 1, 2, ..., 20 ms.


def test_latency_is_that_of_the_detector_and_of_the_pyramid():
  large = dataclasses.replace(CONFIG, num_filters=64, image_size=(512, 512))
  measures = [costs_of(("latency",), config, 3, LatencyConfig()) for config in (CONFIG, large)]
  metrics = [measure(CATALOG["nas_fpn"]) for measure in measures]
  # It has a hundred times the multiply-adds.
  assert metrics[1]["latency_ms"] > 3 * metrics[0]["latency_ms"]
  assert metrics[0].keys() == {"latency_ms", "latency_spread_ms", "latency_on"}
  assert metrics[0]["latency_spread_ms"] >= 0
  with pytest.raises(ValueError, match="not a multiple of 256"):
    measures[0](SearchSpace(3, 8).sample(random.Random(0)))


@pytest.mark.parametrize(
  ("runtime", "named", "modules"),
  [
    ("tensorflow", "TensorFlow 2", ()),
    ("onnxruntime", "ONNX Runtime", ("onnxruntime", "tf2onnx")),
    ("litert", "LiteRT", ("ai_edge_litert",)),
  ],
)
def test_every_runtime_runs_the_network_and_says_what_it_is(runtime, named, modules):
  for module in modules:
    pytest.importorskip(module)
  latency = LatencyConfig(runtime, threads=0 if runtime == "tensorflow" else 1)
  require_runtime(latency)
  measure = costs_of(("latency", "file_size", "parameters"), CONFIG, 3, latency)
  # A worker measures after a training, too, which no file of another runtime could hold.
  with process_after("mixed_bfloat16", False):
    metrics = measure(CATALOG["panet"])
  assert metrics["latency_on"].startswith(named)
  assert " thread" in metrics["latency_on"] or "GPU" in metrics["latency_on"]
  if runtime != "tensorflow":
    assert "1 thread of the processor" in metrics["latency_on"]
  # Four bytes a parameter, and little beside them in so small a network.
  assert 3.9 < metrics["file_bytes"] / metrics["parameters"] < 4.6
  # The same architecture is measured once: a second measurement would differ in the last digits.
  assert measure(CATALOG["panet"]) == metrics


@pytest.mark.parametrize(
  ("before", "compute_dtype"),
  [(("float32", True), "mixed_bfloat16"), (("mixed_bfloat16", False), "float32")],
)
def test_tensorflow_is_timed_as_it_serves_whatever_was_trained_before(
  before, compute_dtype, monkeypatch
):
  in_force_while_timed = []

  def time_network(run):
    del run
    in_force_while_timed.append(in_force())
    return cost.Timing(1.0, 0.0)

  monkeypatch.setattr(cost, "time_network", time_network)
  with process_after(*before):
    costs_of(("latency",), CONFIG, 3, LatencyConfig(), compute_dtype)(CATALOG["nas_fpn"])
    assert in_force_while_timed == [(compute_dtype, True)]
    assert in_force() == before


def in_force():
  """Returns the precision policy of the process, and whether TensorFlow rewrites sums."""
  import tensorflow as tf
  import tf_keras

  rewrites = tf.config.optimizer.get_experimental_options().get("arithmetic_optimization", True)
  return tf_keras.mixed_precision.global_policy().name, rewrites


@contextlib.contextmanager
def process_after(policy, rewrites):
  """Leaves the process as a training does, for a block."""
  import tensorflow as tf
  import tf_keras

  tf_keras.mixed_precision.set_global_policy(policy)
  tf.config.optimizer.set_experimental_options({"arithmetic_optimization": rewrites})
  try:
    yield
  finally:
    tf_keras.mixed_precision.set_global_policy("float32")
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": True})


def test_wiring_alone_changes_no_parameters():
  specs = [CATALOG["nas_fpn"], CATALOG["panet"]]
  assert not same_parameters(specs, CONFIG)  # Of seven and of eight cells.
  space, rng = SearchSpace(), random.Random(0)
  assert same_parameters([space.sample(rng) for _ in range(5)], CONFIG)


def test_a_runtime_that_is_not_installed_is_named_with_what_brings_it(monkeypatch):
  monkeypatch.setitem(sys.modules, "onnxruntime", None)
  with pytest.raises(UserError, match=r"'onnxruntime' needs the package onnxruntime: pip install"):
    require_runtime(LatencyConfig("onnxruntime"))


def test_threads_of_tensorflow_are_refused():
  with pytest.raises(ValueError, match="TF_NUM_INTRAOP_THREADS"):
    LatencyConfig("tensorflow", threads=2)
