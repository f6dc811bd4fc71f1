"""The launcher that runs worker processes on this machine."""

import dataclasses
import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from official_nasfpn.disk import FileLock, end_of_log
from official_nasfpn.errors import UserError
from official_nasfpn.progress import say
from official_nasfpn.search import storage
from official_nasfpn.search.store.trial_store import TrialStore
from official_nasfpn.search.workers.launcher import hint_of, worker_environment
from official_nasfpn.search.workers.stop_signals import EXIT_STOPPED
from official_nasfpn.search.workers.trial_worker import (
  EXIT_LOST_TRIAL,
  EXIT_REPLACE_ME,
  EXIT_SEARCH_BROKEN,
  EXIT_STORAGE,
)

# If a worker exits this many times in a row without a trial, the search stops. More often than a
# trial is tried by default: one that breaks every worker fails, and costs no more than itself.
_MAX_FRUITLESS_ENDS = 4
# How long the workers of an earlier controller may take to notice that it is gone.
_STOP_SECONDS = 10.0


@dataclasses.dataclass
class _Slot:
  """One worker of the pool; if its process dies, a new one takes its place."""

  worker: str
  process: subprocess.Popen | None = None
  fruitless_ends: int = 0


class LocalLauncher:
  """Runs worker processes on this machine, which share its cores evenly."""

  def __init__(self, store: TrialStore, search_dir: Path, command: Sequence[str], num_workers: int):
    """Queues the trials of workers that an earlier, killed search left behind.

    Args:
      store: trial store of the search.
      search_dir: directory for the workers' logs and locks.
      command: command that starts a worker; `--worker_id` and `--parent_pid` are added.
      num_workers: number of workers that run at the same time.

    Raises:
      UserError: a worker of an earlier search is still running.
    """
    self._store = store
    self._search_dir = search_dir
    self._command = list(command)
    self._has_hinted = False
    threads = max(len(os.sched_getaffinity(0)) // num_workers, 1)
    self._environment = {**os.environ, **worker_environment(threads), **store.environment}
    self._slots = [_Slot(f"worker-{index}") for index in range(num_workers)]
    storage.worker_log(search_dir, "any").parent.mkdir(exist_ok=True)
    workers = {slot.worker for slot in self._slots}
    # An earlier search may have had more workers. Workers with other names run elsewhere, and
    # continue when a controller ends.
    workers |= {name for name in store.running_workers() if re.fullmatch(r"worker-\d+", name)}
    for worker in sorted(workers):
      self._wait_until_gone(worker)
      self._store.release(worker, "the search was stopped", is_death=False)

  def poll(self, unfinished_trials: int) -> None:
    """Queues the trials of dead workers, and starts workers while trials are left.

    Raises:
      UserError: workers cannot start, or cannot write.
    """
    for slot in self._slots:
      if slot.process is not None and slot.process.poll() is not None:
        self._on_end(slot, slot.process.returncode)
        slot.process = None
    alive = sum(slot.process is not None for slot in self._slots)
    for slot in self._slots:
      if slot.process is None and alive < unfinished_trials:
        slot.process = self._start(slot.worker)
        alive += 1

  def close(self) -> None:
    """Stops the workers; their trials can be claimed again."""
    running = [slot for slot in self._slots if slot.process is not None]
    for slot in running:
      # A busy worker would not react to a request, and any worker may die at any moment.
      slot.process.kill()
    for slot in running:
      slot.process.wait()
      slot.process = None
      self._store.release(slot.worker, "the search was stopped", is_death=False)

  def _start(self, worker: str) -> subprocess.Popen:
    command = [
      *self._command,
      f"--worker_id={worker}",
      f"--parent_pid={os.getpid()}",
    ]
    with open(storage.worker_log(self._search_dir, worker), "ab") as log:
      return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=self._environment,
        # Ctrl-C must reach only the controller, which then stops its workers.
        start_new_session=True,
      )

  def _on_end(self, slot: _Slot, code: int) -> None:
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    # A worker that ends properly holds no trial. If it holds one, it died while it ran that trial.
    reason = f"worker died ({how})"
    released = self._store.release(slot.worker, reason, is_death=code != EXIT_STORAGE)
    if code in (EXIT_STORAGE, EXIT_SEARCH_BROKEN):
      raise UserError(f"{slot.worker} cannot work. {self._log_end(slot.worker)}")
    if released and not self._has_hinted and (hint := hint_of(reason)):
      self._has_hinted = True
      say(f"{slot.worker} died ({how}) and is replaced; its trial is tried again. {hint}")
    fruitless = not released and code not in (EXIT_REPLACE_ME, EXIT_LOST_TRIAL, *EXIT_STOPPED)
    slot.fruitless_ends = slot.fruitless_ends + 1 if fruitless else 0
    if slot.fruitless_ends == _MAX_FRUITLESS_ENDS:
      raise UserError(
        f"{slot.worker} ended {_MAX_FRUITLESS_ENDS} times ({how}) without finishing a trial. "
        f"{self._log_end(slot.worker)}"
      )

  def _log_end(self, worker: str) -> str:
    return end_of_log(storage.worker_log(self._search_dir, worker))

  def _wait_until_gone(self, worker: str) -> None:
    """Waits until a worker of an earlier search has noticed that its controller is gone."""
    lock = FileLock(storage.worker_lock(self._search_dir, worker))
    deadline = time.monotonic() + _STOP_SECONDS
    while not lock.acquire():
      if time.monotonic() > deadline:
        raise UserError(
          f"{worker} of {self._search_dir} is still running, as process {lock.holder()}; "
          "stop it, then start the same command again."
        )
      time.sleep(0.1)
    lock.release()
