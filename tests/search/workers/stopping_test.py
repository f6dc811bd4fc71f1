"""Whoever is told to stop gives back what it has; only a process that vanishes counts as dead."""

import contextlib
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from official_nasfpn.search import storage
from official_nasfpn.search.fingerprint import code_fingerprint
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.store.trial_store import NewTrial, TrialStore
from official_nasfpn.search.workers import ray_actor
from official_nasfpn.search.workers.evaluation import WorkerBroken
from official_nasfpn.search.workers.stop_signals import EXIT_STOPPED, STOP_SECONDS
from official_nasfpn.search.workers.trial_worker import run_worker
from tests.program_process import ProgramProcess
from tests.search.workers.fault_tolerance_test import (
  PATIENCE_SECONDS,
  ROOT,
  evaluations,
  finish,
  kill,
  read_trials,
  run_search,
  start_search,
  wait_for,
  worker_pids,
)

ARCHITECTURE = (
  "PyramidSpec.cells = (((0, 1), 3, 'sum'), ((0, 1), 4, 'sum'))\n"
  "PyramidSpec.min_level = 3\nPyramidSpec.max_level = 4\n"
)


@pytest.fixture
def store(tmp_path):
  """Returns the store of a search that has begun, with two trials."""
  recipe = read_recipe()
  with contextlib.closing(TrialStore(storage.database_path(tmp_path))) as opened:
    opened.create()
    opened.begin(recipe.to_gin(), recipe.version, code_fingerprint())
    opened.propose([NewTrial(n, 1, (), (), f"hash {n}", ARCHITECTURE) for n in (1, 2)])
    yield opened


@pytest.fixture
def start_worker(tmp_path, store):
  started = []

  def start(*arguments: str) -> ProgramProcess:
    started.append(
      ProgramProcess(
        "tests.search.workers.closed_form_worker",
        [f"--search_dir={tmp_path}", "--worker_id=by-hand", *arguments],
      )
    )
    return started[-1]

  yield start
  for process in started:
    kill(process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("evaluation", ["--seconds=9999", "--faults=1:deaf"])
def test_a_stopped_worker_hands_its_trial_back(tmp_path, store, start_worker, number, evaluation):
  worker = start_worker(evaluation)
  wait_for(lambda: (tmp_path / "trials" / "000001").is_dir() and evaluations(tmp_path) == [1])
  time.sleep(0.2)
  os.kill(worker.pid, number)
  assert worker.wait(PATIENCE_SECONDS) == 128 + number
  name = signal.Signals(number).name
  assert worker.stdout.splitlines()[1:] == [f"stopped by {name}: trial 1 was handed back"]
  assert worker.stderr == ""
  trial = store.trials()[0]
  assert (trial.state, trial.attempt, trial.deaths) == ("queued", 1, 0)
  assert trial.failure == "the worker was stopped"
  assert (store.claim("another").number, store.trials()[0].attempt) == (1, 2)


def test_a_worker_without_a_trial_ends_as_well(tmp_path, store, start_worker):
  for _ in range(2):
    store.claim(f"another {_}")
  worker = start_worker()
  wait_for(lambda: storage.worker_lock(tmp_path, "by-hand").exists())
  time.sleep(0.5)
  os.kill(worker.pid, signal.SIGTERM)
  assert worker.wait(PATIENCE_SECONDS) == 143
  assert worker.stdout == "stopped by SIGTERM: no trial was running\n"


def test_a_store_that_does_not_answer_holds_nobody_up(tmp_path, start_worker):
  worker = start_worker("--seconds=9999", "--stop_seconds=1")
  wait_for(lambda: evaluations(tmp_path) == [1])
  with contextlib.closing(sqlite3.connect(storage.database_path(tmp_path))) as other:
    other.execute("BEGIN IMMEDIATE")
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait(PATIENCE_SECONDS) == 143
  assert "stopped by SIGTERM: the trial store does not answer" in worker.stdout


@pytest.mark.slow
def test_a_stopped_worker_of_a_search_is_replaced_and_its_trial_loses_nothing(tmp_path):
  go_on = tmp_path / "go_on"
  search = start_search(tmp_path, "--num_trials=4", worker=f"--until={go_on}")
  for _ in range(4):  # More often than `Search.max_attempts`, and than fruitless ends are borne.
    wait_for(lambda: len(worker_pids(tmp_path)) == 2)
    wait_for(lambda: len([t for t in read_trials(tmp_path) if t.state == "running"]) == 2)
    pid = max(worker_pids(tmp_path))
    wait_for(lambda pid=pid: f" {pid}\n" in (tmp_path / "evaluations.txt").read_text())
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda pid=pid: pid not in worker_pids(tmp_path))
  go_on.touch()
  finish(search)
  trials = read_trials(tmp_path)
  assert {trial.deaths for trial in trials} == {0}
  assert {trial.state for trial in trials} <= {"done", "reused"}
  assert sum(trial.attempt - 1 for trial in trials if trial.state == "done") == 4


@pytest.mark.slow
def test_trials_that_failed_by_deaths_are_tried_again_when_more_are_allowed(tmp_path):
  faults = "--faults=2:kill,3:exception,4:diverged"
  first = finish(start_search(tmp_path, "--num_trials=6", worker=faults))
  assert "worker-" in first
  assert "died (signal 9) and is replaced; its trial is tried again. If nobody has killed" in first
  assert first.count("for want of memory") == 1
  before = read_trials(tmp_path)
  assert (before[1].state, before[1].deaths) == ("failed", 3)
  run_search(tmp_path, "--num_trials=6")
  assert read_trials(tmp_path) == before
  printed = finish(start_search(tmp_path, "--num_trials=6", "--max_attempts=4"))
  assert "1 trial that failed because workers died: tried again, as Search.max_attempts" in printed
  after = read_trials(tmp_path)
  assert (after[1].state, after[1].attempt, after[1].deaths) == ("done", 4, 3)
  assert after[1].learnt_in == 2
  assert [*after[:1], *after[2:]] == [*before[:1], *before[2:]]


def test_deaths_by_a_lost_gpu_are_tried_again_too(tmp_path, store):
  def evaluate(spec, trial_dir, progress, seed_offset=0):
    # As `training.lost_gpu` says it.
    raise WorkerBroken(
      "The GPU failed while it computed (CUDA_ERROR_LAUNCH_FAILED). This worker ends, and its "
      "trial is tried again. If it fails again, `nvidia-smi` says whether the card is broken."
    )

  def opened(max_attempts: int) -> contextlib.closing:
    place = storage.database_path(tmp_path)
    return contextlib.closing(TrialStore(place, max_attempts=max_attempts))

  with opened(1) as once, pytest.raises(WorkerBroken):
    run_worker(once, tmp_path, evaluate, "a", read_recipe().version)
  failed = store.trials()[0]
  assert (failed.state, failed.deaths) == ("failed", 1)
  assert failed.failure == (
    "worker gave up: The GPU failed while it computed (CUDA_ERROR_LAUNCH_FAILED), 1 attempt"
  )
  with opened(2) as twice:
    assert twice.retry_dead() == 1


def test_a_death_whose_reason_could_not_be_found_again_is_refused(store):
  store.claim("a")
  with pytest.raises(ValueError, match="the reason of a death begins with 'worker '"):
    store.release("a", "The GPU failed")


def test_a_reused_trial_is_learnt_from_again_with_its_original(tmp_path):
  with contextlib.closing(TrialStore(tmp_path / "search.db", max_attempts=1)) as store:
    store.create()
    store.propose([NewTrial(n, 1, (), (), "same", "") for n in (1, 2)])
    store.claim("a")
    store.release("a", "worker died (signal 9)")
    store.mark_learnt(1, [1, 2], b"", {})
    assert store.retry_dead() == 0
  with contextlib.closing(TrialStore(tmp_path / "search.db", max_attempts=2)) as store:
    assert store.retry_dead() == 1
    assert store.retry_dead() == 0
    assert [(t.state, t.learnt_in, t.is_finished) for t in store.trials()] == [
      ("queued", None, False),
      ("reused", None, False),
    ]
    counts = store.counts()
    assert (counts.sampled, counts.finished, counts.learnt) == (2, 0, 0)


# Runs an actor outside Ray, which raises `SystemExit` in it at SIGTERM.
_ACTOR = """
import importlib.util, signal, sys
spec = importlib.util.spec_from_file_location("ray_actor", sys.argv[1])
ray_actor = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ray_actor)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
ray_actor.WorkerActor("w", ["-c", sys.argv[2], sys.argv[3]], {}).run()
"""
_WORKER = """
import pathlib, signal, sys, time
def stop(*_):
  time.sleep(0.3)
  pathlib.Path(sys.argv[1]).write_text("handed back")
  sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print("works", flush=True)
time.sleep(60)
"""


def start_actor(said: Path) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, "-c", _ACTOR, ray_actor.__file__, _WORKER, str(said)],
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
    start_new_session=True,
  )


def test_an_actor_that_ray_stops_has_its_worker_stop_first(tmp_path):
  with start_actor(tmp_path / "said") as actor:
    assert actor.stdout.readline() == "works\n"
    actor.terminate()
    assert actor.wait(PATIENCE_SECONDS) == 1
  assert (tmp_path / "said").read_text() == "handed back"


def test_what_ray_sends_after_a_killed_actor_does_not_stop_its_worker(tmp_path):
  said = tmp_path / "said"
  with start_actor(said) as actor:
    assert actor.stdout.readline() == "works\n"
    [worker] = Path(f"/proc/{actor.pid}/task/{actor.pid}/children").read_text().split()
    actor.kill()
    # A dead leader's group lives as long as it has members.
    with contextlib.suppress(ProcessLookupError):
      os.killpg(actor.pid, signal.SIGTERM)
    time.sleep(0.5)
    os.kill(int(worker), signal.SIGKILL)
  assert not said.exists()


def test_the_examples_wait_longer_than_a_worker_needs():
  (job,) = yaml.safe_load_all((ROOT / "scripts" / "kubernetes_workers.yaml").read_text())
  assert job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > STOP_SECONDS


def _commands() -> dict[str, list[str]]:
  (job,) = yaml.safe_load_all((ROOT / "scripts" / "kubernetes_workers.yaml").read_text())
  (container,) = job["spec"]["template"]["spec"]["containers"]
  slurm = ["bash", str(ROOT / "scripts" / "slurm_workers.sbatch")]
  return {"kubernetes": [*container["command"], *container["args"]], "slurm": slurm}


@pytest.mark.parametrize("which", ["kubernetes", "slurm"])
def test_a_signal_to_the_example_reaches_its_worker(tmp_path, which):
  python = tmp_path / ".venv" / "bin" / "python"
  python.parent.mkdir(parents=True)
  python.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c '{_WORKER}' said\n")
  python.chmod(0o755)
  environment = {**os.environ, "STORE_URL": "x", "NASFPN_DIR": str(tmp_path)}
  with subprocess.Popen(
    _commands()[which], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
  ) as script:
    assert script.stdout.readline() == "works\n"
    script.terminate()
    assert script.wait(PATIENCE_SECONDS) in EXIT_STOPPED
  assert Path(tmp_path / "said").read_text() == "handed back"
