"""The launcher that the flags choose, and the messages of `NoLauncher`."""

import contextlib
import math
import os
import subprocess

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.search.store.trial_store import NewTrial, TrialStore
from official_nasfpn.search.workers import no_launcher
from official_nasfpn.search.workers.launchers import LauncherConfig, launcher_maker, worker_flags
from official_nasfpn.search.workers.local_launcher import LocalLauncher
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
    (LauncherConfig(ray_address="10.0.0.1:6379"), "--ray_address needs --launcher=ray"),
    (LauncherConfig("none", worker_gpus=1.0), "--worker_gpus needs --launcher=ray"),
    (LauncherConfig(worker_resources=("TPU=1",)), "--worker_resource needs --launcher=ray"),
    (LauncherConfig("none", num_workers=2), "--launcher=none starts no workers"),
    (LauncherConfig(num_workers=0), "num_workers is 0; it must be at least 1"),
    (LauncherConfig(num_workers=-1), "num_workers is -1; it must be at least 1"),
    (LauncherConfig("ray", num_workers=0), "num_workers is 0; it must be at least 1"),
    (LauncherConfig("ray", worker_cpus=0.0), "worker_cpus is 0.0; it must be at least 0.1"),
    (LauncherConfig("ray", worker_cpus=math.nan), "worker_cpus is nan"),
    (LauncherConfig("ray", worker_gpus=-1.0), "worker_gpus is -1.0; it must be at least 0"),
    (LauncherConfig("ray", worker_resources=("TPU",)), "write NAME=AMOUNT"),
    (LauncherConfig("ray", worker_resources=("TPU=nan",)), "write NAME=AMOUNT"),
    (LauncherConfig("ray", worker_resources=("TPU=-1",)), "write NAME=AMOUNT"),
    (LauncherConfig("ray", worker_resources=("GPU=1",)), "write --worker_gpus=1"),
  ],
)
def test_flags_that_mean_nothing_are_refused(tmp_path, flags, message):
  with pytest.raises(UserError, match=message):
    launcher_maker(flags, tmp_path, [])


URL = "postgresql://me@host:5433/search?sslmode=require"


@pytest.mark.parametrize(
  ("launcher", "store", "there", "flags"),
  [
    ("local", None, None, ["--search_dir={}"]),
    ("ray", None, None, ["--search_dir={}"]),
    ("none", None, None, ["--search_dir={}"]),
    # A person has named the database, so the worker's password may be sent to it.
    ("local", URL, URL, ["--search_dir={}", f"--store={URL}"]),
    ("ray", URL, URL, [f"--store={URL}"]),
    ("none", URL, None, [f"--store={URL}"]),
    ("none", URL.replace("@", ":s3cret@"), URL, [f"--store={URL}"]),
    # Only the directory names it: on the command line, it would look as if a person had named it.
    ("local", None, URL, ["--search_dir={}"]),
    ("none", None, URL, ["--search_dir={}"]),
    ("ray", None, URL, [f"--store={URL}"]),
  ],
)
def test_workers_are_told_where_the_trials_are(
  tmp_path, monkeypatch, launcher, store, there, flags
):
  monkeypatch.setenv("PGPASSWORD", "s3cret")
  if there:
    (tmp_path / "store.txt").write_text(there)
  assert worker_flags(launcher, tmp_path, store) == [flag.format(tmp_path) for flag in flags]


def test_workers_on_this_machine_are_the_default(tmp_path, store):
  launcher = launcher_maker(LauncherConfig(), tmp_path, [], ["-c", "pass"])(store)
  assert isinstance(launcher, LocalLauncher)
  launcher.close()


def test_a_command_that_starts_a_worker_is_printed_at_once(tmp_path, store, capsys):
  flag = "--store=postgresql://me@host/it's mine"
  launcher = launcher_maker(LauncherConfig("none"), tmp_path, [flag])(store)
  assert isinstance(launcher, NoLauncher)
  for _ in range(3):
    launcher.poll(1)
  printed = capsys.readouterr().err
  assert printed.startswith("The search waits for workers. This starts one: nasfpn worker ")
  assert printed.count("\n") == 1
  # A shell runs the command unchanged.
  program = tmp_path / "nasfpn"
  program.write_text("#!/bin/sh\nprintf '%s|' \"$@\"\n")
  program.chmod(0o755)
  path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
  called = subprocess.run(
    ["bash", "-c", printed.partition("This starts one: ")[2]],
    check=True,
    env={**os.environ, "PATH": path},
    capture_output=True,
    text=True,
  )
  assert called.stdout == f"worker|{flag}|"


def test_the_command_is_printed_again_while_no_worker_comes(store, capsys, monkeypatch):
  now = 1000.0
  monkeypatch.setattr(no_launcher.time, "monotonic", lambda: now)
  launcher = NoLauncher(store, "start me", quiet_seconds=60.0)
  printed = {}
  for second in range(400):
    now = 1000.0 + second
    launcher.poll(1)
    if text := capsys.readouterr().err:
      printed[second] = text
  assert list(printed) == [0, 60, 180]
  assert printed[0] == "The search waits for workers. This starts one: start me\n"
  assert printed[60] == "No worker has been seen for 60 s. This starts one: start me\n"


def test_the_command_is_printed_once_for_each_time_without_workers(store, capsys, monkeypatch):
  now = 0.0
  monkeypatch.setattr(no_launcher.time, "monotonic", lambda: now)
  trial = store.claim("somebody")
  launcher = NoLauncher(store, "start me", quiet_seconds=20.0)
  for _ in range(30):
    now += 1.0
    launcher.poll(1)
  # A worker is running a trial.
  assert capsys.readouterr().err == ""
  assert store.report_reward(trial.number, trial.attempt, 0.5)
  for _ in range(25):
    now += 1.0
    launcher.poll(1)
  assert capsys.readouterr().err.count("start me") == 1


def test_a_finished_search_needs_no_worker(store, capsys):
  launcher = NoLauncher(store, "start me", quiet_seconds=0.05)
  for _ in range(3):
    launcher.poll(0)
  assert capsys.readouterr().err == ""
