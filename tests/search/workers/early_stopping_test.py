"""The rule that stops hopeless trials."""

import random

import pytest

from official_nasfpn.search.workers.early_stopping import is_hopeless

OTHERS = [0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.parametrize(("value", "stops"), [(0.29, True), (0.3, False), (0.31, False)])
def test_below_the_median_it_stops(value, stops):
  assert is_hopeless(value, OTHERS, 0.5, min_others=5) == stops


def test_a_third_goes_on():
  # Of six, the four worse ones stop: the quantile 2/3 lies between the fourth and the fifth.
  others = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
  assert [is_hopeless(value, others, 2 / 3, 1) for value in others] == [True] * 4 + [False] * 2


@pytest.mark.parametrize(
  ("quantile", "min_others", "others"), [(0.0, 1, OTHERS), (0.5, 6, OTHERS), (0.5, 0, [])]
)
def test_when_none_stops(quantile, min_others, others):
  assert not is_hopeless(-1.0, others, quantile, min_others)


def test_as_trials_come_the_best_half_goes_on():
  rng = random.Random(0)
  values = [rng.random() for _ in range(400)]
  kept = [
    value
    for index, value in enumerate(values)
    if not is_hopeless(value, values[:index], 0.5, min_others=10)
  ]
  assert max(values) in kept
  # The first ten, and half of the rest.
  assert len(kept) == pytest.approx(10 + 390 / 2, abs=30)
