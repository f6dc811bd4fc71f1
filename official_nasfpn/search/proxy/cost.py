"""What one image costs the detector of a trial, for rewards that count it."""

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
  """Returns the function that counts a detector's multiply-adds for one image.

  Args:
    config: of the detector; its architecture is left alone.
    num_classes: object classes, without a background class.
  """

  def count(spec: PyramidSpec) -> float:
    of_spec = dataclasses.replace(config, architecture=spec)
    return total_size(of_spec, num_classes).multiply_adds

  return count


def latency_of(config: DetectorConfig, num_classes: int) -> Callable[[PyramidSpec], float]:
  """Returns the function that times a detector on one image, on this machine.

  It is the network that is timed, whose time does not depend on its weights: decoding of boxes and
  non-maximum suppression are the same for all architectures.

  Args:
    config: of the detector; its architecture is left alone.
    num_classes: object classes, without a background class.

  Returns:
    A function from a pyramid to milliseconds: the median of twenty runs.
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
