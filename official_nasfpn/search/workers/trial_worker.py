"""The worker: claims trials, evaluates them one after the other, and reports the results.

This module does not import TensorFlow; `evaluate` does so when it trains a network.
"""

import math
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import sqlalchemy as sa

from official_nasfpn import architecture
from official_nasfpn.disk import FileLock, disk_problem, write_text
from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.fingerprint import code_fingerprint
from official_nasfpn.search.store.trial import Trial
from official_nasfpn.search.store.trial_store import TrialStore
from official_nasfpn.search.workers.evaluation import (
  Evaluate,
  SearchBroken,
  TrialFailed,
  WorkerBroken,
)
from official_nasfpn.search.workers.stop_signals import StopSignals

IsHopeless = Callable[[float, Sequence[float]], bool]

# Exit codes of a worker for its launcher; any other code is a crash.
EXIT_REPLACE_ME = 0
EXIT_LOST_TRIAL = 70
EXIT_STORAGE = 74  # EX_IOERR of sysexits.h
EXIT_SEARCH_BROKEN = 78  # EX_CONFIG

_POLL_SECONDS = 0.2
_LONGEST_POLL_SECONDS = 60.0
_PROGRESS_STEP = 0.05


def run_worker(
  store: TrialStore,
  work_dir: Path,
  evaluate: Evaluate,
  worker_id: str,
  recipe_version: str,
  trials_per_worker: int = 0,
  parent_pid: int | None = None,
  is_hopeless: IsHopeless = lambda reward, others: False,
  stop_signals: StopSignals | None = None,
) -> int:
  """Evaluates trials until it is stopped, or has done `trials_per_worker` of them.

  Args:
    store: trial store of the search.
    work_dir: directory for the trials' files: the search directory, or any other.
    evaluate: trains an architecture and returns its reward.
    worker_id: name of the worker; only one process at a time may use it.
    recipe_version: version of the recipe that `evaluate` follows.
    trials_per_worker: number of trials after which the worker ends; 0 for no end.
    parent_pid: process id of the parent. If the parent changes, the worker ends at once.
    is_hopeless: early stopping rule. It takes the reward that a trial would get now and the rewards
      of other trials at the same share of their training, and returns whether the trial stops.
    stop_signals: hands the running trial back at SIGTERM and SIGINT, not counted against it.

  Returns:
    The exit code that tells a launcher why the worker ended.

  Raises:
    UserError: the store holds no search, the search has another recipe or other code, or the name
      is in use.
  """
  storage.worker_lock(work_dir, worker_id).parent.mkdir(parents=True, exist_ok=True)
  lock = FileLock(storage.worker_lock(work_dir, worker_id))
  if not lock.acquire():
    raise UserError(f"{worker_id} of {work_dir} is already running, as process {lock.holder()}.")
  if parent_pid is not None:
    threading.Thread(target=_end_with_parent, args=(parent_pid,), daemon=True).start()
  heartbeat = _Heartbeat(store)
  if stop_signals is not None:
    stop_signals.before_exit(lambda: heartbeat.hand_back("the worker was stopped"))
  try:
    store.join(worker_id, recipe_version, code_fingerprint())
    heartbeat.start()
    trials_done = 0
    idle_since = time.monotonic()
    while trials_per_worker == 0 or trials_done < trials_per_worker:
      trial = heartbeat.claim(worker_id)
      if trial is None:
        time.sleep(pause_seconds(time.monotonic() - idle_since))
        continue
      directory = storage.trial_dir(work_dir, trial.number)
      progress = _Progress(store, trial, heartbeat, is_hopeless)
      _run_trial(store, trial, directory, evaluate, progress, heartbeat)
      trials_done += 1
      idle_since = time.monotonic()
    return EXIT_REPLACE_ME
  except WorkerBroken as error:
    heartbeat.give_up(f"worker gave up: {error.reason}")
    if not isinstance(error, SearchBroken):
      raise
    print(f"cannot go on: {error}", flush=True)
    return EXIT_SEARCH_BROKEN
  except Exception as error:
    problem = disk_problem(error)
    if problem is None:
      raise
    handed_back = heartbeat.hand_back(f"the worker could not write: {problem}")
    print(f"cannot go on: {problem}{f'; {handed_back}' if handed_back else ''}", flush=True)
    return EXIT_STORAGE
  finally:
    heartbeat.stop()
    lock.release()


def pause_seconds(idle_seconds: float) -> float:
  """Returns how long a worker without a trial waits before it asks the store again.

  The pause grows with the idle time, so that a thousand workers that wait for hours do not keep the
  database busy. It stays a small part of the idle time, so that little time is lost.

  Args:
    idle_seconds: seconds since the worker's last trial.
  """
  return min(max(_POLL_SECONDS, idle_seconds / 10), _LONGEST_POLL_SECONDS)


def _end_with_parent(parent_pid: int) -> None:
  """Ends this process when its parent is gone."""
  while os.getppid() == parent_pid:
    time.sleep(_POLL_SECONDS)
  # The main thread may be inside TensorFlow: only this ends the process at once.
  os._exit(EXIT_LOST_TRIAL)


def _run_trial(
  store: TrialStore,
  trial: Trial,
  directory: Path,
  evaluate: Evaluate,
  progress: "_Progress",
  heartbeat: "_Heartbeat",
) -> None:
  """Evaluates one trial and reports its reward or failure."""
  what = f" (confirms trial {trial.confirms})" if trial.confirms is not None else ""
  name = f"trial {trial.number}{what}, attempt {trial.attempt}"
  print(f"{name}: started", flush=True)
  directory.mkdir(parents=True, exist_ok=True)
  try:
    spec = architecture.from_gin(trial.architecture, where=f"trial {trial.number}")
    evaluation = evaluate(spec, directory, progress, trial.seed_offset)
    if not math.isfinite(evaluation.reward):
      raise TrialFailed(f"its reward is {evaluation.reward}")
  except WorkerBroken:
    raise
  except Exception as error:
    if disk_problem(error):
      raise
    write_text(directory / "failure.txt", traceback.format_exc())
    reason, diverged = _reason(error), getattr(error, "diverged", False)
    accepted = heartbeat.end(
      lambda: store.report_failure(trial.number, trial.attempt, reason, diverged)
    )
    outcome = f"failed: {reason}"
  else:
    reward, metrics = float(evaluation.reward), evaluation.metrics
    accepted = heartbeat.end(
      lambda: store.report_reward(trial.number, trial.attempt, reward, metrics)
    )
    stopped = f", stopped at {metrics['stopped_at']:.0%}" if "stopped_at" in metrics else ""
    outcome = f"reward {reward:.6g}{stopped}"
  late = "" if accepted else " (too late: the trial was lost)"
  print(f"{name}: {outcome}{late}", flush=True)


def _reason(error: Exception) -> str:
  if isinstance(error, TrialFailed):
    return error.reason
  first_line = str(error).strip().partition("\n")[0]
  return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__


class _Progress:
  """The `TrialProgress` of a running trial."""

  def __init__(
    self, store: TrialStore, trial: Trial, heartbeat: "_Heartbeat", is_hopeless: IsHopeless
  ):
    self._store = store
    self._trial = trial
    self._heartbeat = heartbeat
    self._is_hopeless = is_hopeless

  def report(self, share: float) -> None:
    self._heartbeat.report_progress(share)

  def is_hopeless(self, share: float, reward: float) -> bool:
    if self._trial.confirms is not None:
      # A mean over seeds is of whole trainings, and no trial is to be measured by the best alone.
      return False
    others = self._store.measure(self._trial.number, self._trial.attempt, share, reward)
    return self._is_hopeless(reward, others)


class _Heartbeat(threading.Thread):
  """Has the running trial: renews its lease, hands it back, ends the process if it is lost."""

  def __init__(self, store: TrialStore):
    super().__init__(daemon=True, name="heartbeat")
    self._store = store
    # Held while the store is asked to give, renew or take back the trial: whoever has it knows
    # which trial this worker has.
    self._lock = threading.Lock()
    self._trial: Trial | None = None
    self._progress = 0.0
    self._renewed_at = 0.0
    self._renewed_progress = 0.0
    self._stopped = threading.Event()

  def claim(self, worker: str) -> Trial | None:
    """Returns a trial that `end` or `hand_back` must follow; None if there is none."""
    with self._lock:
      self._trial = self._store.claim(worker)
      self._progress = self._renewed_progress = 0.0
      self._renewed_at = time.monotonic()
      return self._trial

  def end(self, report: Callable[[], bool]) -> bool:
    """Reports the result of the trial, and stops renewing its lease."""
    with self._lock:
      accepted = report()
      self._trial = None
      return accepted

  def hand_back(self, reason: str) -> str | None:
    """Gives the trial to another worker; this one can have none any more.

    Args:
      reason: for people.

    Returns:
      What happened, in words; None without a trial.
    """
    self._lock.acquire()  # For good.
    if self._trial is None or not self._store.hand_back(
      self._trial.number, self._trial.attempt, reason
    ):
      return None
    return f"trial {self._trial.number} was handed back"

  def give_up(self, reason: str) -> None:
    """Gives the trial to another worker, and counts as dead; this one can have none any more.

    Args:
      reason: for people; as that of every death it begins with `worker`.
    """
    self._lock.acquire()  # For good.
    if self._trial is not None and self._trial.worker is not None:
      self._store.release(self._trial.worker, reason)

  def stop(self) -> None:
    self._stopped.set()

  def report_progress(self, fraction: float) -> None:
    """Sets the progress of the running trial, in [0, 1]; cheap enough for every train step."""
    self._progress = min(max(float(fraction), 0.0), 1.0)

  def run(self) -> None:
    while not self._stopped.wait(_POLL_SECONDS):
      with self._lock:
        if self._trial is not None and self._is_due() and not self._renew(self._trial):
          print("the trial was given to another worker: stopping", flush=True)
          os._exit(EXIT_LOST_TRIAL)

  def _is_due(self) -> bool:
    # Four renewals per lease, so that one or two may be late; more only to show progress.
    late = time.monotonic() - self._renewed_at >= self._store.lease_seconds / 4
    return late or self._progress - self._renewed_progress >= _PROGRESS_STEP

  def _renew(self, trial: Trial) -> bool:
    try:
      owned = self._store.renew(trial.number, trial.attempt, self._progress)
    except (sa.exc.DBAPIError, UserError) as error:
      # A later renewal may still be in time. If none is, reporting the result raises the error.
      print(f"could not renew the lease: {getattr(error, 'orig', error)}", flush=True)
      return True
    self._renewed_at = time.monotonic()
    self._renewed_progress = self._progress
    return owned
