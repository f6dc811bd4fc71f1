"""Rules that stop hopeless trainings, simulated on recorded learning curves.

A search draws architectures at random until its budget is spent, counted in whole trainings. It
returns the one with the best AP among those that were trained the furthest.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from official_nasfpn.search.workers.early_stopping import is_hopeless


@dataclasses.dataclass(frozen=True)
class Curves:
  """Learning curves that were measured at the same shares of the training.

  Attributes:
    shares: rising, the last is 1.
    aps: AP at each share, float64 [architectures, shares].
  """

  shares: tuple[float, ...]
  aps: np.ndarray

  def at(self, index: int, share: float) -> float:
    """Returns the AP of an architecture at the first recorded share that is not below one."""
    place = next(p for p, s in enumerate(self.shares) if s >= share - 1e-9)
    return float(self.aps[index, place])


# Yields (architecture, share up to which it is trained now, share up to which it was before).
Rule = Callable[[Curves, Iterator[int]], Iterator[tuple[int, float, float]]]


def returned(rule: Rule, curves: Curves, order: Sequence[int], budget: float) -> tuple[int, int]:
  """Runs a search under a rule.

  Args:
    rule: decides what is trained next, and how far.
    curves: the recorded curves.
    order: the architectures in the order in which they are drawn.
    budget: whole trainings that it may cost; the step that would exceed it is not made.

  Returns:
    The architecture that the search returns, and how many it has begun.

  Raises:
    ValueError: the budget is too small for a single step.
  """
  reached: dict[int, float] = {}
  spent = 0.0
  for index, share, before in rule(curves, iter(order)):
    spent += share - before
    if spent > budget + 1e-9:
      break
    reached[index] = share
  if not reached:
    raise ValueError(f"a budget of {budget:g} trainings is too small for one step")
  furthest = max(reached.values())
  whole = [index for index, share in reached.items() if share == furthest]
  return max(whole, key=lambda index: curves.at(index, furthest)), len(reached)


def no_rule(curves: Curves, drawn: Iterator[int]) -> Iterator[tuple[int, float, float]]:
  """Trains every architecture to its end."""
  del curves
  for index in drawn:
    yield index, 1.0, 0.0


def quantile_rule(quantile: float, shares: Sequence[float], min_trials: int) -> Rule:
  """Returns the rule of `Search.early_stopping_quantile`; 0.5 is the median rule.

  Args:
    quantile: a training stops below it, among the others at the same share.
    shares: where trainings are compared.
    min_trials: how many others must have been there.
  """

  def rule(curves: Curves, drawn: Iterator[int]) -> Iterator[tuple[int, float, float]]:
    seen: dict[float, list[float]] = {share: [] for share in shares}
    for index in drawn:
      before = 0.0
      for share in (*shares, 1.0):
        yield index, share, before
        before = share
        if share == 1.0:
          break
        value, others = curves.at(index, share), seen[share]
        stops = is_hopeless(value, others, quantile, min_trials)
        others.append(value)
        if stops:
          break

  return rule


def asha(eta: int, num_rungs: int) -> Rule:
  """Returns asynchronous successive halving (Li et al. 2020, algorithm 2) on one worker.

  Args:
    eta: one in so many is promoted from a rung to the next.
    num_rungs: the last trains to the end, each before it a share that is `eta` times smaller.
  """
  rungs = [float(eta) ** -(num_rungs - 1 - number) for number in range(num_rungs)]

  def rule(curves: Curves, drawn: Iterator[int]) -> Iterator[tuple[int, float, float]]:
    there: list[list[int]] = [[] for _ in rungs]
    promoted: list[set[int]] = [set() for _ in rungs]

    def next_promotion() -> tuple[int, int] | None:
      for number in range(num_rungs - 2, -1, -1):
        best = sorted(there[number], key=lambda index: -curves.at(index, rungs[number]))
        for index in best[: len(best) // eta]:
          if index not in promoted[number]:
            return index, number
      return None

    while True:
      if promotion := next_promotion():
        index, number = promotion
        promoted[number].add(index)
        yield index, rungs[number + 1], rungs[number]
        there[number + 1].append(index)
      else:
        drawn_now = next(drawn, None)
        if drawn_now is None:
          return
        yield drawn_now, rungs[0], 0.0
        there[0].append(drawn_now)

  return rule


def hyperband(eta: int, num_rungs: int) -> Rule:
  """Returns Hyperband (Li et al. 2018, algorithm 1), whose brackets begin at every rung in turn.

  Args:
    eta: one in so many is kept at each rung of a bracket.
    num_rungs: rungs of the longest bracket; the last trains to the end.
  """

  def rule(curves: Curves, drawn: Iterator[int]) -> Iterator[tuple[int, float, float]]:
    while True:
      for s in range(num_rungs - 1, -1, -1):
        count = math.ceil(num_rungs / (s + 1) * eta**s)
        kept = [index for index in (next(drawn, None) for _ in range(count)) if index is not None]
        if not kept:
          return
        before = 0.0
        for step in range(s + 1):
          share = float(eta) ** (step - s)
          for index in kept:
            yield index, share, before
          before = share
          kept.sort(key=lambda index, share=share: -curves.at(index, share))
          kept = kept[: max(1, len(kept) // eta)]

  return rule
