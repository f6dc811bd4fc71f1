"""Rewards that follow from an architecture in closed form, with a known optimum."""

import random
import statistics
from collections.abc import Callable

from official_nasfpn.architecture import PyramidSpec, SearchSpace, canonical_hash

Reward = Callable[[PyramidSpec], float]


def smooth(spec: PyramidSpec) -> float:
  """Returns a reward in 0..1 whose optimum is 1; every good choice pays.

  A cell is worth half its share if it pools, and half if its inputs are of neighbouring levels, one
  of them its own, as in FPN and PANet: choices that depend on one another and on earlier ones.
  """
  return statistics.mean(0.5 * pools + 0.5 * is_near for pools, is_near in _cells(spec))


def deceptive(spec: PyramidSpec) -> float:
  """Returns a rugged reward in -0.2..1 that leads away from its optimum, 1.

  The properties are those of `smooth`. A cell with both is worth 1, with neither 0.5, with one 0:
  the way from the second best to the best is downhill, and what is best for a choice on average is
  wrong. To that comes what nobody can learn: up to 0.2 less, another amount for every architecture,
  and the less the nearer to the optimum.
  """
  worth = statistics.mean(
    1.0 if pools and is_near else 0.5 * (pools == is_near) for pools, is_near in _cells(spec)
  )
  luck = int(canonical_hash(spec)[:8], 16) / 16**8
  return worth - 0.2 * (1 - worth) * luck


def standard_deviation(reward: Reward, space: SearchSpace) -> float:
  """Returns that of the rewards of random architectures."""
  rng = random.Random(0)
  return statistics.stdev(reward(space.sample(rng)) for _ in range(1000))


def _cells(spec: PyramidSpec) -> list[tuple[bool, bool]]:
  """Returns whether each cell pools, and whether its inputs are near."""
  levels = [*spec.levels]
  properties = []
  for cell in spec.cells:
    of_inputs = [levels[index] for index in cell.inputs]
    is_near = cell.level in of_inputs and abs(of_inputs[0] - of_inputs[1]) <= 1
    properties.append((cell.op == "global_pool", is_near))
    levels.append(cell.level)
  return properties
