"""The cost of a trial's detector for one image, for rewards and objectives that count it."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from official_nasfpn.architecture import PyramidSpec, canonical_hash
from official_nasfpn.modeling.closed_form import total_size
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.search.proxy.config import LatencyConfig
from official_nasfpn.search.proxy.runtimes import ServedNetwork, served_network

_WARM_UP_RUNS = 3
_TIMED_RUNS = 20

CostOf = Callable[[PyramidSpec], dict[str, float | str]]


class Timing(NamedTuple):
  """How long a network takes.

  Attributes:
    median_ms: median of the timed runs, in milliseconds.
    spread_ms: distance of their quartiles, in milliseconds: half of the runs lie within it.
  """

  median_ms: float
  spread_ms: float


def costs_of(
  names: Collection[str],
  config: DetectorConfig,
  num_classes: int,
  latency: LatencyConfig,
  compute_dtype: str = "float32",
) -> CostOf:
  """Returns a function from a pyramid to what its detector costs, measured once an architecture.

  Args:
    names: of `objectives.OBJECTIVES`, without the AP.
    config: settings of the detector; the pyramid replaces its architecture.
    num_classes: object classes, without a background class.
    latency: where latency and file size are measured.
    compute_dtype: `Training.compute_dtype`, in which TensorFlow computes what is measured.

  Returns:
    A function that returns metrics: `multiply_adds`; `parameters`; `latency_ms` with
    `latency_spread_ms` and `latency_on`, which says runtime, threads and device; `file_bytes`.
  """
  known: dict[str, dict[str, float | str]] = {}

  def measure(spec: PyramidSpec) -> dict[str, float | str]:
    metrics: dict[str, float | str] = {}
    if {"multiply_adds", "parameters"} & {*names}:
      size = total_size(dataclasses.replace(config, architecture=spec), num_classes)
      sizes = {"multiply_adds": size.multiply_adds, "parameters": size.parameters}
      metrics |= {name: value for name, value in sizes.items() if name in names}
    if {"latency", "file_size"} & {*names}:
      with served_network(config, num_classes, spec, latency, compute_dtype) as network:
        metrics |= _measured(names, network)
    return metrics

  def cached(spec: PyramidSpec) -> dict[str, float | str]:
    # Attempts of one architecture, and architectures that compute the same, are measured once.
    key = canonical_hash(spec)
    if key not in known:
      known[key] = measure(spec)
    return {**known[key]}

  return cached


def same_parameters(specs: Collection[PyramidSpec], config: DetectorConfig) -> bool:
  """Returns whether detectors with these pyramids all have as many parameters."""
  counts = costs_of(("parameters",), config, 1, LatencyConfig())
  return len({counts(spec)["parameters"] for spec in specs}) == 1


def time_network(run: Callable[[], object]) -> Timing:
  """Times a network: after three runs to warm up, twenty.

  Args:
    run: runs it once, and waits for its outputs.
  """
  times = []
  for _ in range(_WARM_UP_RUNS + _TIMED_RUNS):
    start = time.perf_counter()
    run()
    times.append(1000 * (time.perf_counter() - start))
  low, median, high = statistics.quantiles(times[_WARM_UP_RUNS:], n=4, method="inclusive")
  return Timing(median, high - low)


def _measured(names: Collection[str], network: ServedNetwork) -> dict[str, float | str]:
  metrics: dict[str, float | str] = {}
  if "latency" in names:
    timing = time_network(network.run)
    metrics["latency_ms"] = timing.median_ms
    metrics["latency_spread_ms"] = timing.spread_ms
    metrics["latency_on"] = network.where
  if "file_size" in names:
    metrics["file_bytes"] = network.file_bytes
  return metrics
