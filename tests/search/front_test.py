"""Non-dominated sets, the order of NSGA-II and hypervolumes, against their definitions."""

import itertools

import numpy as np
import pytest

from official_nasfpn.search import front

# Small whole numbers, so that points tie and repeat.
CASES = [(seed, num, dims) for seed in range(12) for num, dims in ((1, 2), (7, 2), (12, 3), (9, 4))]


def points(seed: int, num: int, dims: int) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, 5, (num, dims)).astype(float)


def dominates(one, other) -> bool:
  pairs = list(zip(one, other, strict=True))
  return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


@pytest.mark.parametrize("case", CASES)
def test_the_front_is_what_nothing_dominates_without_repetitions(case):
  values = points(*case)
  expected = [
    index
    for index, value in enumerate(values)
    if not any(dominates(other, value) for other in values)
    and not any((other == value).all() for other in values[:index])
  ]
  assert front.non_dominated(values) == expected


@pytest.mark.parametrize("case", CASES)
def test_ranks_peel_one_front_after_the_other(case):
  values = points(*case)
  found = front.ranks(values)
  left = list(range(len(values)))
  for rank in itertools.count():
    if not left:
      break
    now = [i for i in left if not any(dominates(values[j], values[i]) for j in left)]
    assert [found[i] for i in now] == [rank] * len(now)
    left = [i for i in left if i not in now]


def test_crowding_is_that_of_the_paper():
  # Deb et al. 2002, III.B: ends are infinite; (5 - 0) / 10 + (9 - 2) / 10 for the second.
  assert front.crowding([(0, 9), (2, 5), (5, 2), (10, -1)]) == pytest.approx(
    [np.inf, 5 / 10 + 7 / 10, 8 / 10 + 6 / 10, np.inf]
  )


def test_an_objective_in_which_all_are_equal_does_not_crowd():
  assert front.crowding([(0, 3), (1, 3), (4, 3)]).tolist() == [np.inf, 1.0, np.inf]
  assert front.crowding([(2, 3), (2, 3)]).tolist() == [0.0, 0.0]


def test_the_lower_rank_comes_first_and_within_it_the_less_crowded():
  values = [(0, 0), (0, 10), (10, 0), (4, 4), (5, 3), (1, 8)]
  assert front.ranks(values).tolist() == [1, 0, 0, 0, 0, 0]
  order = front.crowded_order(values)
  distance = dict(enumerate(front.crowding(values[1:]), start=1))
  assert order[-1] == 0
  assert [distance[i] for i in order[:-1]] == sorted(distance.values(), reverse=True)


def test_a_diverged_trial_is_dominated_by_any_other_and_spoils_no_distance():
  values = [(0.0, -np.inf), (0.2, -3.0), (0.3, -5.0), (0.0, -np.inf), (0.0, -9.0)]
  assert front.non_dominated(values) == [1, 2]
  assert front.crowded_order(values) == [1, 2, 4, 0, 3]


@pytest.mark.parametrize("case", CASES)
def test_the_hypervolume_is_the_number_of_unit_cubes_below_the_points(case):
  values = points(*case)
  cubes = itertools.product(range(5), repeat=values.shape[1])
  covered = sum(
    any(all(v > c for v, c in zip(p, cube, strict=True)) for p in values) for cube in cubes
  )
  assert front.hypervolume(values, [0] * values.shape[1]) == covered


@pytest.mark.parametrize("case", CASES)
def test_hypervolumes_are_those_of_the_first_points(case):
  values = points(*case)
  reference = [1] * values.shape[1]
  expected = [front.hypervolume(values[:end], reference) for end in range(1, len(values) + 1)]
  assert front.hypervolumes(values, reference).tolist() == expected


def test_a_curve_of_volumes_computes_what_each_point_adds(monkeypatch):
  """Not the whole volume of the front for each: with 4 objectives that took minutes."""
  values = np.abs(np.random.default_rng(0).normal(size=(24, 4)))
  values /= np.linalg.norm(values, axis=1, keepdims=True)
  assert len(front.non_dominated(values)) == 24
  computed = []
  volume = front._volume
  monkeypatch.setattr(front, "_volume", lambda points: computed.append(1) or volume(points))
  found = front.hypervolumes(values, [0] * 4)
  # For each point, each point before it and, of the objectives that are left, each before that.
  assert len(computed) <= sum(1 + before + before**2 / 2 for before in range(24))
  assert found[-1] == pytest.approx(front.hypervolume(values, [0] * 4), rel=1e-12)


def test_five_objectives_are_counted_in_cubes():
  """Forty points of one front."""
  values = [p for p in itertools.product(range(1, 5), repeat=5) if sum(p) == 9][:40]
  covered = {cube for p in values for cube in itertools.product(*(range(v) for v in p))}
  assert front.hypervolumes(values, [0] * 5)[-1] == len(covered)


def test_nothing_has_no_front_and_no_volume():
  assert front.non_dominated([]) == []
  assert front.crowded_order(np.empty((0, 2))) == []
  assert front.hypervolume([], (0, 0)) == 0.0
  assert front.hypervolumes([], (0, 0)).tolist() == []
