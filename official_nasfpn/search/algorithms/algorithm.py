"""The interface between the search loop and search algorithms.

An algorithm has two parts: its settings, a frozen dataclass that recipes bind (`@PPO()`), and the
object that they `make`, which proposes architectures and learns.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from official_nasfpn.architecture import SearchSpace


@dataclasses.dataclass(frozen=True)
class Proposal:
  """An architecture to evaluate.

  Attributes:
    choices: one choice per decision of the `SearchSpace`.
    log_probs: log-probability of each choice when it was sampled, in nats.
  """

  choices: tuple[int, ...]
  log_probs: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Outcome:
  """A proposal and its reward.

  Attributes:
    proposal: the proposal.
    reward: its reward.
    objectives: where a search has several, what the trial reached of each in their order, more is
      better: costs are negative. Empty where the reward is the only one.
  """

  proposal: Proposal
  reward: float
  objectives: tuple[float, ...] = ()


class SearchAlgorithm(Protocol):
  """Proposes architectures and learns from their rewards.

  Updates are numbered from 1. The random draws of update u depend only on (seed, u), so the state
  of an algorithm is only what it has learnt. A search that is continued from `state()` proposes
  what it would have proposed without the interruption.
  """

  def propose(self, update: int, count: int) -> list[Proposal]:
    """Returns `count` proposals; calling it again in the same state returns the same ones."""
    ...

  def learn(self, update: int, outcomes: Sequence[Outcome]) -> Mapping[str, float]:
    """Learns from the batch of one update.

    Args:
      update: number of the update.
      outcomes: outcomes in the order of their trials. Trials whose failure was not the
        architecture's are left out, so the batch may be smaller than the proposed one, or empty.

    Returns:
      Metrics of the learning step by name.
    """
    ...

  def state(self) -> bytes:
    """Returns everything that `restore` needs, as plain data, never a pickle."""
    ...

  def restore(self, state: bytes) -> None:
    """Restores a state that an instance with the same settings has returned."""
    ...


@runtime_checkable
class AlgorithmSettings(Protocol):
  """The settings of one kind of search algorithm, as `Search.algorithm` holds them.

  Those of an algorithm that learns from `Outcome.objectives`, or not at all, have
  `takes_objectives: ClassVar[bool] = True`. Others are refused with several `Search.objectives`.
  """

  def check(self) -> None:
    """Raises a `UserError` if a package that the algorithm needs is not installed."""
    ...

  def make(self, space: SearchSpace, seed: int) -> SearchAlgorithm:
    """Returns the algorithm in its initial state.

    Args:
      space: search space.
      seed: seeds all random draws of the algorithm.
    """
    ...
