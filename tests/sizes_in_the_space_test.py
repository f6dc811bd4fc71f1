"""A search that chooses how large a pyramid is beside its wiring, from its recipe to a training."""

import dataclasses
import json
import random
import re

import pytest

from official_nasfpn.architecture import CATALOG, SearchSpace, from_gin, to_gin
from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.report.found import read_trials
from official_nasfpn.search.report.html.page import write_report
from official_nasfpn.search.report.html.table import trial_rows
from official_nasfpn.search.report.results import write_results
from official_nasfpn.search.search import Search, dry_run, measured_plan
from official_nasfpn.training.experiment import load_experiment
from tests.search.one_process import search_in_one_process
from tests.search.report.searches import rewarded_search
from tests.search.short_trials import RECIPE

SIZES = """
SearchSpace.num_repeats = (1, 2)
SearchSpace.num_filters = (8,)
Search.algorithm = @Evolution()
Search.objectives = ('AP', 'multiply_adds', 'parameters')
Search.begin_with = ('nas_fpn',)
Search.num_trials = 3
Search.trials_per_update = 3
Evolution.population_size = 4
Evolution.tournament_size = 2
"""


@pytest.fixture(scope="module")
def recipe(shapes_data):
  data = f"Input.data_dir = {str(shapes_data)!r}"
  return proxy_task.resolved(read_recipe([], [RECIPE, SIZES, data]))


@pytest.mark.slow
def test_it_is_searched_reported_and_trained(recipe, tmp_path, monkeypatch):
  from official_nasfpn.training import repeated_training

  built = []

  class Recorded(repeated_training.RepeatedTraining):
    def __init__(self, experiment, dataset):
      super().__init__(experiment, dataset)
      built.append(experiment.detector.architecture.size_name)

  monkeypatch.setattr(repeated_training, "RepeatedTraining", Recorded)
  evaluate = proxy_task.make_evaluate(recipe, tmp_path)
  trials = search_in_one_process(recipe, tmp_path, evaluate)
  assert [trial.state for trial in trials] == ["done"] * 3

  third = from_gin(trials[2].architecture).size_name
  # A graph of its own for each size.
  assert built == ["1 @ 8", "2 @ 8"] + ["1 @ 8"] * (third == "1 @ 8")
  for name in ("multiply_adds", "parameters"):
    small, deep, other = (trial.metrics[name] for trial in trials)
    assert small < deep
    assert other < deep if third == "1 @ 8" else other > small

  write_results(read_trials(tmp_path), tmp_path, objectives=recipe.search.objectives)
  result = json.loads((tmp_path / "result.json").read_text())
  of_front = {point["trial"]: size for point, size in zip(*_front(result), strict=True)}
  for number, size in of_front.items():
    assert from_gin(trials[number - 1].architecture).size_name == size
  assert of_front[1] == "1 @ 8"
  table = Search(tmp_path).table()
  assert re.search(r"parameters +size +trial +architecture\n", table)
  assert re.search(r"M +[\d.]+ Mparams +1 @ 8 +1 +\S+architecture.gin$", table, re.M)

  # What is trained has the size that was found, whatever the recipe says.
  file = storage.trial_dir(tmp_path, 2) / "architecture.gin"
  experiment = load_experiment([], [RECIPE_OF_A_TRAINING, f"Detector.architecture = {str(file)!r}"])
  assert (experiment.detector.num_repeats, experiment.detector.num_filters) == (2, 8)
  assert experiment.detector.architecture.cells == CATALOG["nas_fpn"].cells
  # It leaves nothing for a searched pyramid that says no size.
  plain = tmp_path / "best_architecture.gin"
  plain.write_text(to_gin(CATALOG["nas_fpn"]))
  experiment = load_experiment([file, plain], [RECIPE_OF_A_TRAINING])
  assert (experiment.detector.num_repeats, experiment.detector.num_filters) == (7, 256)


RECIPE_OF_A_TRAINING = "Detector.num_repeats = 7\nDetector.num_filters = 256"


def _front(result):
  return result["front"], result["sizes"]


def test_the_page_shows_sizes(tmp_path):
  space = SearchSpace(num_repeats=(1, 3), num_filters=(32, 64))
  rng = random.Random(0)
  rewarded_search(tmp_path, [space.sample(rng) for _ in range(12)])
  with storage.recipe_path(tmp_path).open("a") as file:
    file.write("\nSearchSpace.num_repeats = (1, 3)\nSearchSpace.num_filters = (32, 64)\n")
  write_report(tmp_path, tmp_path / "report.html", now=0)
  page = (tmp_path / "report.html").read_text()
  assert "</button>3 @ 64</td>" in page
  assert re.search(r"reward 0\.\d{4}, [13] @ (32|64)</figcaption>", page)
  assert "Multiply-adds are of all pyramids on one image, parameters of all pyramids." in page
  assert "1 or 3 @ 32 or 64" in page
  assert "3 repeats" in page


def test_what_is_stacked_more_often_costs_more(tmp_path):
  space = SearchSpace(num_repeats=(1, 3), num_filters=(32, 64))
  rewarded_search(tmp_path, space.at_every_size(CATALOG["nas_fpn"]))
  search = Search(tmp_path)
  rows = {row.trial.number: row for row in trial_rows(read_trials(tmp_path), search.recipe)}
  once, wide, thrice = (rows[number] for number in (1, 2, 3))
  assert thrice.parameters == 3 * once.parameters < 3 * wide.parameters
  assert thrice.multiply_adds == 3 * once.multiply_adds < 3 * wide.multiply_adds
  table = search.table()
  assert re.search(r"rank +reward +size +trial.*\n +1 +0.\d+ +[13] @ (32|64) ", table)


def test_a_dry_run_shows_the_smallest_and_the_largest(recipe):
  small, large = dry_run(recipe).split("to such large ones:\n")
  assert "1 @ 8" in small
  assert "2 @ 8" in large


@pytest.mark.slow
def test_a_dry_run_of_a_space_beyond_all_floats(recipe):
  space = SearchSpace(num_intermediate_cells=100)
  said = dry_run(dataclasses.replace(recipe, space=space, search=SearchConfig(num_trials=20)))
  assert re.match(r"20 trials of \d\.\d\de\+\d{3} architectures, each like this:\nmodel ", said)


@pytest.mark.slow
def test_a_plan_measures_two_of_them(recipe, capfd):
  nine = dataclasses.replace(recipe.space, num_repeats=tuple(range(1, 10)))
  search = dataclasses.replace(recipe.search, num_trials=20)
  plan = measured_plan(dataclasses.replace(recipe, space=nine, search=search))
  assert "20 trials" in plan.as_text()
  assert "have random sizes; others take less or more time" in capfd.readouterr().err


@pytest.mark.parametrize(
  ("binding", "message"),
  [
    ("SearchSpace.num_repeats = (1, 3, 1)", "num_repeats must have each number once"),
    ("SearchSpace.num_filters = (0,)", "num_filters.*greater than 0"),
    (
      "Detector.num_repeats = 2\nDetector.exit_heads = 'shared'\n"
      "Training.exit_loss_weights = (0.5, 1.0)",
      "has 2 weights for 1 exits",
    ),
    ("Proxy.mode = 'shared'", "'shared' trains one detector for all trials, so SearchSpace.num_r"),
  ],
)
def test_what_cannot_be_searched_is_one_sentence(binding, message, shapes_data):
  data = f"Input.data_dir = {str(shapes_data)!r}"
  with pytest.raises(UserError, match=message):
    proxy_task.resolved(read_recipe([], [RECIPE, SIZES, data, binding]))
