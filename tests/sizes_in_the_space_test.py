"""A search that chooses how large a pyramid is beside its wiring, from its recipe to a training."""

import json
import random
import re

import pytest

from official_nasfpn.architecture import CATALOG, SearchSpace, from_gin
from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.report.found import read_trials
from official_nasfpn.search.report.html.page import write_report
from official_nasfpn.search.report.results import write_results
from official_nasfpn.search.search import Search
from official_nasfpn.training.experiment import load_experiment
from tests.search.one_process import search_in_one_process
from tests.search.report.searches import rewarded_search
from tests.search.short_trials import RECIPE

SIZES = """
SearchSpace.num_repeats = (1, 2)
SearchSpace.num_filters = (8, 16)
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

  assert built == ["1 @ 8", "1 @ 16", "2 @ 8"]
  # Of each size what its detector costs: more repeats and more filters are more of both.
  for name in ("multiply_adds", "parameters"):
    small, wide, deep = (trial.metrics[name] for trial in trials)
    assert small < min(wide, deep)

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
  file = storage.trial_dir(tmp_path, 3) / "architecture.gin"
  experiment = load_experiment([], [RECIPE_OF_A_TRAINING, f"Detector.architecture = {str(file)!r}"])
  assert (experiment.detector.num_repeats, experiment.detector.num_filters) == (2, 8)
  assert experiment.detector.architecture.cells == CATALOG["nas_fpn"].cells


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
  assert "1 or 3 @ 32 or 64" in page
  assert "3 repeats" in page


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
