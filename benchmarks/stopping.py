"""Rules that stop hopeless trainings, simulated on recorded learning curves.

A search draws architectures at random until its budget is spent, counted in whole trainings. It
returns the one with the best AP among those that were trained the furthest. A rule compares at the
recorded shares of a training that are nearest to its own, and pays for these.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from official_nasfpn.benchmark.table import Recorded
from official_nasfpn.errors import UserError
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

  def nearest(self, shares: Iterable[float]) -> list[float]:
    """Returns the recorded shares nearest to others, rising; one that is nearest to two, once."""
    return sorted({min(self.shares, key=lambda known: abs(known - share)) for share in shares})

  def at(self, index: int, share: float) -> float:
    """Returns the AP of an architecture at a recorded share."""
    return float(self.aps[index, self.shares.index(share)])


def curves_of(table: Sequence[Recorded], where: str) -> Curves:
  """Returns the learning curves of a table, those with the shares that most have.

  Raises:
    UserError: there are none.
  """
  shares = [tuple(share for share, _ in entry.curve) for entry in table if entry.curve]
  common = max(set(shares), key=shares.count, default=())
  rows = [
    [ap for _, ap in entry.curve]
    for entry in table
    if entry.curve and tuple(share for share, _ in entry.curve) == common
  ]
  if not rows or common[-1] != 1.0:
    raise UserError(
      f"{where} has no learning curves to the end of the training. "
      "benchmarks/record_architectures.py says how to record them."
    )
  return Curves(common, np.array(rows))


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


def check_enough(curves: Curves, rules: Mapping[str, Rule], budget: float, where: str) -> None:
  """Refuses a table of which a rule would draw more than two thirds: that alone finds the best.

  Args:
    curves: the recorded curves.
    rules: the rules by name.
    budget: the greatest that they are simulated with, in whole trainings.
    where: the table's name.

  Raises:
    UserError: there are too few curves.
  """
  # The same curves several times over, so that no rule runs out of them.
  copies = math.ceil(budget / curves.shares[0] / len(curves.aps))
  many = Curves(curves.shares, np.tile(curves.aps, (copies, 1)))
  order = np.random.default_rng(0).permutation(len(many.aps))
  begun = {name: returned(rule, many, order, budget)[1] for name, rule in rules.items()}
  name = max(begun, key=lambda name: begun[name])
  needed = math.ceil(1.5 * begun[name])
  if len(curves.aps) < needed:
    raise UserError(
      f"{where} has {len(curves.aps)} learning curves, and {needed} are needed: the rule "
      f"{name!r} begins {begun[name]} at a budget of {budget:g}, and where it draws nearly all, it "
      "finds the best in any order. Record more, as benchmarks/record_architectures.py says, or "
      "give smaller budgets."
    )


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
    compared = curves.nearest((*shares, 1.0))
    seen: dict[float, list[float]] = {share: [] for share in compared}
    for index in drawn:
      before = 0.0
      for share in compared:
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

  def rule(curves: Curves, drawn: Iterator[int]) -> Iterator[tuple[int, float, float]]:
    rungs = _rungs(curves, eta, num_rungs)
    there: list[list[int]] = [[] for _ in rungs]
    promoted: list[set[int]] = [set() for _ in rungs]

    def next_promotion() -> tuple[int, int] | None:
      for number in range(len(rungs) - 2, -1, -1):
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
    rungs = _rungs(curves, eta, num_rungs)
    while True:
      for s in range(len(rungs) - 1, -1, -1):
        count = math.ceil(len(rungs) / (s + 1) * eta**s)
        kept = [index for index in (next(drawn, None) for _ in range(count)) if index is not None]
        if not kept:
          return
        before = 0.0
        for share in rungs[-(s + 1) :]:
          for index in kept:
            yield index, share, before
          before = share
          kept.sort(key=lambda index, share=share: -curves.at(index, share))
          kept = kept[: max(1, len(kept) // eta)]

  return rule


def _rungs(curves: Curves, eta: int, num_rungs: int) -> list[float]:
  """Returns recorded shares, about `eta` times as great from one to the next."""
  return curves.nearest(float(eta) ** -number for number in range(num_rungs))
