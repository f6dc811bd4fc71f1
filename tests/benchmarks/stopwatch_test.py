"""The stopwatch of the simulated pool."""

import pytest

from benchmarks.stopwatch import Stopwatch, in_words


def test_operations_are_counted_and_timed():
  stopwatch = Stopwatch()
  assert [stopwatch(lambda: 5) for _ in range(3)] == [5, 5, 5]
  stopwatch.seconds = [0.001, 0.002, 0.003]
  figures = stopwatch.figures()
  assert (figures["count"], stopwatch.last) == (3, 0.003)
  assert (figures["mean_ms"], figures["total_s"]) == pytest.approx((2, 0.006))
  assert figures["p99_ms"] >= 3
  assert in_words(figures) == "2.00 ms"


def test_an_operation_that_was_never_made_is_said_to_be_none():
  figures = Stopwatch().figures()
  assert figures == {"count": 0, "mean_ms": None, "p99_ms": None, "total_s": 0}
  assert in_words(figures) == "none"


def test_one_operation_is_its_own_greatest():
  stopwatch = Stopwatch()
  stopwatch.seconds = [0.004]
  assert stopwatch.figures()["p99_ms"] == pytest.approx(4)
