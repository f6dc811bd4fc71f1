"""A folder belongs to one job, whoever asks at the same time and whenever a process is killed."""

import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.folders import claim, is_claimed, whole_folder

PATIENCE_SECONDS = 60
NUM_FOLDERS = 100
NUM_FILES = 20
NOBODY = 65534

# Children import this module and nothing large; threads of this process do not disturb them.
SPAWN = multiprocessing.get_context("spawn")


def claim_job(folder, text="mine"):
  return claim(folder, "job.json", text, "job", "--job_dir")


def make_whole(folder, names=("a.txt", "b.txt"), text=""):
  with whole_folder(folder, "--job_dir") as unfinished:
    for name in names:
      (unfinished / name).write_text(text)


def content(folder):
  return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def no_file_above():
  """Makes every write beyond so many bytes fail, as a full disk does."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
  resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def child():
  """Returns a function that runs a function in another process; it ends with the test."""
  processes = []

  def start(function, *arguments):
    process = SPAWN.Process(target=function, args=arguments)
    process.start()
    processes.append(process)
    return process

  yield start
  for process in processes:
    process.kill()
    process.join()


def wait_until(is_time):
  deadline = time.monotonic() + PATIENCE_SECONDS
  while not is_time():
    assert time.monotonic() < deadline
    time.sleep(0.001)


class TestClaim:
  @pytest.mark.parametrize("before", ["absent", "empty", "hidden files"])
  def test_an_empty_folder_is_claimed_once(self, tmp_path, before):
    folder = tmp_path / "above" / "job"
    if before != "absent":
      folder.mkdir(parents=True)
    if before == "hidden files":
      (folder / ".gitkeep").touch()
    assert not is_claimed(folder, "job.json", "job", "--job_dir")
    assert claim_job(folder)
    assert is_claimed(folder, "job.json", "job", "--job_dir")
    assert not claim_job(folder, "another's")
    assert (folder / "job.json").read_text() == "mine"

  def test_other_files_are_refused_and_left_alone(self, tmp_path):
    (tmp_path / "thesis.txt").write_text("all my work")
    message = f"^{tmp_path} holds files, but no job. Give --job_dir a new folder.$"
    with pytest.raises(UserError, match=message):
      claim_job(tmp_path)
    assert content(tmp_path) == {"thesis.txt": "all my work"}

  def test_a_folder_named_like_the_marker_is_no_claim(self, tmp_path):
    (tmp_path / "job.json").mkdir()
    with pytest.raises(UserError, match="holds files, but no job"):
      claim_job(tmp_path)

  def test_a_file_in_place_of_the_folder_is_left_alone(self, tmp_path):
    file = tmp_path / "thesis.txt"
    file.write_text("all my work")
    with pytest.raises(UserError, match=r"thesis\.txt is a file. Give --job_dir a new folder"):
      claim_job(file)
    with pytest.raises(UserError, match="cannot be written"):
      claim_job(file / "job")
    assert content(tmp_path) == {"thesis.txt": "all my work"}

  @pytest.mark.parametrize("exists", [True, False])
  def test_a_link_stands_for_the_folder_that_it_names(self, tmp_path, exists):
    target, link = tmp_path / "disk2" / "job", tmp_path / "job"
    if exists:
      target.mkdir(parents=True)
    link.symlink_to(target)
    assert claim_job(link)
    assert not claim_job(target)
    assert link.is_symlink()
    assert content(target) == {"job.json": "mine"}

  def test_a_full_disk_claims_nothing(self, tmp_path, no_file_above):
    no_file_above(1000)
    with pytest.raises(UserError, match=r"cannot be written: File too large\. .*--job_dir"):
      claim_job(tmp_path / "job", "m" * 2000)
    assert content(tmp_path / "job") == {}
    assert claim_job(tmp_path / "job", "m" * 1000)

  def test_of_several_processes_one_succeeds(self, tmp_path, child):
    barrier = SPAWN.Barrier(3)
    won = SPAWN.Queue()
    processes = [child(_claim_all, tmp_path, name, barrier, won) for name in "abc"]
    winners = dict(won.get(timeout=PATIENCE_SECONDS) for _ in range(NUM_FOLDERS))
    for process in processes:
      process.join(PATIENCE_SECONDS)
      assert process.exitcode == 0
    assert len(winners) == NUM_FOLDERS
    assert {path.name: path.joinpath("job.json").read_text() for path in tmp_path.iterdir()} == {
      folder: name * 1000 for folder, name in winners.items()
    }

  def test_a_claim_is_not_taken_for_other_files_while_it_is_made(self, tmp_path, child):
    process = child(_claim_for_ever, tmp_path, "mine")
    for index in range(1000):
      while not is_claimed(tmp_path / str(index), "job.json", "job", "--job_dir"):
        assert process.is_alive()

  def test_killed_at_any_time_it_leaves_a_whole_claim_or_none(self, tmp_path, child):
    text = "m" * 300_000
    for kill in range(8):
      process = child(_claim_for_ever, tmp_path / str(kill), text)
      wait_until((tmp_path / str(kill) / "2").exists)
      time.sleep(0.001 * kill)
      process.kill()
      process.join()
      for folder in (tmp_path / str(kill)).iterdir():
        claim_job(folder, text)
        assert (folder / "job.json").read_text() == text


class TestWholeFolder:
  def test_it_appears_when_all_is_written(self, tmp_path):
    folder = tmp_path / "above" / "job"
    with whole_folder(folder, "--job_dir") as unfinished:
      (unfinished / "a.txt").write_text("a")
      assert not folder.exists()
      assert unfinished.parent == folder.parent
      assert unfinished.name.startswith(".job.")
    assert content(folder) == {"a.txt": "a"}
    assert list(folder.parent.iterdir()) == [folder]
    (tmp_path / "ordinary").mkdir()
    assert folder.stat().st_mode == (tmp_path / "ordinary").stat().st_mode

  def test_an_empty_folder_is_replaced_and_a_link_to_one_is_kept(self, tmp_path):
    (tmp_path / "disk2").mkdir()
    (tmp_path / "job").symlink_to(tmp_path / "disk2")
    make_whole(tmp_path / "job")
    assert (tmp_path / "job").is_symlink()
    assert set(content(tmp_path / "disk2")) == {"a.txt", "b.txt"}

  @pytest.mark.parametrize("name", ["job/thesis.txt", "job/.hidden", "job"])
  def test_what_is_there_is_refused_before_anything_is_made(self, tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("all my work")
    with pytest.raises(UserError, match=r"job is not an empty folder; .* Give --job_dir"):
      whole_folder(tmp_path / "job", "--job_dir").__enter__()
    assert file.read_text() == "all my work"
    assert [path.name for path in tmp_path.iterdir()] == ["job"]

  def test_what_fails_leaves_nothing(self, tmp_path, no_file_above):
    with pytest.raises(ValueError, match="my own"), whole_folder(tmp_path / "job", "--job_dir"):
      raise ValueError("my own")
    no_file_above(1000)
    with pytest.raises(UserError, match=r"job cannot be written: File too large\. .*--job_dir"):
      make_whole(tmp_path / "job", text="m" * 2000)
    assert not list(tmp_path.iterdir())

  def test_who_is_first_stays(self, tmp_path):
    late = whole_folder(tmp_path / "job", "--job_dir")
    late.__enter__()
    make_whole(tmp_path / "job")
    with pytest.raises(UserError, match="job is not an empty folder"):
      late.__exit__(None, None, None)
    assert set(content(tmp_path / "job")) == {"a.txt", "b.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["job"]

  def test_it_may_be_made_beside_another_folder(self, tmp_path):
    version = tmp_path / "model" / "1"
    with whole_folder(version, "--job_dir", beside=version.parent) as unfinished:
      assert unfinished.parent == tmp_path
      assert not version.parent.exists()
    assert version.is_dir()

  def test_killed_at_any_time_it_leaves_whole_folders(self, tmp_path, child):
    for kill in range(8):
      parent = tmp_path / str(kill)
      process = child(_make_for_ever, parent)
      wait_until((parent / "2").exists)
      time.sleep(0.001 * kill)
      process.kill()
      process.join()
      made = [path for path in parent.iterdir() if path.name[0] != "."]
      assert all(len(content(folder)) == NUM_FILES for folder in made)
      make_whole(parent / str(len(made)))
      assert not [path for path in parent.iterdir() if path.name[0] == "."]

  def test_another_process_at_work_is_left_alone(self, tmp_path, child):
    begun, go_on = SPAWN.Event(), SPAWN.Event()
    process = child(_make_slowly, tmp_path / "job", begun, go_on)
    assert begun.wait(PATIENCE_SECONDS)
    with pytest.raises(ValueError, match="stop"), whole_folder(tmp_path / "job", "--job_dir"):
      raise ValueError("stop")
    go_on.set()
    process.join(PATIENCE_SECONDS)
    assert set(content(tmp_path / "job")) == {"a.txt", "b.txt"}


@pytest.fixture(params=["tmpfs", "bind"])
def mounted(request, tmp_path):
  """Returns a function that runs Python where `tmp_path / "a disk"` is mounted.

  That is another disk, or another folder of the same, of which the number of the device says
  nothing.
  """
  disk, host = tmp_path / "a disk", tmp_path / "host"
  disk.mkdir()
  host.mkdir()
  options = {"tmpfs": ["-t", "tmpfs", "none"], "bind": ["--bind", str(host)]}[request.param]
  script = 'mount "$@" && exec "$PYTHON" -c "$CODE"'
  command = ["unshare", "-rm", "sh", "-ec", script, "sh", *options, str(disk)]

  def run(code):
    head = "from pathlib import Path\nfrom tests.folders_test import *\ndisk = Path(DISK)\n"
    environment = {
      **os.environ,
      "PYTHON": sys.executable,
      "PYTHONPATH": str(Path(__file__).parents[1]),
      "CODE": head.replace("DISK", repr(str(disk))) + code,
    }
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

  if shutil.which("unshare") is None or run("").returncode:
    pytest.skip("this system lets nobody mount a disk in a namespace of his own")
  return run


class TestMountedFolder:
  """As a volume of Docker or Kubernetes that is given as --output_dir."""

  def test_a_folder_below_it_is_made_in_one_move(self, mounted):
    process = mounted("""
with whole_folder(disk / "1", "--job_dir", beside=disk) as unfinished:
  assert unfinished.parent == disk and unfinished.name.startswith(".a disk.partial-")
  (unfinished / "a.txt").write_text("a")
assert [path.name for path in disk.iterdir()] == ["1"]
assert content(disk / "1") == {"a.txt": "a"}
make_whole(disk / "new" / "job")
assert set(content(disk / "new" / "job")) == {"a.txt", "b.txt"}
""")
    assert process.returncode == 0, process.stderr

  def test_it_is_filled_itself_and_what_was_written_last_comes_last(self, mounted):
    process = mounted("""
(disk / ".a disk.partial-0123").mkdir()  # A killed process has left it.
(disk / "lost+found").mkdir()  # New volumes have it.
moved = []
rename = Path.rename
Path.rename = lambda path, new: moved.append(path.name) or rename(path, new)
with whole_folder(disk, "--job_dir") as unfinished:
  for name in "cab":
    (unfinished / name).write_text(name)
    time.sleep(0.02)
(disk / "lost+found").rmdir()
assert content(disk) == {"a": "a", "b": "b", "c": "c"}
assert moved == ["c", "a", "b"]
""")
    assert process.returncode == 0, process.stderr

  def test_what_is_there_is_refused_and_what_fails_leaves_nothing(self, mounted):
    process = mounted("""
with pytest.raises(ValueError, match="my own"), whole_folder(disk, "--job_dir"):
  raise ValueError("my own")
assert not list(disk.iterdir())
with pytest.raises(UserError, match="not an empty folder"), whole_folder(disk, "--job_dir"):
  (disk / "late.txt").touch()
with pytest.raises(UserError, match="not an empty folder"), whole_folder(disk, "--job_dir"):
  pass
assert [path.name for path in disk.iterdir()] == ["late.txt"]
""")
    assert process.returncode == 0, process.stderr


def test_a_new_volume_can_be_claimed(tmp_path):
  (tmp_path / "lost+found").mkdir()
  assert claim_job(tmp_path)


def test_a_parent_that_cannot_be_written_is_named(child):
  with tempfile.TemporaryDirectory() as root:
    Path(root).chmod(0o555)
    messages = SPAWN.Queue()
    child(_try_as_nobody, Path(root), messages)
    for _ in range(2):
      message = messages.get(timeout=PATIENCE_SECONDS)
      assert message.startswith(f"{root}/job cannot be written: Permission denied. ")
      assert "mend its permissions or give --job_dir another folder" in message
    assert not list(Path(root).iterdir())


def _claim_all(parent, name, barrier, won):
  for index in range(NUM_FOLDERS):
    barrier.wait(PATIENCE_SECONDS)
    if claim_job(parent / str(index), name * 1000):
      won.put((str(index), name))


def _claim_for_ever(parent, text):
  for index in range(1_000_000):
    claim_job(parent / str(index), text)


def _make_for_ever(parent):
  for index in range(1_000_000):
    make_whole(parent / str(index), map(str, range(NUM_FILES)))


def _make_slowly(folder, begun, go_on):
  with whole_folder(folder, "--job_dir") as unfinished:
    (unfinished / "a.txt").touch()
    begun.set()
    assert go_on.wait(PATIENCE_SECONDS)
    (unfinished / "b.txt").touch()


def _try_as_nobody(parent, messages):
  if os.geteuid() == 0:
    os.setuid(NOBODY)
  for attempt in (claim_job, make_whole):
    try:
      attempt(parent / "job")
    except UserError as error:
      messages.put(str(error))
