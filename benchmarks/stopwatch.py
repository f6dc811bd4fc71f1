"""The real time that operations take, and what is said of it."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

_Result = TypeVar("_Result")


class Stopwatch:
  """Measures the real time of operations."""

  def __init__(self):
    self.seconds: list[float] = []

  def __call__(self, operation: Callable[[], _Result]) -> _Result:
    start = time.perf_counter()
    try:
      return operation()
    finally:
      self.seconds.append(time.perf_counter() - start)

  @property
  def last(self) -> float:
    return self.seconds[-1]

  def figures(self) -> dict[str, float | None]:
    """Returns how many operations there were and what they took; None where there was none."""
    figures = {"count": len(self.seconds), "mean_ms": None, "p99_ms": None}
    if self.seconds:
      figures["mean_ms"] = 1000 * statistics.mean(self.seconds)
      # Of one there are no quantiles before Python 3.13.
      several = self.seconds if len(self.seconds) > 1 else 2 * self.seconds
      figures["p99_ms"] = 1000 * statistics.quantiles(several, n=100)[-1]
    return {**figures, "total_s": sum(self.seconds)}


def in_words(figures: Mapping[str, float | None]) -> str:
  """Returns the mean time of `Stopwatch.figures`, or that there was no operation."""
  mean = figures["mean_ms"]
  return "none" if mean is None else f"{mean:.2f} ms"
