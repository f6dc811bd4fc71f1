"""Which launcher the flags make, and what the one that starts nothing says."""

import contextlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.search.store.trial_store import NewTrial, TrialStore
from official_nasfpn.search.workers.local_launcher import LocalLauncher
from official_nasfpn.search.workers.making import LauncherFlags, launcher_maker
from official_nasfpn.search.workers.no_launcher import NoLauncher


@pytest.fixture
def store(tmp_path):
  with contextlib.closing(TrialStore(tmp_path / "search.db")) as store:
    store.create()
    store.propose([NewTrial(1, 1, (0,), (0.0,), "hash", "architecture")])
    yield store


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (LauncherFlags(ray_address="10.0.0.1:6379"), "--ray_address needs --launcher=ray"),
    (LauncherFlags("none", worker_gpus=1.0), "--worker_gpus needs --launcher=ray"),
    (LauncherFlags(worker_resources=("TPU=1",)), "--worker_resource needs --launcher=ray"),
    (LauncherFlags("none", num_workers=2), "--launcher=none starts no workers"),
    (LauncherFlags("ray", worker_resources=("TPU",)), "write NAME=AMOUNT"),
    (LauncherFlags("ray", worker_resources=("TPU=nan",)), "write NAME=AMOUNT"),
    (LauncherFlags("ray", worker_resources=("TPU=-1",)), "write NAME=AMOUNT"),
    (LauncherFlags("ray", worker_resources=("GPU=1",)), "write --worker_gpus=1"),
  ],
)
def test_flags_that_mean_nothing_are_refused(tmp_path, flags, message):
  with pytest.raises(UserError, match=message):
    launcher_maker(flags, tmp_path, [])


def test_workers_on_this_machine_are_the_default(tmp_path, store):
  launcher = launcher_maker(LauncherFlags(), tmp_path, ["-c", "pass"])(store)
  assert isinstance(launcher, LocalLauncher)
  launcher.close()


def test_a_command_is_printed_when_no_worker_is_seen_and_starts_one(tmp_path, store, capsys):
  started = tmp_path / "it's started"
  script = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
  launcher = launcher_maker(LauncherFlags("none"), tmp_path, ["-c", script, str(started)])(store)
  assert isinstance(launcher, NoLauncher)
  launcher.tend(1)
  assert capsys.readouterr().err == ""
  launcher = NoLauncher(store, launcher.command, quiet_seconds=0.0)
  launcher.tend(1)
  printed = capsys.readouterr().err
  assert "No worker has been seen for 0 s. This starts one: python -c " in printed
  command = printed.partition("This starts one: ")[2]
  folder = Path(sys.executable).parent
  path = f"{folder}{os.pathsep}{os.environ['PATH']}"
  subprocess.run(["bash", "-c", command], check=True, env={**os.environ, "PATH": path})
  assert started.read_text().startswith("--worker_id=")
  assert shlex.split(command)[-1].startswith("--worker_id=")


def test_the_command_is_printed_once_for_each_time_without_workers(store, capsys):
  launcher = NoLauncher(store, "start me", quiet_seconds=0.0)
  for _ in range(3):
    launcher.tend(1)
  assert capsys.readouterr().err.count("start me") == 1
  trial = store.claim("somebody")
  launcher.tend(1)
  assert capsys.readouterr().err == ""
  assert store.report_reward(trial.number, trial.attempt, 0.5)
  launcher.tend(1)
  assert capsys.readouterr().err.count("start me") == 1


def test_a_finished_search_needs_no_worker(store, capsys):
  launcher = NoLauncher(store, "start me", quiet_seconds=0.05)
  for _ in range(3):
    launcher.tend(0)
  assert capsys.readouterr().err == ""
