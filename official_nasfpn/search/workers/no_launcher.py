"""The launcher for workers that are started elsewhere: by a batch system, Kubernetes or a shell."""

import sys
import time

from tqdm import tqdm

from official_nasfpn.search.store.trial_store import TrialStore

# How long trials wait for a worker before the command is printed again; the wait doubles each time.
_QUIET_SECONDS = 60.0
_LONGEST_QUIET_SECONDS = 3600.0
# If the search does not poll for longer than this, it is busy itself and no trial was waiting.
_PAUSE_SECONDS = 5.0


class NoLauncher:
  """Starts no workers; prints how to start one when no worker is seen."""

  def __init__(self, store: TrialStore, command: str, quiet_seconds: float = _QUIET_SECONDS):
    """Waits for workers.

    Args:
      store: trial store of the search.
      command: shell command that starts a worker.
      quiet_seconds: seconds without a worker after which the command is printed again.
    """
    self._store = store
    self.command = command
    self._shortest_quiet = self._quiet = quiet_seconds
    self._polled_at = self._quiet_since = time.monotonic()
    self._was_seen = False
    self._has_told = False

  def poll(self, unfinished_trials: int) -> None:
    """Prints the command: at once, and again whenever no worker has been seen for a while."""
    now = time.monotonic()
    if unfinished_trials == 0 or now - self._polled_at > _PAUSE_SECONDS:
      self._quiet_since = now
    self._polled_at = now
    if self._store.running_workers():
      self._quiet_since = now
      self._quiet = self._shortest_quiet
      self._was_seen = True
    elif unfinished_trials and not self._was_seen and not self._has_told:
      self._has_told = True
      self._say("The search waits for workers.")
    elif unfinished_trials and now - self._quiet_since >= self._quiet:
      self._say(f"No worker has been seen for {self._quiet:g} s.")
      self._quiet_since = now
      self._quiet = min(2 * self._quiet, _LONGEST_QUIET_SECONDS)

  def close(self) -> None:
    """Leaves the workers running: they wait until the search continues."""

  def _say(self, what: str) -> None:
    # Through tqdm, so that the line does not run into the progress bar.
    tqdm.write(f"{what} This starts one: {self.command}", file=sys.stderr)
    sys.stderr.flush()
