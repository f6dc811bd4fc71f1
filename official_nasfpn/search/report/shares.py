"""Which ops and levels the best architectures of a search share."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from official_nasfpn.architecture import PyramidSpec, SearchSpace

# With fewer a quarter is one architecture.
MIN_ARCHITECTURES = 8
# Means of equal shares differ by rounding.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Share:
  """How often something is chosen.

  Attributes:
    what: is chosen.
    best: mean share among the best quarter, in [0, 1].
    all: mean share among all architectures.
    by_chance: how far from `all` 19 of 20 random quarters stay: twice their standard deviation.
  """

  what: str
  best: float
  all: float
  by_chance: float

  @property
  def stands_out(self) -> bool:
    """Whether the best quarter differs by more than a random one does."""
    return abs(self.best - self.all) > self.by_chance + _ROUNDING


def has_best_quarter(rewards: Sequence[float]) -> bool:
  """Returns whether rewards tell the best quarter from the others.

  They do not where the last one in it equals the first one outside, such as 0 in a search that has
  found few objects: which architectures belong to it would be decided by their numbers.

  Args:
    rewards: at least `MIN_ARCHITECTURES`, those of the best first.
  """
  quarter = len(rewards) // 4
  return rewards[quarter - 1] != rewards[quarter]


def shares_of_the_best(ranked: Sequence[PyramidSpec], space: SearchSpace) -> list[Share]:
  """Returns what the best quarter of some architectures chooses, beside all of them.

  Args:
    ranked: the best first, each architecture once.
    space: that they are of.

  Returns:
    The shares; none of fewer than `MIN_ARCHITECTURES`.
  """
  count = len(ranked)
  if count < MIN_ARCHITECTURES:
    return []
  quarter = count // 4
  rows = [dict(_choices(spec, space)) for spec in ranked]
  shares = []
  for what in rows[0]:
    values = np.array([row[what] for row in rows])
    # Drawing without replacement.
    deviation = values.std() * math.sqrt((count - quarter) / (quarter * (count - 1)))
    shares.append(
      Share(what, float(values[:quarter].mean()), float(values.mean()), 2 * float(deviation))
    )
  return shares


def _choices(spec: PyramidSpec, space: SearchSpace) -> Iterator[tuple[str, float]]:
  """Yields what can be chosen in a space, and how much of a pyramid has it."""
  intermediate = spec.cells[: -spec.num_inputs]
  outputs = {cell.level: cell for cell in spec.cells[-spec.num_inputs :]}
  # Of two ops, one share says that of the other.
  ops = space.ops if len(space.ops) > 2 else space.ops[1:]
  for op in ops:
    yield f"{op}, of all cells", _share([cell.op == op for cell in spec.cells])
  for op in ops:
    for level, cell in sorted(outputs.items()):
      yield f"{op} in P{level}", float(cell.op == op)
  levels = space.intermediate_levels or range(space.min_level + 1, space.max_level + 1)
  if intermediate and len(levels) > 1:
    for level in levels:
      what = f"level {level}, of intermediate cells"
      yield what, _share([cell.level == level for cell in intermediate])
  for number in space.num_repeats:
    yield f"{number} repeat{'s' if number > 1 else ''}", float(spec.num_repeats == number)
  for number in space.num_filters:
    yield f"{number} filters", float(spec.num_filters == number)


def _share(chosen: Sequence[bool]) -> float:
  return sum(chosen) / len(chosen)
