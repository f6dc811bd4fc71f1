"""Closed-form rewards of an architecture, with a known optimum."""

import random
import statistics
from collections.abc import Callable

from official_nasfpn.architecture import PyramidSpec, SearchSpace, canonical_hash

Reward = Callable[[PyramidSpec], float]


def smooth(spec: PyramidSpec) -> float:
  """Returns a reward in [0, 1] with optimum 1, in which every good choice counts by itself.

  A cell earns half of its share if it pools, and half if its inputs have neighbouring levels, one
  of them the cell's, as in FPN and PANet. The latter depends on several choices, earlier ones
  among them.
  """
  return statistics.mean(0.5 * pools + 0.5 * is_near for pools, is_near in _cells(spec))


def deceptive(spec: PyramidSpec) -> float:
  """Returns a rugged reward in [-0.2, 1] with optimum 1, whose slope leads away from the optimum.

  The two properties of a cell are those of `smooth`. A cell with both is worth 1, with neither 0.5,
  with one 0. So the path from the second best to the best leads downhill, and the choice that is
  best on average is wrong. On top comes a part that cannot be learnt: up to 0.2 less, by the hash
  of the architecture, and less of it close to the optimum.
  """
  worth = statistics.mean(
    1.0 if pools and is_near else 0.5 * (pools == is_near) for pools, is_near in _cells(spec)
  )
  luck = int(canonical_hash(spec)[:8], 16) / 16**8
  return worth - 0.2 * (1 - worth) * luck


def standard_deviation(reward: Reward, space: SearchSpace) -> float:
  """Returns the standard deviation of the rewards of random architectures."""
  rng = random.Random(0)
  return statistics.stdev(reward(space.sample(rng)) for _ in range(1000))


def _cells(spec: PyramidSpec) -> list[tuple[bool, bool]]:
  """Returns for each cell whether it pools, and whether its inputs have neighbouring levels."""
  levels = [*spec.levels]
  properties = []
  for cell in spec.cells:
    of_inputs = [levels[index] for index in cell.inputs]
    is_near = cell.level in of_inputs and abs(of_inputs[0] - of_inputs[1]) <= 1
    properties.append((cell.op == "global_pool", is_near))
    levels.append(cell.level)
  return properties
