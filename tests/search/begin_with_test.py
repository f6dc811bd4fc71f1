"""A search that begins with known pyramids."""

import math

import pytest

from official_nasfpn import architecture
from official_nasfpn.architecture import CATALOG
from official_nasfpn.errors import UserError
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.workers.evaluation import Evaluation
from tests.search.one_process import search_in_one_process

BEGUN = "Search.begin_with = ('nas_fpn',)"


def recipe(*bindings):
  return read_recipe(
    gin_params=[
      "Input.data_dir = 'nowhere'",
      "Search.num_trials = 8",
      "Search.trials_per_update = 2",
      "PPO.hidden_units = 8",
      *bindings,
    ]
  )


def evaluate(spec, trial_dir, progress, seed_offset=0):
  return Evaluation(1.0 if spec == CATALOG["nas_fpn"] else 0.1)


@pytest.mark.parametrize("algorithm", ["PPO", "Evolution", "RandomSearch"])
def test_a_known_pyramid_is_the_first_trial(algorithm, tmp_path):
  chosen = f"Search.algorithm = @{algorithm}()"
  begun = recipe(chosen, BEGUN)
  trials = search_in_one_process(begun, tmp_path / "begun", evaluate)
  specs = [architecture.from_gin(trial.architecture, "a trial") for trial in trials]
  assert specs[0] == CATALOG["nas_fpn"]
  assert len(trials) == 8
  assert all(trial.reward is not None for trial in trials)
  assert len(set(specs)) == 8
  # It takes the place of what the algorithm would have begun with.
  alone = search_in_one_process(recipe(chosen), tmp_path / "alone", evaluate)
  assert alone[0].choices != trials[0].choices
  assert alone[1].choices == trials[1].choices
  # Continued after every update, a search has the same trials.
  for count in (2, 8):
    some = recipe(chosen, BEGUN, f"Search.num_trials = {count}")
    parts = search_in_one_process(some, tmp_path / "parts", evaluate)
  assert [trial.choices for trial in parts] == [trial.choices for trial in trials]


def test_in_a_space_with_sizes_it_is_tried_at_each(tmp_path):
  begun = recipe(
    BEGUN,
    "Search.algorithm = @Evolution()",
    "Evolution.population_size = 4",
    "Evolution.tournament_size = 2",
    "SearchSpace.num_repeats = (1, 3)",
    "SearchSpace.num_filters = (8, 16)",
    "Search.num_trials = 60",
  )

  def wide(spec, trial_dir, progress, seed_offset=0):
    return Evaluation(spec.num_filters / 16 - 0.1 * spec.num_repeats)

  trials = search_in_one_process(begun, tmp_path, wide)
  specs = [architecture.from_gin(trial.architecture) for trial in trials]
  assert [spec.size_name for spec in specs[:4]] == ["1 @ 8", "1 @ 16", "3 @ 8", "3 @ 16"]
  assert {spec.cells for spec in specs[:4]} == {CATALOG["nas_fpn"].cells}
  # Sizes are mutated and selected as wiring is.
  assert {spec.size_name for spec in specs[4:]} > {"1 @ 16"}
  assert sum(spec.size_name == "1 @ 16" for spec in specs[-10:]) > 5


def test_evolution_goes_on_from_them(tmp_path):
  begun = recipe(
    "Search.algorithm = @Evolution()",
    "Evolution.population_size = 2",
    "Evolution.tournament_size = 2",
    BEGUN,
    "Search.num_trials = 4",
  )
  trials = search_in_one_process(begun, tmp_path, evaluate)
  known = trials[0].choices
  for trial in trials[2:]:
    assert 0 < sum(a != b for a, b in zip(trial.choices, known, strict=True)) < len(known) / 2


def test_their_log_probabilities_are_those_of_a_uniform_draw(tmp_path):
  begun = recipe(BEGUN, "Search.num_trials = 1")
  trial = search_in_one_process(begun, tmp_path, evaluate)[0]
  space = begun.space
  valid = [sum(space.mask(trial.choices[:index])) for index in range(len(trial.choices))]
  assert trial.log_probs == pytest.approx([math.log(1 / count) for count in valid])


@pytest.mark.parametrize(
  ("bindings", "message"),
  [
    (["Search.begin_with = ('nasfpn',)"], "no architecture 'nasfpn'.*Did you mean nas_fpn"),
    (["Search.begin_with = ('fpn',)"], "'fpn', which cannot be a trial: it is drawn by hand"),
    (
      ["Search.begin_with = ('nas_fpn',)", "SearchSpace.num_intermediate_cells = 1"],
      "'nas_fpn', which cannot be a trial: the pyramid has 7 cells",
    ),
    (["Search.begin_with = 'nas_fpn'"], "Search.*begin_with"),
    (
      ["Search.begin_with = ('nas_fpn',)", "SearchSpace.num_repeats = (1, 2, 3, 4, 5, 6, 7, 8, 9)"],
      "makes 9 trials, more than Search.num_trials = 8: raise that, or give SearchSpace fewer",
    ),
  ],
)
def test_what_cannot_be_a_trial_is_said(bindings, message):
  with pytest.raises(UserError, match=message):
    recipe(*bindings)
