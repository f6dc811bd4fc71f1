"""The cost of a trial's detector for one image, for rewards that take cost into account."""

import dataclasses
import statistics
import time
from collections.abc import Callable

from official_nasfpn.architecture import PyramidSpec
from official_nasfpn.modeling.closed_form import total_size
from official_nasfpn.modeling.config import DetectorConfig

_WARM_UP_RUNS = 3
_TIMED_RUNS = 20


def multiply_adds_of(config: DetectorConfig, num_classes: int) -> Callable[[PyramidSpec], float]:
  """Returns a function from a pyramid to the detector's multiply-adds for one image.

  Args:
    config: settings of the detector; the pyramid replaces its architecture.
    num_classes: object classes, without a background class.
  """

  def count(spec: PyramidSpec) -> float:
    return total_size(dataclasses.replace(config, architecture=spec), num_classes).multiply_adds

  return count


def latency_of(config: DetectorConfig, num_classes: int) -> Callable[[PyramidSpec], float]:
  """Returns a function from a pyramid to the detector's latency for one image, on this machine.

  Only the network is timed: its latency does not depend on its weights. Decoding of boxes and
  non-maximum suppression are the same for all architectures.

  Args:
    config: settings of the detector; the pyramid replaces its architecture.
    num_classes: object classes, without a background class.

  Returns:
    A function that builds a detector and returns the median of twenty runs, in milliseconds.
  """

  def measure(spec: PyramidSpec) -> float:
    import tensorflow as tf

    from official_nasfpn.modeling.detector import build_detector

    detector = build_detector(dataclasses.replace(config, architecture=spec), num_classes)
    run = tf.function(lambda image: detector(image, training=False), jit_compile=False)
    image = tf.zeros([1, *config.image_size, 3])
    times = []
    for _ in range(_WARM_UP_RUNS + _TIMED_RUNS):
      start = time.perf_counter()
      tf.nest.map_structure(lambda output: output.numpy(), run(image))
      times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[_WARM_UP_RUNS:])

  return measure
