"""The contract of every search algorithm, whatever it proposes and however it learns."""

import dataclasses

import pytest

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.search.algorithms.algorithm import AlgorithmSettings, Outcome
from official_nasfpn.search.algorithms.algorithms import ALGORITHMS
from official_nasfpn.search.recipe import read_recipe

SPACE = SearchSpace(min_level=3, max_level=5, num_intermediate_cells=1)
# Smaller settings where they make an algorithm quicker.
SMALL = {"hidden_units": 8, "population_size": 6, "tournament_size": 3}


def small(cls: type) -> AlgorithmSettings:
  """Returns settings with which an algorithm runs quickly."""
  names = {field.name for field in dataclasses.fields(cls)}
  return cls(**{name: value for name, value in SMALL.items() if name in names})


def outcomes_of(proposals) -> list[Outcome]:
  """Returns proposals with rewards: the share of cells that pool."""
  specs = [SPACE.decode(proposal.choices) for proposal in proposals]
  rewards = [sum(cell.op == "global_pool" for cell in s.cells) / len(s.cells) for s in specs]
  return [Outcome(proposal, reward) for proposal, reward in zip(proposals, rewards, strict=True)]


def assert_contract(settings: AlgorithmSettings) -> None:
  """Checks that an algorithm fulfils `SearchAlgorithm` and `AlgorithmSettings`."""
  settings.check()
  algorithm = settings.make(SPACE, seed=3)

  # Proposals are architectures of the space, in the requested number, each choice with its
  # log-probability.
  proposals = algorithm.propose(1, 8)
  assert len(proposals) == 8
  for proposal in proposals:
    assert SPACE.encode(SPACE.decode(proposal.choices)) == proposal.choices
    assert len(proposal.log_probs) == len(proposal.choices)
    assert all(log_prob <= 0 for log_prob in proposal.log_probs)

  # They depend only on seed, update and state.
  assert algorithm.propose(1, 8) == proposals == settings.make(SPACE, seed=3).propose(1, 8)
  assert algorithm.propose(2, 8) != proposals
  assert settings.make(SPACE, seed=4).propose(1, 8) != proposals

  # It learns from batches of any size, and its metrics are numbers.
  metrics = algorithm.learn(1, outcomes_of(proposals))
  assert all(isinstance(value, float) for value in metrics.values())
  algorithm.learn(2, outcomes_of(algorithm.propose(2, 8))[:3])
  state = algorithm.state()
  algorithm.learn(3, [])
  assert algorithm.state() == state

  # The state is plain data, and contains all that the algorithm has learnt.
  assert b"pickle" not in state
  restored = settings.make(SPACE, seed=3)
  restored.restore(state)
  assert restored.state() == state
  assert restored.propose(4, 8) == algorithm.propose(4, 8)
  again = outcomes_of(algorithm.propose(4, 8))
  assert restored.learn(4, again) == algorithm.learn(4, again)
  assert restored.propose(5, 8) == algorithm.propose(5, 8)


@pytest.mark.parametrize("cls", ALGORITHMS, ids=lambda cls: cls.__name__)
def test_an_algorithm_keeps_the_contract(cls):
  assert_contract(small(cls))


@pytest.mark.parametrize("cls", ALGORITHMS, ids=lambda cls: cls.__name__)
def test_recipes_name_it(cls):
  recipe = read_recipe(gin_params=[f"Search.algorithm = @{cls.__name__}()"])
  assert recipe.search.algorithm == cls()
