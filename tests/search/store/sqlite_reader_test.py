"""A store in a file is read without a trace, also where nobody may write and while it changes."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from official_nasfpn.search import storage
from official_nasfpn.search.report.found import read_trials
from official_nasfpn.search.store import sqlite_reader
from official_nasfpn.search.store.trial_store import NewTrial, TrialStore

ROOT = Path(__file__).parents[3]


@pytest.fixture
def search_dir(tmp_path) -> Path:
  for name in ("running", "a search?#%"):
    (tmp_path / name).mkdir()
  return tmp_path / "a search?#%"


def opened(search_dir: Path) -> contextlib.closing[TrialStore]:
  return contextlib.closing(TrialStore(storage.database_path(search_dir)))


def propose(store: TrialStore, *numbers: int) -> None:
  store.propose([NewTrial(n, 1, (), (), f"hash {n}", "text") for n in numbers])


def files(search_dir: Path) -> dict[str, tuple[int, bytes]]:
  return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in search_dir.iterdir()}


def numbers(search_dir: Path) -> list[int]:
  """Returns the numbers of the trials that a reader sees; checks that it changes no file."""
  before = files(search_dir)
  found = [trial.number for trial in read_trials(search_dir)]
  assert files(search_dir) == before
  return found


def leave_in_mid_run(search_dir: Path) -> None:
  """Leaves the files of a process that was killed after its last transaction."""
  with opened(search_dir.with_name("running")) as store:
    store.create()
    propose(store, 1, 2)
    for name in ("search.db", "search.db-wal", "search.db-shm"):
      shutil.copyfile(search_dir.with_name("running") / name, search_dir / name)


def test_a_search_that_is_over(search_dir):
  with opened(search_dir) as store:
    store.create()
    propose(store, 1, 2)
  assert list(files(search_dir)) == ["search.db"]
  assert numbers(search_dir) == [1, 2]


def test_a_search_that_runs(search_dir):
  with opened(search_dir) as store:
    store.create()
    propose(store, 1)
  # Without our modules, the process starts ten times as fast.
  code = (
    "import sqlite3, sys\n"
    "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
    "for line in sys.stdin:\n"
    "  database.execute('UPDATE trials SET number = number + 1')\n"
    "  print('done', flush=True)\n"
  )
  with subprocess.Popen(
    [sys.executable, "-c", code, storage.database_path(search_dir)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  ) as writer:
    for number in range(2, 20):
      writer.stdin.write("go\n")
      writer.stdin.flush()
      assert writer.stdout.readline() == "done\n"
      assert numbers(search_dir) == [number]
    assert set(files(search_dir)) == {"search.db", "search.db-wal", "search.db-shm"}
    writer.stdin.close()
  assert writer.returncode == 0
  assert numbers(search_dir) == [19]
  assert list(files(search_dir)) == ["search.db"]


def test_a_search_that_was_killed(search_dir):
  leave_in_mid_run(search_dir)
  assert (search_dir / "search.db-wal").stat().st_size > 0
  assert numbers(search_dir) == [1, 2]
  # A copy of the search may lack this file.
  (search_dir / "search.db-shm").unlink()
  assert numbers(search_dir) == [1, 2]
  with opened(search_dir) as store:
    propose(store, 3)
  assert numbers(search_dir) == [1, 2, 3]


def test_a_search_of_an_earlier_version_is_not_changed(search_dir):
  with contextlib.closing(sqlite3.connect(storage.database_path(search_dir))) as database:
    database.execute("CREATE TABLE schema (version INTEGER)")
    database.execute("INSERT INTO schema VALUES (1)")
    database.commit()
  before = files(search_dir)
  with pytest.raises(Exception, match="earlier version of this program"):
    read_trials(search_dir)
  assert files(search_dir) == before


def test_a_writer_that_begins_meanwhile_is_noticed(search_dir):
  """If a writer opens a file that was read as unused, the reader reads it again."""
  with opened(search_dir) as store:
    store.create()
    propose(store, 1)
  seen = []
  with contextlib.ExitStack() as stack:

    def operation(connection):
      if not seen:
        propose(stack.enter_context(opened(search_dir)), 2)
      seen.append(connection.exec_driver_sql("SELECT max(number) FROM trials").scalar())
      return seen[-1]

    assert sqlite_reader.read(storage.database_path(search_dir), operation) == 2
  assert seen == [1, 2]


def _can_mount() -> bool:
  if not shutil.which("unshare"):
    return False
  tmpfs = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
  return subprocess.run(tmpfs, capture_output=True).returncode == 0


@pytest.mark.skipif(not _can_mount(), reason="this system lets us mount no read-only file system")
def test_searches_on_a_read_only_file_system(search_dir, tmp_path):
  """Reads a search that has ended, and one that was killed."""
  leave_in_mid_run(search_dir)
  code = (
    "import pathlib, sys\n"
    "from official_nasfpn.search.report.found import read_trials\n"
    "for name in ('running', 'a search?#%'):\n"
    "  print([trial.number for trial in read_trials(pathlib.Path(sys.argv[1]) / name)])\n"
  )
  script = (
    'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && ! touch "$1/x" 2>/dev/null && '
    'exec "$2" -c "$3" "$1"'
  )
  process = subprocess.run(
    ["unshare", "-rm", "sh", "-c", script, "sh", tmp_path, sys.executable, code],
    cwd=ROOT,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert (process.returncode, process.stdout) == (0, "[1, 2]\n[1, 2]\n"), process.stderr
