"""What every search algorithm promises, with that of the tutorial, whose code is run here."""

import sys
import types

import pytest

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.configuration import Stored
from official_nasfpn.errors import UserError
from official_nasfpn.search.algorithms.algorithm import AlgorithmSettings, Outcome
from official_nasfpn.search.algorithms.algorithms import ALGORITHMS
from official_nasfpn.search.algorithms.random_search import RandomSearch
from official_nasfpn.search.loop import begun_store, run_search
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.storage import settle_recipe
from official_nasfpn.search.workers.evaluation import Evaluation
from official_nasfpn.search.workers.trial_worker import run_worker
from tests.program_process import REPOSITORY
from tests.readme_test import blocks_of
from tests.search.workers.closed_form_worker import closed_form_reward

# Small: what takes time is that PPO traces each decision.
SPACE = SearchSpace(max_level=5, num_intermediate_cells=1)


def _of_the_tutorial():
  """Returns the settings of the algorithm on the page, known to recipes under their name."""
  page = REPOSITORY / "docs" / "tutorials" / "your_own_search_algorithm.md"
  settings, algorithm, table = (code for language, code in blocks_of(page) if language == "python")
  assert table == "Algorithm = PPO | Evolution | RandomSearch | LocalSearch\n"
  module = types.ModuleType("local_search")
  sys.modules[module.__name__] = module
  exec(compile(f"{settings}\n\n{algorithm}", page.name, "exec"), vars(module))
  return module.LocalSearch


LOCAL_SEARCH = _of_the_tutorial()


@pytest.fixture(params=[*ALGORITHMS, LOCAL_SEARCH], ids=lambda cls: cls.__name__)
def settings(request):
  return request.param()


def outcomes_of(proposals):
  return [Outcome(p, closed_form_reward(SPACE.decode(p.choices))) for p in proposals]


def run(algorithm, updates, batch=6):
  """Returns the proposals of some updates, after each of which the algorithm has learnt."""
  proposals = []
  for update in updates:
    proposals.append(algorithm.propose(update, batch))
    algorithm.learn(update, outcomes_of(proposals[-1]))
  return proposals


def test_its_settings_are_those_of_an_algorithm(settings):
  assert isinstance(settings, AlgorithmSettings)


def test_proposals_are_architectures_of_the_space(settings):
  for proposals in run(settings.make(SPACE, seed=0), range(1, 3)):
    assert len(proposals) == 6
    for proposal in proposals:
      assert SPACE.encode(SPACE.decode(proposal.choices)) == proposal.choices
      assert len(proposal.log_probs) == len(proposal.choices)


def test_asked_again_it_proposes_the_same(settings):
  algorithm = settings.make(SPACE, seed=0)
  run(algorithm, [1])
  assert algorithm.propose(2, 6) == algorithm.propose(2, 6)
  assert algorithm.propose(2, 6) != algorithm.propose(3, 6)


def test_the_seed_is_all_that_is_drawn_from(settings):
  first, again, other = (run(settings.make(SPACE, seed), [1, 2]) for seed in (0, 0, 1))
  assert first == again
  assert first[0] != other[0]


def test_continued_from_its_state_it_goes_on_as_if_nothing_had_happened(settings):
  undisturbed = run(settings.make(SPACE, seed=0), range(1, 5))
  begun = settings.make(SPACE, seed=0)
  run(begun, range(1, 3))
  state = begun.state()
  assert isinstance(state, bytes)
  continued = settings.make(SPACE, seed=0)
  continued.restore(state)
  assert run(continued, range(3, 5)) == undisturbed[2:]


def test_the_state_before_anything_was_learnt_can_be_restored(settings):
  algorithm = settings.make(SPACE, seed=0)
  algorithm.restore(settings.make(SPACE, seed=0).state())
  assert algorithm.propose(1, 6) == settings.make(SPACE, seed=0).propose(1, 6)


def test_a_batch_may_be_empty_or_small(settings):
  algorithm = settings.make(SPACE, seed=0)
  proposals = algorithm.propose(1, 6)
  algorithm.learn(1, [])
  figures = algorithm.learn(2, outcomes_of(proposals[:1]))
  assert all(isinstance(value, float) for value in figures.values())
  assert len(algorithm.propose(3, 6)) == 6


def test_a_recipe_names_it_and_its_text_brings_it_back(settings):
  recipe = read_recipe([], [f"Search.algorithm = @{type(settings).__name__}()"])
  assert recipe.search.algorithm == settings
  assert read_recipe([Stored(recipe.to_gin(), "a store")]) == recipe


def test_a_search_runs_with_it(settings, tmp_path):
  recipe = read_recipe(
    [],
    [
      f"Search.algorithm = @{type(settings).__name__}()",
      "SearchSpace.max_level = 5",
      "SearchSpace.num_intermediate_cells = 1",
      "Search.num_trials = 8",
      "Search.trials_per_update = 4",
    ],
  )
  settle_recipe(recipe, tmp_path)

  def evaluate(spec, trial_dir, progress):
    return Evaluation(closed_form_reward(spec))

  class Here:
    """Runs one worker in this process whenever there are trials."""

    def __init__(self, store):
      self.store = store

    def tend(self, unfinished_trials):
      if queued := self.store.counts().queued:
        run_worker(self.store, tmp_path, evaluate, "here", recipe.version, queued)

    def close(self):
      pass

  with begun_store(tmp_path, recipe) as store:
    run_search(recipe.search, recipe.space, tmp_path, store, Here)
    trials = store.trials()
  assert [trial.state for trial in trials] == ["done"] * 8


def test_that_of_the_tutorial_climbs():
  def mean_at_the_end(settings):
    proposals = run(settings.make(SPACE, seed=0), range(1, 31))[-1]
    return sum(outcome.reward for outcome in outcomes_of(proposals)) / len(proposals)

  assert mean_at_the_end(LOCAL_SEARCH()) > mean_at_the_end(RandomSearch()) + 0.3


def test_settings_of_the_tutorial_are_bound_and_checked():
  named = "Search.algorithm = @LocalSearch()"
  recipe = read_recipe([], [named, "LocalSearch.num_changes = 2"])
  assert recipe.search.algorithm == LOCAL_SEARCH(num_changes=2)
  with pytest.raises(UserError) as caught:
    read_recipe([], [named, "LocalSearch.num_changes = 0"])
  assert str(caught.value) == "LocalSearch.num_changes = 0: input should be greater than 0."
