"""The seam between a search and whatever keeps its workers running."""

from collections.abc import Callable
from typing import Protocol

from official_nasfpn.search.store.trial_store import TrialStore


class Launcher(Protocol):
  """Provides workers for a search."""

  def tend(self, unfinished_trials: int) -> None:
    """Keeps enough workers running for so many trials; called a few times a second."""
    ...

  def close(self) -> None:
    """Ends every worker that it started."""
    ...


MakeLauncher = Callable[[TrialStore], Launcher]
