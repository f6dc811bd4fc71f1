"""What scores are worth, against all draws and against the AP itself."""

import itertools

import numpy as np
import pytest

from benchmarks.score_worth import draw, expected_best, in_better_half, worth_of

RNG = np.random.default_rng(0)
APS = RNG.uniform(0.1, 0.4, 60)


def test_the_expected_best_is_the_mean_over_all_draws():
  aps = APS[:7]
  greatest = [max(drawn) for drawn in itertools.combinations(aps, 3)]
  assert expected_best(aps, 3) == pytest.approx(np.mean(greatest))
  assert expected_best(aps, 7) == max(aps)


def test_ties_at_the_border_count_as_the_mean_over_all_lots():
  # One of seven is above, four tie for two more places.
  scores, aps = np.array([1, 1, 2, 0, 1, 1, 0]), APS[:7]
  halves = [(2, *lot) for lot in itertools.combinations([0, 1, 4, 5], 2)]
  chances = in_better_half(scores)
  assert chances == pytest.approx(
    [np.mean([index in half for half in halves]) for index in range(7)]
  )
  for count in (1, 2, 3):
    greatest = [
      max(drawn) for half in halves for drawn in itertools.combinations(aps[list(half)], count)
    ]
    assert expected_best(aps, count, chances) == pytest.approx(np.mean(greatest))


def test_a_table_that_begins_with_the_best_keeps_no_more_of_what_ties():
  # The ten worst are above, and 49 tie for twenty places, five of the best six among them.
  scores = np.repeat([0.0, 1.0, 2.0], [1, 49, 10])
  worth = worth_of(scores, np.sort(APS)[::-1])
  assert worth.kept == pytest.approx(5 / 6 * 20 / 49)


def test_the_ap_itself_is_the_best_score_and_its_opposite_the_worst():
  oracle, opposite = worth_of(APS, APS), worth_of(-APS, APS)
  assert (oracle.spearman, oracle.among_the_best, oracle.kept) == pytest.approx((1, 1, 1))
  assert (opposite.spearman, opposite.kept) == pytest.approx((-1, 0))
  assert oracle.best_of_20 > expected_best(APS, 20) > opposite.best_of_20


def test_a_score_of_chance_says_nothing():
  chance = worth_of(RNG.uniform(size=60), APS)
  assert chance.low < 0 < chance.high
  assert chance.low < chance.spearman < chance.high


def test_the_picture_is_drawn(tmp_path):
  draw({"one": APS, "another": -APS}, APS, tmp_path / "scores.png")
  assert (tmp_path / "scores.png").stat().st_size > 5000
