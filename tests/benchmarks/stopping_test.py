"""Rules that stop trainings, on made curves."""

import dataclasses
import itertools

import numpy as np
import pytest

from benchmarks.stopping import (
  Curves,
  asha,
  check_enough,
  curves_of,
  hyperband,
  no_rule,
  quantile_rule,
  returned,
)
from official_nasfpn.errors import UserError
from tests.benchmark.drawn_tables import recorded

SHARES = (1 / 9, 1 / 3, 1.0)
RNG = np.random.default_rng(0)
FINAL = RNG.permutation(np.linspace(0.1, 0.4, 81))
# Curves that never cross, so that an early AP tells all.
HONEST = Curves(SHARES, FINAL[:, np.newaxis] * np.array([0.2, 0.5, 1.0]))
RULES = {
  "none": no_rule,
  "median": quantile_rule(0.5, SHARES[:2], 5),
  "asha": asha(3, 3),
  "hyperband": hyperband(3, 3),
}


def steps(rule, order=range(81)):
  return list(rule(HONEST, iter(order)))


@pytest.mark.parametrize("name", RULES)
def test_a_training_goes_on_where_it_was(name):
  reached = {}
  for index, share, before in itertools.islice(steps(RULES[name]), 500):
    assert reached.get(index, 0.0) == pytest.approx(before)
    assert share > before
    reached[index] = share


@pytest.mark.parametrize("name", RULES)
def test_no_more_is_spent_than_the_budget(name):
  best, begun = returned(RULES[name], HONEST, range(81), 6.0)
  assert 0 <= best < 81
  assert begun >= 6
  with pytest.raises(ValueError, match="too small"):
    returned(RULES[name], HONEST, range(81), 0.05)


def test_without_a_rule_the_best_of_the_first_is_returned():
  best, begun = returned(no_rule, HONEST, range(81), 10.0)
  assert (best, begun) == (int(np.argmax(FINAL[:10])), 10)


def test_the_median_rule_stops_what_is_below_the_median_of_those_before():
  far = {}
  for index, share, _ in steps(RULES["median"]):
    far[index] = share
  for index in range(5, 81):
    is_below = FINAL[index] < np.median(FINAL[:index])
    assert (far[index] == SHARES[0]) == is_below


def test_asha_promotes_the_best_third():
  ends = {}
  for index, share, _ in steps(RULES["asha"]):
    ends[index] = share
  whole = [index for index, share in ends.items() if share == 1.0]
  # A third of a third of 81, and a few that were promoted while they were among the best so far.
  assert 9 <= len(whole) <= 20
  assert int(np.argmax(FINAL)) in whole


def test_a_bracket_of_hyperband_is_successive_halving():
  # Nine at a ninth, the best three at a third, the best of them whole: Li et al. 2018, table 1.
  bracket = steps(RULES["hyperband"])[:13]
  assert [round(share, 3) for _, share, _ in bracket] == [0.111] * 9 + [0.333] * 3 + [1.0]
  assert bracket[-1][0] == int(np.argmax(FINAL[:9]))


@pytest.mark.parametrize("name", ["median", "asha", "hyperband"])
def test_where_early_ap_tells_all_stopping_finds_more(name):
  def mean(rule):
    orders = [np.random.default_rng(seed).permutation(81) for seed in range(40)]
    return np.mean([FINAL[returned(rule, HONEST, order, 8.0)[0]] for order in orders])

  assert mean(RULES[name]) > mean(no_rule) + 0.005


# As record_architectures.py records them.
TENTHS = tuple(number / 10 for number in range(1, 11))
IN_TENTHS = Curves(TENTHS, FINAL[:, np.newaxis] * np.array(TENTHS))


@pytest.mark.parametrize(
  ("rule", "shares"),
  [
    (asha(3, 3), {0.1, 0.3, 1.0}),
    (asha(2, 4), {0.1, 0.2, 0.5, 1.0}),
    (hyperband(3, 3), {0.1, 0.3, 1.0}),
    (quantile_rule(0.5, (0.34, 0.67), 5), {0.3, 0.7, 1.0}),
  ],
)
def test_a_rule_pays_for_the_shares_whose_ap_it_sees(rule, shares):
  taken = list(itertools.islice(rule(IN_TENTHS, iter(range(81))), 200))
  assert {share for _, share, _ in taken} == shares
  assert {before for _, _, before in taken} <= {0.0, *shares}


def test_rungs_that_one_recorded_share_is_nearest_to_are_one():
  coarse = Curves((0.5, 1.0), IN_TENTHS.aps[:, [4, 9]])
  for rule in (asha(3, 3), hyperband(3, 3)):
    taken = list(rule(coarse, iter(range(81))))
    assert {(share, before) for _, share, before in taken} >= {(0.5, 0.0), (1.0, 0.5)}
    assert all(share > before for _, share, before in taken)


def test_a_table_that_a_rule_draws_most_of_is_refused():
  rules = {"none": no_rule, "asha": asha(3, 3)}
  few = Curves(TENTHS, IN_TENTHS.aps[:20])
  with pytest.raises(
    UserError, match=r"has 20 learning curves, and 60 are needed: .*'none'"
  ) as said:
    check_enough(few, {"none": no_rule}, 40, "curves.csv")
  assert "begins 40 at a budget of 40" in str(said.value)
  check_enough(IN_TENTHS, {"none": no_rule}, 40, "curves.csv")
  # It begins more than it trains to the end.
  with pytest.raises(UserError, match="'asha'"):
    check_enough(IN_TENTHS, rules, 40, "curves.csv")
  check_enough(IN_TENTHS, rules, 8, "curves.csv")


def test_the_curves_of_a_table_are_those_with_the_shares_that_most_have():
  def entry(number, curve):
    return dataclasses.replace(recorded(number, 0.3), curve=curve)

  table = [
    entry(1, ((0.5, 0.1), (1.0, 0.3))),
    entry(2, None),
    entry(3, ((0.5, 0.2), (1.0, 0.4))),
    entry(4, ((1.0, 0.5),)),
  ]
  curves = curves_of(table, "curves.csv")
  assert curves.shares == (0.5, 1.0)
  assert curves.aps.tolist() == [[0.1, 0.3], [0.2, 0.4]]
  with pytest.raises(UserError, match=r"curves\.csv has no learning curves .*record_architectures"):
    curves_of(table[1:2], "curves.csv")
