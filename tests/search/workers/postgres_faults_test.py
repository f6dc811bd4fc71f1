"""Workers, controller and database are killed; a search in PostgreSQL has the same result."""

import random
import signal
import subprocess
import sys
import time

import pytest

from official_nasfpn.search import storage
from official_nasfpn.search.store.address import parse_url
from official_nasfpn.search.store.trial_store import TrialStore
from tests.search.workers import fault_tolerance_test as faults

pytestmark = pytest.mark.slow

WORKER = "--faults=3:diverged,8:exception --max_attempts=9"


@pytest.fixture(autouse=True)
def _end_of_what_was_started():
  yield
  while faults._started:
    faults.kill(faults._started.pop())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  """Returns the directory of an undisturbed search in SQLite."""
  search_dir = tmp_path_factory.mktemp("undisturbed")
  faults.run_search(search_dir, "--algorithm=ppo", worker=WORKER)
  return search_dir


def assert_same(search_dir, undisturbed):
  """Checks that trials and last snapshot are those of the undisturbed search."""
  trials = faults.read_trials(search_dir)
  expected = faults.read_trials(undisturbed)
  assert [faults.outcome(t) for t in trials] == [faults.outcome(t) for t in expected]
  assert faults.read_snapshot(search_dir) == faults.read_snapshot(undisturbed)
  for trial in trials:
    begun = faults.evaluations(search_dir).count(trial.number)
    if trial.state != "reused":
      assert 1 <= begun <= trial.attempt, trial


def test_an_undisturbed_search_ends_as_in_sqlite(undisturbed, postgres, tmp_path):
  url = postgres.new_database()
  faults.run_search(tmp_path, "--algorithm=ppo", f"--store={url}", worker=WORKER)
  assert storage.store_place(tmp_path) == parse_url(url)
  assert not storage.database_path(tmp_path).exists()
  assert {trial.attempt for trial in faults.read_trials(tmp_path) if trial.state == "done"} == {1}
  assert_same(tmp_path, undisturbed)


def test_kills_of_everything_change_nothing(undisturbed, postgres, tmp_path):
  rng = random.Random(0)
  arguments = ("--algorithm=ppo", f"--store={postgres.new_database()}")
  worker = f"{WORKER} --seconds=0.2"
  for _ in range(3):
    controller = faults.start_search(tmp_path, *arguments, worker=worker)
    before = len(faults.evaluations(tmp_path))
    faults.wait_for(
      lambda controller=controller, before=before: (
        controller.poll() is not None or len(faults.evaluations(tmp_path)) >= before + 3
      )
    )
    if pids := faults.worker_pids(tmp_path):
      faults._send(rng.choice(pids), signal.SIGKILL)
    postgres.kill()
    time.sleep(rng.uniform(0.2, 1.5))
    postgres.start()
    time.sleep(rng.uniform(0.2, 1.5))
    faults.kill(controller)
  faults.run_search(tmp_path, *arguments, worker=worker)
  assert_same(tmp_path, undisturbed)


def test_a_search_whose_database_goes_away_simply_waits(undisturbed, postgres, tmp_path):
  arguments = ("--algorithm=ppo", f"--store={postgres.new_database()}", "--lease_seconds=2")
  controller = faults.start_search(tmp_path, *arguments, worker=f"{WORKER} --seconds=0.2")
  for evaluated in (4, 9):
    faults.wait_for(lambda n=evaluated: len(faults.evaluations(tmp_path)) >= n)
    postgres.kill()
    # Longer than the lease.
    time.sleep(3)
    postgres.start()
  printed = faults.finish(controller)
  assert "does not answer" in printed
  assert "answers again" in printed
  assert "Traceback" not in printed
  # No worker died, so no trial was queued again although all leases expired.
  trials = faults.read_trials(tmp_path)
  assert {trial.deaths for trial in trials} == {0}
  assert sorted(faults.evaluations(tmp_path)) == [t.number for t in trials if t.state != "reused"]
  assert_same(tmp_path, undisturbed)


def test_workers_elsewhere_do_the_work_of_a_search(undisturbed, postgres, tmp_path):
  """Workers that share only the database with a search survive one of its controllers."""
  url = postgres.new_database()
  search_dir = tmp_path / "search"
  arguments = ("--algorithm=ppo", f"--store={url}")
  # The controller's own workers are busy with two trials for as long as it lives.
  controller = faults.start_search(search_dir, *arguments, worker=f"{WORKER} --seconds=9999")
  faults.wait_for(lambda: len(faults.evaluations(search_dir)) >= 2)
  elsewhere = tmp_path / "elsewhere"
  elsewhere.mkdir()
  command = [sys.executable, str(faults.SEARCH.with_name("closed_form_worker.py"))]
  command += [f"--search_dir={elsewhere}", "--worker_id=elsewhere-1", *WORKER.split()]
  storage.settle_store(elsewhere, url)
  with subprocess.Popen(
    [*command, "--seconds=0.3"],
    cwd=faults.ROOT,
    env=faults._environment(),
    stdout=subprocess.PIPE,
    text=True,
  ) as worker:
    try:
      faults.wait_for(lambda: len(faults.evaluations(elsewhere)) >= 2)
      faults.kill(controller)
      faults.run_search(search_dir, *arguments, worker=f"{WORKER} --seconds=0.3")
      assert worker.poll() is None
    finally:
      worker.kill()
  trials = faults.read_trials(search_dir)
  there = [trial for trial in trials if trial.worker == "elsewhere-1"]
  assert len(there) >= 2
  assert {trial.deaths for trial in there} == {0}
  expected = faults.read_trials(undisturbed)
  assert [faults.outcome(t) for t in trials] == [faults.outcome(t) for t in expected]
  assert faults.read_snapshot(search_dir) == faults.read_snapshot(undisturbed)


def test_a_second_controller_with_another_directory_is_refused(postgres, tmp_path):
  url = postgres.new_database()
  first = faults.start_search(tmp_path / "first", f"--store={url}", worker="--seconds=30")
  faults.wait_for(lambda: len(faults.evaluations(tmp_path / "first")) == 2)
  second = faults.start_search(tmp_path / "second", f"--store={url}")
  code, printed = faults.end_of(second)
  assert code == 1
  assert f"error: Another search, process {first.pid} on " in printed
  faults.kill(first)
  # Its lock is free, and the same search continues in another directory.
  store = TrialStore(url)
  with store.exclusive():
    assert store.counts().finished < store.counts().sampled
  store.close()
