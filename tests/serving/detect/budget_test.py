"""The exit that a budget allows, by the latencies of the exits."""

import pytest

from official_nasfpn.serving.detect.budget import use_of_budget
from official_nasfpn.serving.export_folder import ExitLatency

LATENCY = [
  ExitLatency(1, median_ms=20.0, p90_ms=21.7),
  ExitLatency(2, median_ms=30.0, p90_ms=33.0),
  ExitLatency(3, median_ms=40.0, p90_ms=45.5),
]


@pytest.mark.parametrize(
  ("budget_ms", "batch_size", "exit_number", "is_met"),
  [
    (20, 1, 1, False),
    (21.7, 1, 1, True),
    (40, 1, 2, True),
    (46, 1, 3, True),
    (46, 2, 1, True),
    (40, 2, 1, False),
    (0, 1, 1, False),
  ],
)
def test_the_last_exit_that_is_fast_enough_or_else_the_first(
  budget_ms, batch_size, exit_number, is_met
):
  use = use_of_budget(LATENCY, budget_ms, batch_size)
  assert (use.exit, use.is_met) == (exit_number, is_met)
  assert use.expected_ms == pytest.approx(batch_size * LATENCY[exit_number - 1].p90_ms)


def test_a_budget_that_is_not_met_is_said_with_the_time_that_it_takes():
  assert use_of_budget(LATENCY, 20, 1).sentence() == (
    "The budget of 20 ms is not met: exit 1, the first, was taken, and takes 21.7 ms for an image "
    "(nine of ten are faster, measured at export)."
  )
  together = use_of_budget(LATENCY, 20, 8).sentence()
  assert "takes 173.6 ms for a batch of 8 images" in together
  assert together.endswith("A smaller --batch_size leaves more to each image.")
  assert use_of_budget(LATENCY, 40, 1).sentence().startswith("Exit 2 was taken: 33 ms for an image")
