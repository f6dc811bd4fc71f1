"""How a trial is evaluated: the seam between workers and what a trial trains."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from official_nasfpn.architecture import PyramidSpec


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What came of a trial.

  Attributes:
    reward: what the search learns from.
    metrics: what else was measured, for people: `AP`, `multiply_adds`, `latency_ms`, and
      `stopped_at`, the share of the training after which a hopeless trial was stopped.
  """

  reward: float
  metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)


class TrialProgress(Protocol):
  """Takes what an evaluation tells on the way."""

  def report(self, share: float) -> None:
    """Says how much of the trial is done, in [0, 1]; cheap enough for every train step."""
    ...

  def is_hopeless(self, share: float, reward: float) -> bool:
    """Returns whether the trial is to stop, because others were better at the same share.

    Args:
      share: of the training that is done, in (0, 1); the same for all trials.
      reward: what the trial would get now.
    """
    ...


class NullProgress:
  """The progress of a trial that nobody follows, and that no other is compared with."""

  def report(self, share: float) -> None:
    del share

  def is_hopeless(self, share: float, reward: float) -> bool:
    del share, reward
    return False


# Takes an architecture, the trial's directory and the progress. Raises `TrialFailed` when there can
# be no reward.
Evaluate = Callable[[PyramidSpec, Path, TrialProgress], Evaluation]


class TrialFailed(Exception):
  """Raised by an evaluation that cannot give a reward.

  Attributes:
    reason: for people.
    diverged: the architecture is to blame: its training diverged. The search learns from that, and
      does not learn from failures of machines.
  """

  def __init__(self, reason: str, diverged: bool = False):
    super().__init__(reason)
    self.reason = reason
    self.diverged = diverged
