"""What provides workers: the seam between a search and the machines that it runs on."""

from typing import Protocol


class Launcher(Protocol):
  """Provides workers for a search."""

  def poll(self, unfinished_trials: int) -> None:
    """Keeps enough workers running for the unfinished trials; called a few times a second."""
    ...

  def close(self) -> None:
    """Ends every worker that it started."""
    ...
