"""For workers that something else starts: a batch system, Kubernetes, a shell on each machine."""

import sys
import time

from tqdm import tqdm

from official_nasfpn.search.store.trial_store import TrialStore

# Trials wait for so long before a person is told that nobody works on them.
_QUIET_SECONDS = 20.0
# The search itself is busy when it does not ask for longer than this: nobody was waiting.
_PAUSE_SECONDS = 5.0


class NoLauncher:
  """Starts no workers, and says how to start one when none is seen."""

  def __init__(self, store: TrialStore, command: str, quiet_seconds: float = _QUIET_SECONDS):
    """Waits for workers.

    Args:
      store: of the search.
      command: of a shell, that starts a worker.
      quiet_seconds: how long no worker may be seen before the command is printed.
    """
    self._store = store
    self.command = command
    self._quiet_seconds = quiet_seconds
    self._tended_at = self._quiet_since = time.monotonic()
    self._has_told = False

  def tend(self, unfinished_trials: int) -> None:
    """Prints the command, once each time that the last worker has gone for a while."""
    now = time.monotonic()
    if unfinished_trials == 0 or now - self._tended_at > _PAUSE_SECONDS:
      self._quiet_since = now
    self._tended_at = now
    if self._store.running_workers():
      self._quiet_since = now
      self._has_told = False
    elif not self._has_told and now - self._quiet_since >= self._quiet_seconds:
      self._has_told = True
      # Through tqdm, so that it does not run into the progress bar.
      tqdm.write(
        f"No worker has been seen for {self._quiet_seconds:g} s. This starts one: {self.command}",
        file=sys.stderr,
      )

  def close(self) -> None:
    """Leaves the workers alone: they wait for the search to go on."""
