"""What every search algorithm offers, and what it is told: the seam between loop and algorithm.

An algorithm has two parts: its settings, a frozen dataclass that recipes bind (`@PPO()`), and what
they `make`, which proposes and learns.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from official_nasfpn.architecture import SearchSpace


@dataclasses.dataclass(frozen=True)
class Proposal:
  """An architecture to try.

  Attributes:
    choices: one per decision of the `SearchSpace`.
    log_probs: the log-probability with which each choice was made, in nats.
  """

  choices: tuple[int, ...]
  log_probs: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Outcome:
  """A proposal with the reward that it got."""

  proposal: Proposal
  reward: float


class SearchAlgorithm(Protocol):
  """Proposes architectures and learns from their rewards.

  Updates are numbered from 1. An algorithm draws what it needs for update u from (seed, u) alone,
  so that what it has learnt is all its state, and a search that is continued from `state()`
  proposes what it would have proposed without the interruption.
  """

  def propose(self, update: int, count: int) -> list[Proposal]:
    """Returns `count` proposals; the same ones when asked again in the same state."""
    ...

  def learn(self, update: int, outcomes: Sequence[Outcome]) -> Mapping[str, float]:
    """Learns from the batch of one update, in trial order, and returns figures about it.

    Trials that failed for reasons outside their architecture are left out, so the batch may be
    smaller than what was proposed, or empty.
    """
    ...

  def state(self) -> bytes:
    """Returns everything that `restore` needs, as data (never a pickle)."""
    ...

  def restore(self, state: bytes) -> None:
    """Goes back to a state returned by an instance made with the same settings."""
    ...


@runtime_checkable
class AlgorithmSettings(Protocol):
  """The settings of one kind of search algorithm, as `Search.algorithm` holds them."""

  def check(self) -> None:
    """Raises a `UserError` where a package is missing that the algorithm needs."""
    ...

  def make(self, space: SearchSpace, seed: int) -> SearchAlgorithm:
    """Returns the algorithm in its first state.

    Args:
      space: the search space.
      seed: of everything that the algorithm draws.
    """
    ...
