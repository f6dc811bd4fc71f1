"""Keeps worker processes running on this machine."""

import dataclasses
import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from official_nasfpn.disk import FileLock
from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.store.trial_store import TrialStore
from official_nasfpn.search.workers.trial_worker import (
  EXIT_LOST_TRIAL,
  EXIT_REPLACE_ME,
  EXIT_STORAGE,
)
from official_nasfpn.search.workers.worker_environment import worker_environment

# So many ends in a row without a trial say that the next start will end in the same way.
_MAX_FRUITLESS_ENDS = 3
# How long an earlier controller's workers may take to notice that it is gone.
_STOP_SECONDS = 10.0


@dataclasses.dataclass
class _Slot:
  """The place of one worker, which may die and be started again."""

  worker: str
  process: subprocess.Popen | None = None
  fruitless_ends: int = 0


class LocalLauncher:
  """Worker processes on this machine, which share its cores evenly."""

  def __init__(self, store: TrialStore, search_dir: Path, command: Sequence[str], num_workers: int):
    """Takes back the trials of workers that an earlier, killed search left behind.

    Args:
      store: of the search.
      search_dir: where the workers' logs and locks go.
      command: starts a worker; `--worker_id` and `--parent_pid` are added.
      num_workers: how many to run at the same time.
    """
    self._store = store
    self._search_dir = search_dir
    self._command = list(command)
    threads = max(len(os.sched_getaffinity(0)) // num_workers, 1)
    self._environment = {**os.environ, **worker_environment(threads), **store.environment}
    self._slots = [_Slot(f"worker-{index}") for index in range(num_workers)]
    storage.worker_log(search_dir, "any").parent.mkdir(exist_ok=True)
    workers = {slot.worker for slot in self._slots}
    # An earlier search may have had more of them. Workers with other names are not from here, and
    # go on whatever becomes of the controller.
    workers |= {name for name in store.running_workers() if re.fullmatch(r"worker-\d+", name)}
    for worker in sorted(workers):
      self._wait_until_gone(worker)
      self._store.release(worker, "the search was stopped", is_death=False)

  def poll(self, unfinished_trials: int) -> None:
    """Takes back what dead workers were running, and starts workers while trials are left.

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
    """Stops the workers; what they were running can be claimed again."""
    running = [slot for slot in self._slots if slot.process is not None]
    for slot in running:
      # Not asked but killed: a worker may die at any moment, and a busy one would not hear.
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
        # Ctrl-C is for the controller, which then stops its workers.
        start_new_session=True,
      )

  def _on_end(self, slot: _Slot, code: int) -> None:
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    # A worker that ends as it should holds no trial, so whatever it holds it has died of.
    reason = f"worker died ({how})"
    released = self._store.release(slot.worker, reason, is_death=code != EXIT_STORAGE)
    if code == EXIT_STORAGE:
      raise UserError(f"{slot.worker} cannot work. {self._log_end(slot.worker)}")
    fruitless = not released and code not in (EXIT_REPLACE_ME, EXIT_LOST_TRIAL)
    slot.fruitless_ends = slot.fruitless_ends + 1 if fruitless else 0
    if slot.fruitless_ends == _MAX_FRUITLESS_ENDS:
      raise UserError(
        f"{slot.worker} ended {_MAX_FRUITLESS_ENDS} times ({how}) without taking a trial. "
        f"{self._log_end(slot.worker)}"
      )

  def _log_end(self, worker: str) -> str:
    path = storage.worker_log(self._search_dir, worker)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    return f"The end of {path}:\n" + "\n".join(f"  {line}" for line in lines)

  def _wait_until_gone(self, worker: str) -> None:
    """Waits for an earlier search's worker to notice that its controller is gone."""
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
