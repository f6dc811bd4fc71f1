"""A second recurrent algorithm, added in the places that WORKSPACE.md names, goes through all."""

import importlib.util
import re
import statistics
import sys

import pytest

from official_nasfpn import configuration
from official_nasfpn.errors import UserError
from official_nasfpn.search.algorithms import algorithms
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.report.html.page import write_report
from official_nasfpn.search.report.results import write_results
from official_nasfpn.search.workers.evaluation import Evaluation
from tests.program_process import REPOSITORY
from tests.search.algorithms.contract_test import assert_contract
from tests.search.one_process import search_in_one_process

RECIPE = """
Search.algorithm = @Reinforce()
Search.trials_per_update = 8
Reinforce.hidden_units = 16
Reinforce.learning_rate = 0.05
SearchSpace.max_level = 5
SearchSpace.num_intermediate_cells = 1
"""
ADDED = ("reinforce", "reinforce_search")


@pytest.fixture(scope="module")
def reinforce(tmp_path_factory):
  """Adds the modules of the tutorial, with the tutorial's code, and returns the settings' class."""
  text = (REPOSITORY / "docs/tutorials/your_own_search_algorithm.md").read_text(encoding="utf-8")
  *sources, table = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
  folder = tmp_path_factory.mktemp("tutorial")
  modules = []
  for name, source in zip(ADDED, sources, strict=True):
    (folder / f"{name}.py").write_text(source)
    full_name = f"{algorithms.__package__}.{name}"
    spec = importlib.util.spec_from_file_location(full_name, folder / f"{name}.py")
    modules.append(importlib.util.module_from_spec(spec))
    sys.modules[full_name] = modules[-1]
    spec.loader.exec_module(modules[-1])
  cls = modules[0].Reinforce
  names = {**vars(algorithms), "Reinforce": cls}
  exec(compile(table, "your_own_search_algorithm.md", "exec"), names)
  assert cls in names["Algorithm"].__args__
  yield cls
  for name in ADDED:
    del sys.modules[f"{algorithms.__package__}.{name}"]
  # Other tests list what is known to recipes.
  del configuration._NAMES[cls]


def evaluate(spec, trial_dir, progress, seed_offset=0):
  """Rewards the share of cells that pool."""
  return Evaluation(sum(cell.op == "global_pool" for cell in spec.cells) / len(spec.cells))


def recipe(num_trials: int, *params: str):
  return read_recipe(gin_params=[RECIPE, f"Search.num_trials = {num_trials}", *params])


def test_it_keeps_the_contract(reinforce):
  assert_contract(reinforce(hidden_units=8))


def test_recipes_bind_its_settings(reinforce):
  assert recipe(8).search.algorithm == reinforce(hidden_units=16, learning_rate=0.05)
  with pytest.raises(UserError, match=r"Reinforce.hidden_units = 0: .* greater than 0"):
    recipe(8, "Reinforce.hidden_units = 0")
  with pytest.raises(UserError, match=r"Did you mean Reinforce\?"):
    recipe(8, "Search.algorithm = @Reinforced()")


@pytest.mark.slow
def test_it_searches_goes_on_and_is_reported(reinforce, tmp_path):
  whole, stopped = tmp_path / "whole", tmp_path / "stopped"
  trials = search_in_one_process(recipe(160), whole, evaluate)
  search_in_one_process(recipe(40), stopped, evaluate)
  continued = search_in_one_process(recipe(160), stopped, evaluate)
  assert [trial.choices for trial in continued] == [trial.choices for trial in trials]

  rewards = [trial.reward for trial in trials]
  assert statistics.mean(rewards[-40:]) > statistics.mean(rewards[:40]) + 0.2

  write_results(trials, whole)
  write_report(whole, whole / "report.html", now=0)
  page = (whole / "report.html").read_text()
  assert "Reinforce" in page
  assert "algorithm Reinforce" in (whole / "trials/000001/architecture.gin").read_text()
