"""Regularised evolution: its mutations, its queue, and that it finds an optimum."""

import random
from collections import Counter

import pytest

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.search.algorithms.algorithm import Outcome, Proposal
from official_nasfpn.search.algorithms.evolution import Evolution, mutate
from official_nasfpn.search.algorithms.random_search import RandomSearch

SPACE = SearchSpace()


def reward_of(choices) -> float:
  """Returns the share of cells that pool. The optimum is 1, which one architecture in 128 has."""
  spec = SPACE.decode(choices)
  return sum(cell.op == "global_pool" for cell in spec.cells) / len(spec.cells)


def run(algorithm, num_updates, batch=10):
  rewards = []
  for update in range(1, num_updates + 1):
    proposals = algorithm.propose(update, batch)
    outcomes = [Outcome(proposal, reward_of(proposal.choices)) for proposal in proposals]
    algorithm.learn(update, outcomes)
    rewards += [outcome.reward for outcome in outcomes]
  return rewards


def evolution(seed=0, population_size=20, tournament_size=5):
  return Evolution(population_size, tournament_size).make(SPACE, seed)


@pytest.mark.parametrize("seed", range(200))
def test_a_mutant_is_valid_and_differs(seed):
  rng = random.Random(seed)
  parent = SPACE.encode(SPACE.sample(rng))
  child = mutate(parent, SPACE, rng)
  assert SPACE.encode(SPACE.decode(child)) == child
  assert child != parent


def test_any_decision_with_a_choice_may_change_and_most_of_the_parent_stays():
  rng = random.Random(0)
  parent = SPACE.encode(SPACE.sample(rng))
  changed, num_changes = Counter(), []
  for _ in range(3000):
    child = mutate(parent, SPACE, rng)
    where = [i for i, (a, b) in enumerate(zip(parent, child, strict=True)) if a != b]
    changed.update(where[:1])
    num_changes.append(len(where))
  with_choice = [i for i in range(len(parent)) if sum(SPACE.mask(parent[:i])) > 1]
  assert sorted(changed) == with_choice
  assert sum(num_changes) / len(num_changes) < 3


def test_the_first_are_drawn_uniformly_until_the_population_is_full():
  search = evolution(population_size=12)
  drawn = [proposal.choices for proposal in search.propose(1, 10)]
  assert drawn == [proposal.choices for proposal in RandomSearch().make(SPACE, 0).propose(1, 10)]
  search.learn(1, [Outcome(proposal, 0.0) for proposal in search.propose(1, 10)])
  children = [proposal.choices for proposal in search.propose(2, 10)][2:]

  def distance(one, other):
    return sum(a != b for a, b in zip(one, other, strict=True))

  nearest = [min(distance(child, parent) for parent in drawn) for child in children]
  assert min(nearest) > 0
  # Two random architectures differ in 21 of 28 choices on average.
  assert sum(nearest) / len(nearest) < 5


def test_the_oldest_leaves_even_if_it_is_the_best():
  search = evolution(population_size=3)
  members = [SPACE.encode(SPACE.sample(random.Random(seed))) for seed in range(4)]
  proposals = [Proposal(choices, (0.0,) * len(choices)) for choices in members]
  search.learn(1, [Outcome(proposals[0], 0.9)])
  metrics = search.learn(2, [Outcome(proposal, 0.1) for proposal in proposals[1:]])
  assert metrics == pytest.approx({"population/mean_reward": 0.1, "population/best_reward": 0.1})


def test_of_a_tournament_of_all_the_best_is_the_parent():
  search = evolution(population_size=8, tournament_size=8)
  members = [SPACE.encode(SPACE.sample(random.Random(seed))) for seed in range(8)]
  search.learn(
    1, [Outcome(Proposal(c, (0.0,) * len(c)), float(i == 5)) for i, c in enumerate(members)]
  )
  expected = random.Random("0/2")
  expected.sample(range(8), 8)
  assert search.propose(2, 1)[0].choices == mutate(members[5], SPACE, expected)


def test_it_goes_on_from_its_state_as_if_nothing_had_happened():
  whole, first = evolution(), evolution()
  rewards = run(whole, 8)
  assert run(first, 4) == rewards[:40]
  second = evolution()
  second.restore(first.state())
  assert second.propose(5, 10) == first.propose(5, 10)
  first_after = [Outcome(p, reward_of(p.choices)) for p in first.propose(5, 10)]
  assert [outcome.reward for outcome in first_after] == rewards[40:50]


def test_it_finds_better_ones_than_random_search():
  late = [sum(run(evolution(seed), 30)[-50:]) / 50 for seed in range(3)]
  by_chance = [sum(run(RandomSearch().make(SPACE, seed), 30)[-50:]) / 50 for seed in range(3)]
  assert min(late) > 0.85
  assert max(by_chance) < 0.65
