"""Whatever is killed at any time, the same command continues the search with the same result."""

import contextlib
import itertools
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.report import found
from official_nasfpn.search.store.trial_store import Trial, TrialStore
from tests.program_process import ProgramProcess

SEARCH = Path(__file__).with_name("closed_form_search.py")
ROOT = SEARCH.parents[3]


# Generous, because the machine may be busy: tests check that things happen, not how fast.
PATIENCE_SECONDS = 240

_started: list[ProgramProcess] = []


@pytest.fixture(autouse=True)
def _end_of_what_was_started():
  yield
  while _started:
    kill(_started.pop())


def start_search(search_dir: Path, *arguments: str, worker: str = "") -> ProgramProcess:
  process = ProgramProcess(
    "tests.search.workers.closed_form_search",
    [search_dir, *arguments, f"--worker={worker}"],
    environment=_environment(),
  )
  _started.append(process)
  return process


def end_of(search: ProgramProcess) -> tuple[int, str]:
  """Waits for the end of a search; returns its exit code and its messages."""
  return search.wait(PATIENCE_SECONDS), search.stderr


def finish(search: ProgramProcess) -> str:
  """Waits for the end of a search, which must succeed; returns its output."""
  code, printed = end_of(search)
  assert code == 0, printed
  return printed


def run_search(search_dir: Path, *arguments: str, worker: str = "") -> None:
  """Runs a search to its end; it must succeed."""
  finish(start_search(search_dir, *arguments, worker=worker))


def kill(process: ProgramProcess) -> None:
  process.kill()
  process.wait(PATIENCE_SECONDS)


def read_trials(search_dir: Path) -> list[Trial]:
  try:
    return found.read_trials(search_dir)
  except UserError:  # The search has not started yet.
    return []


def read_snapshot(search_dir: Path) -> tuple[int, bytes]:
  store = TrialStore(storage.store_place(search_dir))
  try:
    return store.latest_snapshot()
  finally:
    store.close()


def outcome(trial: Trial) -> tuple:
  """Returns the attributes of a trial that must not depend on interruptions."""
  return (
    *(trial.number, trial.update, trial.choices, trial.log_probs, trial.architecture_hash),
    *(trial.architecture.partition("\n")[2], trial.state, trial.reused_from, trial.reward),
    *(trial.failure, trial.diverged),
  )


def evaluations(search_dir: Path) -> list[int]:
  """Returns the numbers of the trials whose evaluation was started, in order."""
  path = search_dir / "evaluations.txt"
  return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def worker_pids(search_dir: Path) -> list[int]:
  """Returns the process ids of a search's living workers."""
  pids = []
  for path in Path("/proc").glob("[0-9]*/cmdline"):
    try:
      arguments = path.read_bytes().decode().split("\0")
    except OSError:
      continue
    if f"--search_dir={search_dir}" in arguments:
      pids.append(int(path.parent.name))
  return pids


def wait_for(condition, seconds: float = PATIENCE_SECONDS) -> None:
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline, "it did not happen in time"
    time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
  search_dir = tmp_path_factory.mktemp("search")
  run_search(search_dir, worker="--faults=3:diverged,8:exception")
  return search_dir


def test_an_undisturbed_search_evaluates_each_architecture_once(undisturbed):
  trials = read_trials(undisturbed)
  assert [trial.number for trial in trials] == list(range(1, 25))
  assert [trial.update for trial in trials] == [1] * 6 + [2] * 6 + [3] * 6 + [4] * 6
  assert {trial.state for trial in trials} == {"done", "failed", "reused"}
  evaluated = [trial.number for trial in trials if trial.state != "reused"]
  assert sorted(evaluations(undisturbed)) == evaluated
  hashes = [trial.architecture_hash for trial in trials if trial.state != "reused"]
  assert len(set(hashes)) == len(hashes)
  for trial in trials:
    file = storage.trial_dir(undisturbed, trial.number) / "architecture.gin"
    assert file.read_text() == trial.architecture


def test_a_finished_search_does_nothing_more(undisturbed):
  before = (read_trials(undisturbed), evaluations(undisturbed))
  run_search(undisturbed)
  assert (read_trials(undisturbed), evaluations(undisturbed)) == before


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_kills_at_random_moments_change_nothing(undisturbed, tmp_path, seed):
  rng = random.Random(seed)
  worker = "--faults=3:diverged,8:exception --seconds=0.05 --max_attempts=9"
  for _ in range(4):
    controller = start_search(tmp_path, worker=worker)
    for _ in range(3):
      time.sleep(rng.uniform(0.1, 0.9))
      if pids := worker_pids(tmp_path):
        _send(rng.choice(pids), signal.SIGKILL)
    finished = {t.number: t for t in read_trials(tmp_path) if t.state in ("done", "failed")}
    kill(controller)
    # Recorded results do not change.
    for trial in read_trials(tmp_path):
      if trial.number in finished:
        assert trial == finished[trial.number]
  run_search(tmp_path, worker=worker)
  trials = read_trials(tmp_path)
  assert [outcome(t) for t in trials] == [outcome(t) for t in read_trials(undisturbed)]
  assert read_snapshot(tmp_path) == read_snapshot(undisturbed)
  # An evaluation is repeated only because an attempt was lost.
  begun = evaluations(tmp_path)
  for trial in trials:
    if trial.state != "reused":
      assert 1 <= begun.count(trial.number) <= trial.attempt
  assert worker_pids(tmp_path) == []


@pytest.mark.slow
def test_with_more_in_flight_each_trial_is_learnt_from_once_whatever_is_killed(tmp_path):
  rng = random.Random(2)
  arguments = ("--algorithm=evolution", "--trials_in_flight=14", "--num_trials=40")
  worker = "--faults=3:diverged,8:exception --seconds=0.05 --max_attempts=9"
  for _ in range(3):
    controller = start_search(tmp_path, *arguments, worker=worker)
    time.sleep(rng.uniform(0.5, 2.0))
    if pids := worker_pids(tmp_path):
      _send(rng.choice(pids), signal.SIGKILL)
    kill(controller)
  run_search(tmp_path, *arguments, worker=worker)
  trials = read_trials(tmp_path)
  assert [trial.number for trial in trials] == list(range(1, 41))
  assert all(trial.is_finished for trial in trials)
  learnt = [[t.number for t in trials if t.learnt_in == update] for update in range(1, 8)]
  assert [len(numbers) for numbers in learnt] == [6, 6, 6, 6, 6, 6, 4]
  assert sorted(itertools.chain(*learnt)) == list(range(1, 41))
  assert read_snapshot(tmp_path)[0] == 7
  # Trials are learnt from in the order of their results. Reused trials are left out: they have the
  # time of their original's result, which may be earlier than their proposal.
  trained = {trial.number: trial.finished_at for trial in trials if trial.state != "reused"}
  ends = [[trained[number] for number in numbers if number in trained] for numbers in learnt]
  for earlier, later in itertools.pairwise(filter(None, ends)):
    assert max(earlier) <= max(later)


@pytest.mark.slow
def test_confirmations_survive_kills_as_trials_do(tmp_path):
  rng = random.Random(3)
  arguments = ("--num_trials=12", "--confirm_top=4")
  noise = "--noise=0.05 --max_attempts=9"
  undisturbed, disturbed = (tmp_path / name / "search" for name in ("undisturbed", "disturbed"))
  whole = start_search(undisturbed, *arguments, worker=noise)

  def confirmations(search_dir):
    store = TrialStore(storage.store_place(search_dir), reads_only=True)
    try:
      return store.confirmations()
    finally:
      store.close()

  controller = start_search(disturbed, *arguments, worker=f"{noise} --seconds=0.3")
  wait_for(lambda: read_trials(disturbed) and len(confirmations(disturbed)) == 8)
  for _ in range(2):
    time.sleep(rng.uniform(0.1, 0.5))
    if pids := worker_pids(disturbed):
      _send(rng.choice(pids), signal.SIGKILL)
  kill(controller)
  assert not all(trial.is_finished for trial in confirmations(disturbed))
  run_search(disturbed, *arguments, worker=noise)
  finish(whole)

  def results(search_dir):
    trials = [*read_trials(search_dir), *confirmations(search_dir)]
    return [(*outcome(t), t.confirms, t.seed_offset, t.further_rewards) for t in trials]

  assert results(disturbed) == results(undisturbed)
  confirmed = [trial for trial in read_trials(disturbed) if trial.further_rewards]
  assert [len(trial.rewards) for trial in confirmed] == [3] * 4
  # Workers have trained them with other seeds.
  assert all(len(set(trial.rewards)) == 3 for trial in confirmed)


@pytest.mark.slow
def test_the_learning_controller_goes_on_as_if_nothing_had_happened(tmp_path):
  arguments = ("--algorithm=ppo", "--num_trials=18")
  undisturbed = start_search(tmp_path / "undisturbed", *arguments)
  disturbed = tmp_path / "disturbed"
  controller = start_search(disturbed, *arguments, worker="--seconds=0.3")
  # In the middle of the second batch: the controller has learnt once, and will learn again.
  wait_for(lambda: sum(trial.is_finished for trial in read_trials(disturbed)) >= 8)
  kill(controller)
  run_search(disturbed, *arguments)
  finish(undisturbed)

  same = [outcome(trial) for trial in read_trials(tmp_path / "undisturbed")]
  assert [outcome(trial) for trial in read_trials(disturbed)] == same
  update, snapshot = read_snapshot(disturbed)
  assert update == 3
  assert snapshot == read_snapshot(tmp_path / "undisturbed")[1]


def test_workers_stop_when_the_controller_is_killed_and_their_trials_are_free_at_once(tmp_path):
  controller = start_search(tmp_path, "--lease_seconds=9999", worker="--seconds=9999")
  wait_for(lambda: len(evaluations(tmp_path)) == 2)
  kill(controller)
  wait_for(lambda: worker_pids(tmp_path) == [], seconds=10)
  # Waiting for these leases would take longer than the test's patience.
  run_search(tmp_path, "--num_trials=6")
  assert {t.attempt for t in read_trials(tmp_path) if t.number in evaluations(tmp_path)[:2]} == {2}
  assert {t.deaths for t in read_trials(tmp_path)} == {0}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_search_leaves_no_worker_behind(tmp_path, number, code):
  controller = start_search(tmp_path, worker="--seconds=30")
  wait_for(lambda: len(evaluations(tmp_path)) == 2)
  os.kill(controller.pid, number)
  printed = end_of(controller)
  assert printed[0] == code, printed
  assert "Traceback" not in printed[1]
  assert worker_pids(tmp_path) == []
  trials = read_trials(tmp_path)
  assert {trial.state for trial in trials} <= {"queued", "reused"}
  assert {trial.deaths for trial in trials} == {0}


def test_a_second_controller_is_refused(tmp_path):
  controller = start_search(tmp_path, worker="--seconds=30")
  wait_for(lambda: len(evaluations(tmp_path)) == 2)
  second = start_search(tmp_path)
  code, printed = end_of(second)
  assert code == 1
  assert f"error: Another search, process {controller.pid}, is running in {tmp_path}." in printed
  kill(controller)


def test_a_worker_that_freezes_loses_its_trial(tmp_path):
  run_search(
    tmp_path, "--num_trials=4", "--lease_seconds=1", worker="--faults=2:once-freeze --seconds=0.1"
  )
  trial = read_trials(tmp_path)[1]
  assert (trial.state, trial.attempt, trial.deaths) == ("done", 2, 1)
  assert worker_pids(tmp_path) == []


# The trial of each kind of fault, and the recorded failure; none of these trials is reused.
FAILURES = {
  2: ("diverged", "the loss became NaN at step 7"),
  3: ("exception", "RuntimeError: the graph is too large"),
  4: ("memory", "MemoryError"),
  5: ("nan", "its reward is nan"),
  6: ("exit", "worker died (exit code 9), 3 attempts"),
  8: ("kill", "worker died (signal 9), 3 attempts"),
  12: ("exit-0", "worker died (exit code 0), 3 attempts"),
  9: ("once-exit", None),
  10: ("once-kill", None),
}


@pytest.fixture(scope="module")
def failing(tmp_path_factory) -> Path:
  search_dir = tmp_path_factory.mktemp("failing")
  faults = ",".join(f"{number}:{kind}" for number, (kind, _) in FAILURES.items())
  run_search(search_dir, worker=f"--faults={faults}")
  return search_dir


def test_failing_trials_do_not_stop_a_search(failing, undisturbed):
  trials = read_trials(failing)
  assert [trial.number for trial in trials if not trial.is_finished] == []
  rewards = {trial.number: trial.reward for trial in read_trials(undisturbed)}
  failed = {number for number, (_, reason) in FAILURES.items() if reason}
  for trial in trials:
    if not failed & {trial.number, trial.reused_from} and rewards[trial.number] is not None:
      assert trial.reward == rewards[trial.number]


@pytest.mark.parametrize("number", FAILURES)
def test_a_failing_trial_is_recorded_with_its_reason(failing, number):
  kind, reason = FAILURES[number]
  trial = read_trials(failing)[number - 1]
  assert (trial.state, trial.failure) == ("failed" if reason else "done", reason)
  assert trial.diverged == (kind == "diverged")
  assert trial.attempt == (3 if kind in ("exit", "exit-0", "kill") else 2 if "once" in kind else 1)
  if kind in ("diverged", "exception", "memory", "nan"):
    text = (storage.trial_dir(failing, number) / "failure.txt").read_text()
    assert text.startswith("Traceback")


def test_workers_are_replaced_after_a_number_of_trials(tmp_path):
  run_search(
    tmp_path, "--num_trials=6", "--num_workers=1", worker="--trials_per_worker=2 --seconds=0.05"
  )
  lines = (tmp_path / "evaluations.txt").read_text().splitlines()
  pids = [line.split()[1] for line in lines]
  assert all(pids.count(pid) <= 2 for pid in pids)
  assert len(set(pids)) == -(-len(pids) // 2)


def test_workers_that_cannot_start_end_the_search_with_their_words(tmp_path):
  search = start_search(tmp_path, worker="--no_such_option")
  code, printed = end_of(search)
  assert code == 1
  assert "ended 4 times (exit code 2) without finishing a trial" in printed
  assert "unrecognized arguments: --no_such_option" in printed


def test_a_worker_that_is_broken_ends_and_fails_no_other_trial(tmp_path):
  run_search(tmp_path, "--num_trials=6", "--num_workers=1", worker="--faults=2:broken")
  trials = read_trials(tmp_path)
  # Three workers have tried it, and others have done the rest.
  assert (trials[1].state, trials[1].deaths) == ("failed", 3)
  assert trials[1].failure == "worker gave up: The GPU failed while it computed, 3 attempts"
  assert [trial.state for trial in trials].count("failed") == 1
  log = storage.worker_log(tmp_path, "worker-0").read_text()
  assert "Traceback" not in log


def test_a_machine_on_which_every_worker_breaks_ends_the_search(tmp_path):
  faults = ",".join(f"{number}:broken" for number in range(1, 7))
  search = start_search(tmp_path, "--num_trials=6", "--num_workers=1", worker=f"--faults={faults}")
  code, printed = end_of(search)
  assert code == 1
  assert "ended 4 times (exit code 1) without finishing a trial" in printed
  assert "The GPU failed while it computed." in printed
  # Nothing is lost: all but the first trial are still to be tried.
  assert [trial.deaths for trial in read_trials(tmp_path)[:3]] == [3, 1, 0]


def test_what_no_worker_can_do_ends_the_search_at_once(tmp_path):
  search = start_search(tmp_path, "--num_workers=1", worker="--faults=1:all-broken")
  code, printed = end_of(search)
  assert code == 1
  assert "\nerror: worker-0 cannot work. " in printed
  assert "cannot go on: What all trials start from diverged." in printed
  # It is not learnt from, and it was tried once: the next worker would fare no better.
  first, second = read_trials(tmp_path)[:2]
  assert (first.state, first.deaths, first.reward) == ("queued", 1, None)
  assert (second.state, second.deaths) == ("queued", 0)
  assert len((tmp_path / "evaluations.txt").read_text().splitlines()) == 1


def test_a_full_disk_during_an_evaluation_is_not_held_against_the_trial(tmp_path):
  search = start_search(tmp_path, worker="--faults=2:disk --seconds=0.2")
  code, printed = end_of(search)
  assert code == 1
  assert "No space left on device" in printed
  assert "Traceback" not in printed
  run_search(tmp_path)
  assert read_trials(tmp_path)[1].state == "done"


def test_a_search_directory_that_cannot_be_made_is_named(tmp_path):
  (tmp_path / "file").touch()
  search = start_search(tmp_path / "file" / "search")
  code, printed = end_of(search)
  assert code == 1
  assert printed.startswith(f"error: {tmp_path / 'file' / 'search'} cannot be")


def _can_mount() -> bool:
  if not shutil.which("unshare"):
    return False
  tmpfs = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
  return subprocess.run(tmpfs, capture_output=True).returncode == 0


@pytest.mark.skipif(not _can_mount(), reason="this system lets us mount no small file system")
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_search_directory_that_cannot_be_written_is_named_and_continues_later(tmp_path, how):
  """Searches on a temporary file system that is first full or read-only, then writable."""
  bad, good = {"full": ("size=300k", "size=9m"), "read-only": ("ro", "rw")}[how]
  search = shlex.join([sys.executable, str(SEARCH), str(tmp_path / "search")])
  count = shlex.join([sys.executable, "-c", _PRINT_STATES, str(tmp_path / "search")])
  folder = shlex.quote(str(tmp_path))
  script = f"""
    mount -t tmpfs -o size=9m tmpfs {folder} || exit 99
    {search} --num_trials=6 2>/dev/null || exit 98
    mount -o remount,{bad} {folder} || exit 97
    {search} --num_trials=40 && exit 96
    mount -o remount,{good} {folder} || exit 95
    {search} --num_trials=40 2>/dev/null || exit 94
    {count}
  """
  result = subprocess.run(
    ["unshare", "-rm", "sh", "-c", script],
    cwd=ROOT,
    env=_environment(),
    capture_output=True,
    text=True,
    timeout=PATIENCE_SECONDS,
  )
  assert result.returncode == 0, result
  assert "error: " in result.stderr
  assert "cannot be written: " in result.stderr or "cannot go on: " in result.stderr
  assert "Traceback" not in result.stderr
  assert result.stdout.split() == ["40"]


# Counts the finished trials of a search on a file system that only its own processes see.
_PRINT_STATES = (
  "import pathlib, sys; from official_nasfpn.search.store.trial_store import TrialStore; "
  "store = TrialStore(pathlib.Path(sys.argv[1]) / 'search.db'); "
  "print(sum(trial.is_finished for trial in store.trials()))"
)


def _environment() -> dict[str, str]:
  return {**os.environ, "PYTHONPATH": str(ROOT)}


def _send(pid: int, number: signal.Signals) -> None:
  with contextlib.suppress(ProcessLookupError):
    os.kill(pid, number)
