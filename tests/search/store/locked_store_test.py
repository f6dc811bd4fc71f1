"""A file that another process holds for long, as where a network file system stalls."""

import contextlib
import sqlite3
import subprocess
import sys
import threading

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.search.store import engines
from official_nasfpn.search.store.trial_store import NewTrial, TrialStore

HOLDER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN IMMEDIATE")
database.execute("UPDATE trials SET progress = 0.5")
print("held", flush=True)
sys.stdin.readline()
database.execute("ROLLBACK")
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
  # A user waits for half a minute before anything is said.
  monkeypatch.setattr(engines, "_BUSY_SECONDS", 0.1)
  path = tmp_path / "search.db"
  store = TrialStore(path)
  store.create()
  store.propose([NewTrial(1, 1, (), (), "a", "Detector.architecture = 'fpn'")])
  store.close()
  return path


@contextlib.contextmanager
def held(path):
  """Holds the file in another process, which is yielded; a line lets go."""
  with subprocess.Popen(
    [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
  ) as process:
    try:
      assert process.stdout.readline() == b"held\n"
      yield process
    finally:
      process.kill()


def let_go(process):
  process.stdin.write(b"\n")
  process.stdin.flush()


def test_a_worker_waits_and_goes_on(path, capsys):
  store = TrialStore(path, outage_seconds=60.0)
  with held(path) as process:
    assert store.counts().queued == 1  # Whoever reads does not wait.
    threading.Timer(1.0, let_go, (process,)).start()
    trial = store.claim("worker")
  said = capsys.readouterr().err
  assert said.count("does not answer (database is locked); trying again for up to 60 s.") == 1
  assert said.count("answers again.") == 1
  assert store.report_reward(trial.number, trial.attempt, 0.5)
  store.close()


def test_a_holder_that_is_killed_lets_go(path):
  store = TrialStore(path, outage_seconds=60.0)
  with held(path) as process:
    threading.Timer(0.5, process.kill).start()
    assert store.claim("worker").progress == 0.0
  store.close()


def test_after_the_stated_time_it_ends_with_a_sentence(path):
  store = TrialStore(path, outage_seconds=0.5)
  with (
    held(path),
    pytest.raises(UserError, match=r"has not answered for 0.5 s \(database is locked\)\. Nothing"),
  ):
    store.claim("worker")
  assert store.claim("worker").number == 1
  store.close()


def test_a_damaged_file_is_not_waited_for(path):
  store = TrialStore(path, outage_seconds=60.0)
  store.counts()
  with contextlib.closing(sqlite3.connect(path)) as database:
    database.execute("DROP TABLE trials")
  with pytest.raises(UserError, match="cannot be used: no such table"):
    store.claim("worker")
  store.close()
