"""The studies of search algorithms: their table and figure, and rewards in closed form."""

import random

import pytest

from benchmarks import comparison
from benchmarks.closed_form_rewards import deceptive, smooth, standard_deviation
from official_nasfpn.architecture import PyramidSpec, SearchSpace, canonical_form
from official_nasfpn.benchmark.baselines import RANDOM
from official_nasfpn.benchmark.ranking import p_value
from official_nasfpn.errors import UserError
from official_nasfpn.search.algorithms.evolution import Evolution
from official_nasfpn.search.algorithms.random_search import RandomSearch
from tests.benchmark.simulated_search_test import Repeating, run

SPACE = SearchSpace()


def test_better_runs_are_told_from_worse_and_equal_ones_are_not():
  evolved = [run(Evolution(20, 5).make(SPACE, s), num_trained=150) for s in range(6)]
  drawn = [run(RandomSearch().make(SPACE, s), num_trained=150) for s in range(6)]
  # Six runs against six, all better: 2 / (12 choose 6).
  assert p_value(evolved, drawn) < 0.05
  assert p_value(drawn, drawn) == 1
  table = comparison.table({"evolution": evolved, RANDOM: drawn}).splitlines()
  assert len(table) == 4
  assert table[2].startswith("| evolution | ")
  assert table[3].endswith("| 150 |  |")


def test_a_figure_is_drawn_of_runs_that_ended_early_too(tmp_path):
  runs = {"few": [run(Repeating(7))], RANDOM: [run(RandomSearch().make(SPACE, 0))]}
  comparison.draw({"one": runs, "two": runs, "three": runs}, tmp_path / "figure.png")
  assert (tmp_path / "figure.png").stat().st_size > 1000


def test_a_recipe_without_a_name_is_refused():
  with pytest.raises(UserError, match="write NAME=RECIPE"):
    comparison.ppo_of_recipes(["gin/bccd_search.gin"], SPACE)


def optimum() -> PyramidSpec:
  """Returns a pyramid whose cells all pool their own level and a neighbouring one."""
  inputs = ((1, 2), (2, 3), (0, 1), (1, 2), (2, 3), (3, 4), (3, 4))
  levels = (4, 5, 3, 4, 5, 6, 7)
  cells = ((i, level, "global_pool") for i, level in zip(inputs, levels, strict=True))
  return PyramidSpec(cells=tuple(cells))


@pytest.mark.parametrize("reward", [smooth, deceptive])
def test_the_optimum_of_a_closed_form_reward_is_one(reward):
  assert reward(optimum()) == 1
  rng = random.Random(0)
  rewards = [reward(SPACE.sample(rng)) for _ in range(300)]
  assert max(rewards) < 0.9
  assert min(rewards) >= -0.2
  assert 0.05 < standard_deviation(reward, SPACE) < 0.2


def test_the_deceptive_reward_leads_away_from_its_optimum():
  """Changing a whole cell of the optimum costs less than changing one property of a cell."""
  cells = optimum().cells
  half = PyramidSpec(cells=(*cells[:-1], ((3, 4), 7, "sum")))
  whole = PyramidSpec(cells=(*cells[:-1], ((1, 4), 7, "sum")))
  assert smooth(half) > smooth(whole)
  assert deceptive(half) < deceptive(whole) < 1


@pytest.mark.parametrize("reward", [smooth, deceptive])
def test_a_closed_form_reward_is_that_of_the_canonical_form(reward):
  rng = random.Random(3)
  for _ in range(100):
    spec = SPACE.sample(rng)
    assert reward(canonical_form(spec)) == pytest.approx(reward(spec))
