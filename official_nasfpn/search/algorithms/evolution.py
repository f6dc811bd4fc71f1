"""Regularised evolution (Real et al. 2019, algorithm 1): the baseline without a controller.

The population is a queue. A few members are drawn at random, and the best of them is copied with
one choice changed. This child joins the queue when it has its reward, and the oldest member leaves.
Here all children of one update are made from the same population.

With several objectives the population is that of NSGA-II (Deb et al. 2002): of parents and children
those stay that fewest dominate, and of these the ones that lie the furthest apart. The same order
decides tournaments. Children are mutants as above; Deb's crossover is left out, since halves of two
pyramids seldom make a valid one.
"""

import json
import random
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import PositiveInt

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.configuration import configurable, settings
from official_nasfpn.search.algorithms.algorithm import Outcome, Proposal
from official_nasfpn.search.front import crowded_order, non_dominated


@configurable("Evolution")
@settings
class Evolution:
  """Regularised evolution (Real et al. 2019): mutates good members, removes the oldest ones.

  With several `Search.objectives` it is NSGA-II (Deb et al. 2002), which removes the members that
  others dominate.

  Attributes:
    population_size: number of members of the population, P in the paper; 100 there, in a search of
      20,000 trials.
    tournament_size: number of members drawn at random, of which the best becomes a parent; S in the
      paper, where it is a quarter of the population.
  """

  takes_objectives: ClassVar[bool] = True

  population_size: PositiveInt = 40
  tournament_size: PositiveInt = 10

  def check(self) -> None:
    pass

  def make(self, space: SearchSpace, seed: int) -> "EvolutionSearch":
    return EvolutionSearch(space, seed, self)


class EvolutionSearch:
  """Proposes mutations of architectures with good rewards."""

  def __init__(self, space: SearchSpace, seed: int, config: Evolution):
    """Starts with an empty population; until it is full, architectures are sampled uniformly.

    Args:
      space: search space.
      seed: seeds all random draws.
      config: sizes of the population and the tournament.
    """
    self._space = space
    self._seed = seed
    self._population_size = config.population_size
    self._tournament_size = config.tournament_size
    # Choices and reward of each member; its objectives in place of the reward if there are several.
    self._population: list[tuple[tuple[int, ...], float | tuple[float, ...]]] = []

  def propose(self, update: int, count: int) -> list[Proposal]:
    rng = random.Random(f"{self._seed}/{update}")
    # Before the first rewards there is no parent, even if `count` exceeds the population size.
    num_missing = self._population_size - len(self._population) if self._population else count
    places = self._places()
    return [
      self._proposal(self._draw(rng) if index < num_missing else self._child(rng, places))
      for index in range(count)
    ]

  def learn(self, update: int, outcomes: Sequence[Outcome]) -> Mapping[str, float]:
    del update
    self._population += [
      (outcome.proposal.choices, outcome.objectives or outcome.reward) for outcome in outcomes
    ]
    points = self._points()
    if points:
      survivors = {*crowded_order(points)[: self._population_size]}
      self._population = [each for i, each in enumerate(self._population) if i in survivors]
      return {"population/front_size": float(len(non_dominated(self._points())))}
    self._population = self._population[-self._population_size :]
    if not self._population:
      return {}
    rewards = [reward for _, reward in self._population if isinstance(reward, float | int)]
    return {
      "population/mean_reward": sum(rewards) / len(rewards),
      "population/best_reward": max(rewards),
    }

  def state(self) -> bytes:
    return json.dumps(self._population).encode()

  def restore(self, state: bytes) -> None:
    self._population = [
      (tuple(choices), tuple(value) if isinstance(value, list) else value)
      for choices, value in json.loads(state)
    ]

  def _points(self) -> list[tuple[float, ...]]:
    """Returns the objectives of the members; none where there is one reward."""
    return [value for _, value in self._population if isinstance(value, tuple)]

  def _draw(self, rng: random.Random) -> tuple[int, ...]:
    return self._space.encode(self._space.sample(rng))

  def _child(self, rng: random.Random, place: Sequence[int]) -> tuple[int, ...]:
    size = len(self._population)
    drawn = rng.sample(range(size), min(self._tournament_size, size))
    # Of equal ones, the first that was drawn.
    parent, _ = self._population[min(drawn, key=lambda index: place[index])]
    return mutate(parent, self._space, rng)

  def _places(self) -> list[int]:
    """Returns the place of each member in the order that tournaments follow, 0 for the best."""
    points = self._points()
    if points:
      places = [0] * len(points)
      for place, index in enumerate(crowded_order(points)):
        places[index] = place
      return places
    rewards = [reward for _, reward in self._population]
    ranking = sorted(set(rewards), reverse=True)
    by_reward = {reward: place for place, reward in enumerate(ranking)}
    return [by_reward[reward] for reward in rewards]

  def _proposal(self, choices: tuple[int, ...]) -> Proposal:
    # Evolution does not use log-probabilities.
    return Proposal(choices, (0.0,) * len(choices))


def mutate(choices: Sequence[int], space: SearchSpace, rng: random.Random) -> tuple[int, ...]:
  """Returns an architecture with one choice changed.

  Later choices are kept if they are still valid, and drawn again if not.

  Args:
    choices: one choice per decision of the space.
    space: search space, which decides which choices are valid.
    rng: source of all randomness.
  """
  others: list[int] = []
  while not others:  # Some decisions have only one valid choice.
    changed = rng.randrange(len(choices))
    others = [choice for choice in _valid(space, choices[:changed]) if choice != choices[changed]]
  child = [*choices[:changed], rng.choice(others)]
  for choice in choices[changed + 1 :]:
    valid = _valid(space, child)
    child.append(choice if choice in valid else rng.choice(valid))
  return tuple(child)


def _valid(space: SearchSpace, choices: Sequence[int]) -> list[int]:
  return [choice for choice, is_valid in enumerate(space.mask(choices)) if is_valid]
