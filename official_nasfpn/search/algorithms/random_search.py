"""Random search: the baseline that a learning algorithm has to beat."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import ClassVar

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.configuration import configurable, settings
from official_nasfpn.search.algorithms.algorithm import Outcome, Proposal


@configurable("RandomSearch")
@settings
class RandomSearch:
  """Uniform sampling of the search space. It has no settings."""

  takes_objectives: ClassVar[bool] = True

  def check(self) -> None:
    pass

  def make(self, space: SearchSpace, seed: int) -> "UniformSearch":
    return UniformSearch(space, seed)


class UniformSearch:
  """Samples the search space uniformly and learns nothing."""

  def __init__(self, space: SearchSpace, seed: int):
    self._space = space
    self._seed = seed

  def propose(self, update: int, count: int) -> list[Proposal]:
    rng = random.Random(f"{self._seed}/{update}")
    return [self._propose(rng) for _ in range(count)]

  def learn(self, update: int, outcomes: Sequence[Outcome]) -> Mapping[str, float]:
    del update, outcomes
    return {}

  def state(self) -> bytes:
    return b""

  def restore(self, state: bytes) -> None:
    del state

  def _propose(self, rng: random.Random) -> Proposal:
    choices = self._space.encode(self._space.sample(rng))
    num_valid = [sum(self._space.mask(choices[:step])) for step in range(len(choices))]
    return Proposal(choices, tuple(-math.log(num) for num in num_valid))
