"""The recorded searches of the baselines: whole, those that would be run, cut where they may be."""

import dataclasses

import pytest

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.benchmark.baselines import (
  BASELINES,
  RANDOM,
  Conditions,
  RecordedSearches,
  recorded_searches,
)
from official_nasfpn.benchmark.simulated_search import search
from official_nasfpn.benchmark.surrogate import recorded_surrogate
from official_nasfpn.benchmark.table import read_table
from official_nasfpn.benchmark.trial_time import trial_time
from official_nasfpn.search.recipe import read_recipe

SPACE = SearchSpace()
SEEDS = range(20)


def searched(name, seed, conditions):
  return search(
    BASELINES[name]().make(SPACE, seed),
    SPACE,
    recorded_surrogate(),
    num_trained=conditions.num_trained,
    trials_per_update=conditions.trials_per_update,
    seed=seed,
    noise=conditions.noise,
    num_workers=conditions.num_workers,
    trial_seconds=trial_time(read_table()),
  )


def test_all_are_recorded_for_the_default_numbers():
  known = recorded_searches()
  for name in BASELINES:
    for seed in SEEDS:
      found = known.find(name, seed, Conditions())
      assert found is not None, "run python -m benchmarks.record_baselines"
      assert found.num_trained == len(found.hours) == 300
  assert known.find(RANDOM, 20, Conditions()) is None


@pytest.mark.parametrize("name", [RANDOM, "evolution"])
def test_what_is_recorded_is_what_a_search_gives(name):
  run, recorded = (
    searched(name, 3, Conditions()),
    recorded_searches().find(name, 3, Conditions()),
  )
  assert recorded.returned == run.returned
  assert recorded.hours == pytest.approx(run.hours, abs=1e-5)


def test_a_shorter_search_is_the_beginning_of_a_recorded_one():
  shorter = Conditions(num_trained=125)
  recorded = recorded_searches().find("evolution", 4, shorter)
  run = searched("evolution", 4, shorter)
  assert recorded.returned == run.returned
  assert recorded.hours == pytest.approx(run.hours, abs=1e-5)


@pytest.mark.parametrize(
  "changed", [{"num_trained": 301}, {"num_workers": 9}, {"trials_per_update": 20}, {"noise": 0.0}]
)
def test_under_other_conditions_nothing_is_recorded(changed):
  assert recorded_searches().find(RANDOM, 0, dataclasses.replace(Conditions(), **changed)) is None


def test_a_search_with_many_repeats_is_not_cut_to_few_trials():
  """The shorter one might have ended before: of 50 it may propose 100."""
  run = searched("evolution", 0, Conditions(num_trained=60))
  for num_repeated, is_there in ((40, True), (41, False)):
    known = RecordedSearches(Conditions(), {})
    known.add("evolution", 0, dataclasses.replace(run, sampled=(0.3,) * (60 + num_repeated)))
    assert (known.find("evolution", 0, Conditions(num_trained=50)) is not None) == is_there


def test_a_file_is_read_as_it_was_written_and_belongs_to_one_benchmark(tmp_path):
  path = tmp_path / "baselines.jsonl"
  run = searched("evolution", 0, Conditions(num_trained=40))
  known = RecordedSearches(Conditions(num_trained=40), {})
  known.add("evolution", 0, run)
  path.write_text(known.as_text())
  found = recorded_searches(path).find("evolution", 0, Conditions(num_trained=40))
  assert (found.returned, found.num_trained) == (run.returned, 40)
  path.write_text(known.as_text().replace('"benchmark": "', '"benchmark": "0', 1))
  assert recorded_searches(path).find("evolution", 0, Conditions(num_trained=40)) is None
  assert recorded_searches(tmp_path / "none").find("evolution", 0, Conditions()) is None


def test_the_settings_of_ppo_are_those_of_the_recipes():
  small = BASELINES["PPO, small"]()
  assert small == read_recipe(["gin/bccd_search.gin"]).search.algorithm
  assert small.replay_best == 10
  assert BASELINES["PPO, paper"]().replay_best == 0
