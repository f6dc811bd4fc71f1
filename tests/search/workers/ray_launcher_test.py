"""Searches on a real Ray cluster of two nodes; their results are those of one machine."""

import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.search.store.trial_store import TrialStore
from official_nasfpn.search.workers.ray_launcher import RayLauncher, WorkerResources
from tests.program_process import ProgramProcess
from tests.search.workers.fault_tolerance_test import (
  ROOT,
  _end_of_what_was_started,  # noqa: F401, a fixture
  end_of,
  evaluations,
  finish,
  kill,
  outcome,
  read_snapshot,
  read_trials,
  run_search,
  start_search,
  wait_for,
  worker_pids,
)

needs_ray = pytest.mark.skipif(
  importlib.util.find_spec("ray") is None, reason="Ray is not installed: scripts/install_ray.sh"
)
ARGUMENTS = ("--algorithm=evolution", "--num_trials=18")
# Longer than the test's patience: trials are queued again only because Ray reports a loss.
LONG_LEASE = "--lease_seconds=9999"


class Cluster:
  """A cluster in processes of its own, with one CPU per node."""

  def __init__(self, folder: str):
    # Ray writes the path of its Python into a shell command unquoted, so it must have no space.
    environment = Path(folder) / "environment"
    environment.symlink_to(sys.prefix)
    self._process = subprocess.Popen(
      [str(environment / "bin" / "python"), str(Path(__file__).with_name("ray_cluster.py"))],
      cwd=ROOT,
      env={**os.environ, "RAY_TMPDIR": folder, "PYTHONPATH": str(ROOT)},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
    )
    self.folder = folder
    self.address = self._process.stdout.readline().strip()
    self.num_nodes = 1

  def resize(self, num_nodes: int) -> None:
    """Adds nodes, or kills the newest ones."""
    while self.num_nodes != num_nodes:
      self._process.stdin.write("add\n" if self.num_nodes < num_nodes else "kill\n")
      self._process.stdin.flush()
      self.num_nodes = 1 + int(self._process.stdout.readline())

  def close(self) -> None:
    self._process.stdin.close()
    try:
      self._process.wait(timeout=60)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    self._process.stdout.close()


@pytest.fixture(scope="module")
def two_nodes():
  with pytest.MonkeyPatch.context() as environment:
    environment.setenv("RAY_AUTH_MODE", "token")
    environment.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Makes Ray use the loopback address, as it does on other systems.
    environment.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    # Not pytest's folder: the path of a socket has at most 107 characters.
    folder = tempfile.mkdtemp(prefix="ray")
    cluster = Cluster(folder)
    try:
      yield cluster
    finally:
      cluster.close()
      shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(two_nodes):
  two_nodes.resize(2)
  return two_nodes


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
  search_dir = tmp_path_factory.mktemp("local")
  run_search(search_dir, *ARGUMENTS)
  return search_dir


def on(cluster: Cluster) -> tuple[str, ...]:
  return ("--launcher=ray", f"--ray_address={cluster.address}")


def start_held_search(search_dir: Path, cluster: Cluster) -> tuple[ProgramProcess, Path]:
  """Returns a search with a trial on each node, and the file that its trials wait for."""
  go_on = search_dir / "go_on"
  search = start_search(search_dir, *ARGUMENTS, LONG_LEASE, *on(cluster), worker=f"--until={go_on}")
  wait_for(lambda: len(evaluations(search_dir)) == 2)
  return search, go_on


def assert_ends_like(search_dir: Path, other: Path) -> None:
  trials = read_trials(search_dir)
  assert [outcome(trial) for trial in trials] == [outcome(trial) for trial in read_trials(other)]
  assert read_snapshot(search_dir) == read_snapshot(other)
  # An evaluation is repeated only if an attempt was lost, and no trial is lost.
  begun = evaluations(search_dir)
  for trial in trials:
    if trial.state != "reused":
      assert 1 <= begun.count(trial.number) <= trial.attempt
  wait_for(lambda: worker_pids(search_dir) == [])


@needs_ray
@pytest.mark.slow
def test_an_undisturbed_search_equals_one_on_this_machine(cluster, tmp_path):
  for launcher, name in (((), "local"), (on(cluster), "ray")):
    run_search(tmp_path / name, "--algorithm=ppo", "--num_trials=12", *launcher)
  assert_ends_like(tmp_path / "ray", tmp_path / "local")
  assert {trial.attempt for trial in read_trials(tmp_path / "ray")} == {1}


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("which", ["worker", "actor"])
def test_a_killed_process_is_replaced_and_its_trial_is_free_at_once(
  cluster, undisturbed, tmp_path, which
):
  search, go_on = start_held_search(tmp_path, cluster)
  victim = worker_pids(tmp_path)[0]
  environment = Path(f"/proc/{victim}/environ").read_text().split("\0")
  assert {"OMP_NUM_THREADS=1", "TF_NUM_INTRAOP_THREADS=1"} <= set(environment)
  # The actor is the worker's parent.
  parent = int(Path(f"/proc/{victim}/stat").read_text().rpartition(")")[2].split()[1])
  os.kill(victim if which == "worker" else parent, signal.SIGKILL)
  # Whichever process was killed, no orphan continues.
  wait_for(lambda: not Path(f"/proc/{victim}").exists())
  go_on.touch()
  finish(search)
  assert_ends_like(tmp_path, undisturbed)
  # A reused trial shows the attempts of its original.
  trained = [trial for trial in read_trials(tmp_path) if trial.state != "reused"]
  lost = [trial for trial in trained if trial.attempt > 1]
  assert [(trial.attempt, trial.deaths) for trial in lost] == [(2, 1)]


@needs_ray
@pytest.mark.slow
def test_the_pool_shrinks_and_grows_with_the_cluster(cluster, undisturbed, tmp_path):
  search, go_on = start_held_search(tmp_path, cluster)
  cluster.resize(1)
  wait_for(lambda: len(worker_pids(tmp_path)) == 1)
  wait_for(lambda: any(trial.failure for trial in read_trials(tmp_path)))
  [survivor] = worker_pids(tmp_path)
  cluster.resize(2)
  wait_for(lambda: len(worker_pids(tmp_path)) == 2)
  assert survivor in worker_pids(tmp_path)
  [newcomer] = set(worker_pids(tmp_path)) - {survivor}
  wait_for(lambda: f" {newcomer}\n" in (tmp_path / "evaluations.txt").read_text())
  go_on.touch()
  finish(search)
  assert_ends_like(tmp_path, undisturbed)
  # The attempt was lost, but the trial is not to blame.
  trials = read_trials(tmp_path)
  assert max(trial.attempt for trial in trials) == 2
  assert {trial.deaths for trial in trials} == {0}


@needs_ray
@pytest.mark.slow
def test_a_killed_controller_takes_its_workers_along_and_continues(cluster, undisturbed, tmp_path):
  arguments = (*ARGUMENTS, LONG_LEASE, *on(cluster))
  controller = start_search(tmp_path, *arguments, worker="--seconds=1")
  # In the middle of the second update.
  wait_for(lambda: sum(trial.is_finished for trial in read_trials(tmp_path)) >= 8)
  wait_for(lambda: any(trial.state == "running" for trial in read_trials(tmp_path)))
  kill(controller)
  wait_for(lambda: worker_pids(tmp_path) == [])
  run_search(tmp_path, *arguments)
  assert_ends_like(tmp_path, undisturbed)
  assert {trial.deaths for trial in read_trials(tmp_path)} == {0}


@needs_ray
@pytest.mark.slow
def test_an_interrupted_search_leaves_no_worker_behind(cluster, tmp_path):
  search = start_search(tmp_path, *ARGUMENTS, *on(cluster), worker="--seconds=60")
  wait_for(lambda: len(evaluations(tmp_path)) == 2)
  os.kill(search.pid, signal.SIGINT)
  end_of(search)
  wait_for(lambda: worker_pids(tmp_path) == [])
  assert {trial.state for trial in read_trials(tmp_path)} <= {"queued", "reused"}


@needs_ray
@pytest.mark.slow
def test_workers_that_cannot_start_end_the_search_with_their_words(cluster, tmp_path):
  search = start_search(tmp_path, *on(cluster), worker="--no_such_option")
  code, printed = end_of(search)
  assert code == 1
  assert "error: Every worker ends 3 times in a row." in printed
  assert "unrecognized arguments: --no_such_option" in printed


@needs_ray
@pytest.mark.slow
def test_a_search_waits_for_a_node_with_room(cluster, tmp_path):
  search = start_search(tmp_path, *on(cluster), "--worker_gpus=1")
  wait_for(lambda: re.search("No node.*\n", search.stderr))
  line = next(line for line in search.stderr.splitlines() if "No node" in line)
  assert "No node of the cluster has room for a worker (1 CPU, 1 GPU): waiting" in line
  assert search.poll() is None


@needs_ray
@pytest.mark.slow
def test_a_wrong_token_is_named(cluster, tmp_path, monkeypatch):
  monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
  search = start_search(tmp_path, *on(cluster))
  code, printed = end_of(search)
  assert code == 1
  assert f"error: No Ray cluster could be joined at {cluster.address}" in printed
  assert "RAY_AUTH_TOKEN" in printed
  assert "Traceback" not in printed


@needs_ray
def test_an_address_where_nothing_listens_is_refused_at_once(tmp_path):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
    store = TrialStore(tmp_path / "search.db")
    with pytest.raises(UserError, match=f"No Ray cluster could be joined at {address}"):
      RayLauncher(store, tmp_path, [], address)
    store.close()


def test_without_ray_the_installation_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "ray", None)
  store = TrialStore(tmp_path / "search.db")
  with pytest.raises(UserError, match=r"pip install 'official-nasfpn\[ray\]'"):
    RayLauncher(store, tmp_path, [])
  store.close()


def test_room_is_what_the_scarcest_resource_leaves():
  node = {"CPU": 8.0, "GPU": 1.0, "TPU": 4.0}
  assert WorkerResources().room(node) == 8
  assert WorkerResources(cpus=2, custom={"TPU": 4}).room(node) == 1
  # Ten workers fit at a tenth of a GPU each, although 1 / 0.1 need not be 10 in floating point.
  assert WorkerResources(cpus=0.1, gpus=0.1).room(node) == 10
  assert WorkerResources(cpus=3, gpus=1).room({"CPU": 64.0}) == 0
