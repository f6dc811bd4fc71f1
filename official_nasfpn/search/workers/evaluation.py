"""The evaluation of a trial: the interface between workers and what a trial trains."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from official_nasfpn.architecture import PyramidSpec
from official_nasfpn.errors import UserError


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """The result of a trial.

  Attributes:
    reward: reward that the search learns from.
    metrics: other measurements: `AP`, those of `proxy.cost.costs_of`, and `stopped_at`, the share
      of the training after which a hopeless trial was stopped. A search with several objectives
      learns from them.
  """

  reward: float
  metrics: Mapping[str, float | str] = dataclasses.field(default_factory=dict)


class TrialProgress(Protocol):
  """Receives the progress of an evaluation."""

  def report(self, share: float) -> None:
    """Reports the share of the trial that is done, in [0, 1]; cheap enough for every train step."""
    ...

  def is_hopeless(self, share: float, reward: float) -> bool:
    """Returns whether the trial should stop because other trials were better at the same share.

    Args:
      share: share of the training that is done, in (0, 1); all trials ask at the same shares.
      reward: reward that the trial would get now.
    """
    ...


class NullProgress:
  """Ignores progress and never stops a trial."""

  def report(self, share: float) -> None:
    del share

  def is_hopeless(self, share: float, reward: float) -> bool:
    del share, reward
    return False


class Evaluate(Protocol):
  """Trains an architecture and returns its reward."""

  def __call__(
    self, spec: PyramidSpec, trial_dir: Path, progress: TrialProgress, seed_offset: int = 0
  ) -> Evaluation:
    """Evaluates a trial.

    Args:
      spec: the architecture.
      trial_dir: the trial's directory.
      progress: receives the progress.
      seed_offset: is added to the seed of the training, so that a confirmation is another one.

    Raises:
      TrialFailed: the trial cannot give a reward.
      WorkerBroken: no trial could in this process.
      SearchBroken: no trial could in any.
    """
    ...


class TrialFailed(Exception):
  """Raised by an evaluation that cannot give a reward.

  Attributes:
    reason: reason of the failure, for people.
    diverged: whether the training diverged, so that the architecture is to blame. The search learns
      from diverged trials, but not from failures of machines.
  """

  def __init__(self, reason: str, diverged: bool = False):
    super().__init__(reason)
    self.reason = reason
    self.diverged = diverged


class WorkerBroken(UserError):
  """Raised by an evaluation whose process can evaluate nothing more, as where its GPU failed.

  The worker ends, as if it had died. Were it to go on, it would fail all trials that are left.
  """

  @property
  def reason(self) -> str:
    """What happened: the first sentence, in one line. What follows it is advice."""
    return " ".join(str(self).split()).partition(". ")[0].rstrip(".")


class SearchBroken(WorkerBroken):
  """Raised by an evaluation that fails whatever the architecture and the process.

  What all trials start from cannot be made as the recipe says. The search stops.
  """
