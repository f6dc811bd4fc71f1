"""What scores are worth, against all draws and against the AP itself."""

import itertools

import numpy as np
import pytest

from benchmarks.score_worth import draw, expected_best, worth_of

RNG = np.random.default_rng(0)
APS = RNG.uniform(0.1, 0.4, 60)


def test_the_expected_best_is_the_mean_over_all_draws():
  aps = APS[:7]
  greatest = [max(drawn) for drawn in itertools.combinations(aps, 3)]
  assert expected_best(aps, 3) == pytest.approx(np.mean(greatest))
  assert expected_best(aps, 7) == max(aps)


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
