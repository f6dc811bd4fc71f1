"""`python -m official_nasfpn.search` on a real proxy task, small enough for a test."""

import contextlib
import sqlite3
import time

import pytest

from official_nasfpn.architecture import SearchSpace, from_gin, to_gin
from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.fingerprint import code_fingerprint
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.report.events import read_events
from official_nasfpn.search.search import Search, dry_run
from official_nasfpn.search.store.trial import NewTrial
from official_nasfpn.search.store.trial_store import TrialStore
from tests.program_process import ProgramProcess

CODE = code_fingerprint()

RECIPE = """
Detector.backbone = 'R-10'
Detector.num_repeats = 1
Detector.num_filters = 8
Detector.head_num_convs = 1
Detector.image_size = (128, 128)
Training.batch_size = 4
Training.epochs = 1
Training.warmup_epochs = 0
Training.evaluation_batch_size = 4
Search.algorithm = @RandomSearch()
Search.num_trials = 2
Search.trials_per_update = 2
"""


@pytest.mark.slow
def test_a_search_from_data_to_result(tmp_path, run_program):
  data, search_dir = tmp_path / "some data", tmp_path / "some search"
  prepared = run_program(
    "prepare_data", "--synthetic", "--num_images=16", "--image_size=96", "--output_dir", data
  )
  assert prepared.returncode == 0, prepared.stderr
  recipe = tmp_path / "recipe.gin"
  recipe.write_text(RECIPE + f"Input.data_dir = {str(data)!r}\n")
  arguments = ("--gin_file", recipe, "--search_dir", search_dir)

  assert dry_run(read_recipe([recipe])).startswith(
    "2 trials of 1.93e+15 architectures, each like this:\nmodel "
  )
  assert dry_run(read_recipe([recipe], ["Search.confirm_top = 1"])).startswith(
    "2 trials of 1.93e+15 architectures and 2 trainings that confirm the best, each like this:\n"
  )
  assert not search_dir.exists()

  first = run_program("search", *arguments)
  assert first.returncode == 0, first.stderr
  assert "2 architectures sampled" in first.stdout
  best = from_gin((search_dir / "best_architecture.gin").read_text())
  store = TrialStore(storage.database_path(search_dir))
  trials = store.trials()
  store.close()
  assert {trial.state for trial in trials} == {"done"}
  assert best in [from_gin(trial.architecture) for trial in trials]
  # One update gives one point of the curve, although this algorithm does not need TensorFlow.
  assert [event.step for event in read_events(search_dir / "events")] == [1]
  # The stored recipe is resolved: it reads back unchanged, with every setting of the search.
  there = read_recipe([search_dir / "recipe.gin"])
  assert (search_dir / "recipe.gin").read_text() == there.to_gin()
  assert proxy_task.resolved(there) == there
  assert (there.search.num_trials, there.space) == (2, SearchSpace())

  # The Python interface shows the same search.
  search = Search(search_dir)
  assert search.run() == search.trials() == trials
  assert f"{search.table()}\n" == first.stdout
  assert search.recipe == there
  found = search.best()
  assert (found.architecture, found.reward) == (best, max(trial.reward for trial in trials))
  assert search.best(2).reward == min(trial.reward for trial in trials)
  with pytest.raises(UserError, match="there is no rank 3; 2 trials have a reward"):
    search.best(3)
  assert search.write_report().read_text().startswith("<!doctype html>")
  with pytest.raises(UserError, match=r"Detector.num_filters: 8 there, 16 now"):
    Search(search_dir, read_recipe([recipe], ["Detector.num_filters = 16"])).run()

  other = run_program("search", *arguments, "--gin_param", "Detector.num_filters=16")
  assert other.returncode == 1
  assert "Detector.num_filters: 8 there, 16 now" in other.stderr
  assert "Traceback" not in other.stderr


@pytest.mark.slow
def test_a_search_in_postgresql_whose_worker_shares_nothing_but_the_database(
  tmp_path, run_program, postgres, shapes_data, monkeypatch
):
  # The password must reach the search's own workers, and appear nowhere.
  search_dir, url = tmp_path / "search", postgres.new_database(password="s3cret")
  with_password = url.replace("@", ":s3cret@")
  monkeypatch.setenv("PGPASSWORD", "s3cret")
  recipe = tmp_path / "recipe.gin"
  recipe.write_text(RECIPE + f"Input.data_dir = {str(shapes_data)!r}\n")
  early = run_program("worker", "--store", url, "--wait_seconds", 0)
  assert early.returncode == 1
  assert "holds no search; start the search first" in early.stderr

  monkeypatch.delenv("PGPASSWORD")
  first = run_program(
    "search", "--gin_file", recipe, "--search_dir", search_dir, "--store", with_password
  )
  assert first.returncode == 0, first.stderr
  monkeypatch.setenv("PGPASSWORD", "s3cret")
  for path in (path for path in search_dir.rglob("*") if path.is_file()):
    assert b"s3cret" not in path.read_bytes(), path
  refused = run_program("search", "--search_dir", search_dir, "--status")
  assert refused.returncode == 1
  assert "the server asks for a password; set PGPASSWORD and give this address" in refused.stderr
  status = run_program("search", "--search_dir", search_dir, "--status", "--store", url)
  assert (status.returncode, status.stdout) == (0, first.stdout)
  recipe_there = (search_dir / "recipe.gin").read_text()

  # One more trial, for a worker that ends after one trial.
  store = TrialStore(url)
  assert store.recipe() == recipe_there
  best = store.best(1)[0]
  spec = from_gin(best.architecture)
  store.propose([NewTrial(3, 2, (), (), "another", to_gin(spec))])
  version = read_recipe([search_dir / "recipe.gin"]).version
  once = recipe_there.replace("trials_per_worker = 0", "trials_per_worker = 1")
  store.begin(once, version, CODE)
  worker = run_program("worker", "--store", url)
  assert worker.returncode == 0, worker.stderr
  assert "trial 3, attempt 1: reward" in worker.stdout
  (trial,) = store.trials(2)
  assert (trial.state, trial.metrics["AP"]) == ("done", trial.reward)
  # The same architecture, recipe and seed, in a temporary folder that was deleted.
  assert trial.reward == pytest.approx(best.reward, abs=0.05)
  store.begin(recipe_there, version, "other code")
  store.close()
  refused = run_program("worker", "--store", url)
  assert refused.returncode == 1
  assert "does not have the code of the search" in refused.stderr
  assert "Traceback" not in refused.stderr


def test_a_worker_says_that_its_shared_weights_are_its_own(run_program, tmp_path, postgres):
  url = postgres.new_database()
  store = TrialStore(url)
  store.create()
  # Without data a worker ends before its first trial.
  recipe = read_recipe(["gin/quickstart.gin"], ["Proxy.mode = 'shared'"])
  store.begin(recipe.to_gin(), recipe.version, CODE)
  store.close()
  told = "Proxy.mode = 'shared' without --work_dir: this worker and each that replaces it train"
  alone = run_program("worker", "--store", url)
  assert alone.stdout.count(told) == 1
  assert "Give --work_dir a directory that stays, if possible on a disk that all" in alone.stdout
  together = run_program("worker", "--store", url, "--work_dir", tmp_path / "work")
  assert told not in together.stdout
  for ended in (alone, together):
    assert ended.returncode == 1
    assert "No data: bind Input.data_dir" in ended.stderr


def test_a_worker_works_for_one_search(run_program, tmp_path):
  (tmp_path / "store.txt").write_text("postgresql+pg8000://me@host/other\n")
  other = "are in postgresql+pg8000://me@host/other, not in postgresql+pg8000://me@host/x"
  for arguments, message in (
    ([], "either --store or --search_dir is needed"),
    (["--store", "postgresql://me@host/x", "--search_dir", tmp_path], other),
    (["--store", f"sqlite:///{tmp_path}/search.db"], "in the file search.db of its --search_dir"),
  ):
    result = run_program("worker", *arguments)
    assert result.returncode == 1
    assert message in result.stderr


def test_the_recipe_in_a_store_is_data(run_program, tmp_path):
  secret = tmp_path / "secret.gin"
  secret.write_text("Search.seed = 's3cret'\n")
  search_dir = tmp_path / "search"
  search_dir.mkdir()
  store = TrialStore(storage.database_path(search_dir))
  store.create()
  store.begin("Search.seed = 1\n", "1", CODE)
  store.close()
  with contextlib.closing(sqlite3.connect(storage.database_path(search_dir))) as database, database:
    database.execute("UPDATE search SET recipe = ?", (f"include {str(secret)!r}\n",))
  result = run_program("worker", "--search_dir", search_dir)
  assert result.returncode == 1
  assert result.stderr == (
    "error: The recipe in the trial store: line 1: stored settings cannot include a file.\n"
  )
  assert [path.name for path in search_dir.iterdir()] == ["search.db"]


def test_a_directory_without_a_search_needs_a_recipe(tmp_path, run_program):
  result = run_program("search", "--search_dir", tmp_path / "new")
  assert result.returncode == 1
  assert "--gin_file is needed" in result.stderr
  assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--status", "--dry_run"], "--search_dir is needed with --status."),
    (["--status", "--plan"], "--search_dir is needed with --status."),
    (["--plan", "--dry_run"], "--status, --dry_run and --plan exclude each other."),
  ],
)
def test_flags_that_do_not_go_together(run_program, arguments, message):
  result = run_program("search", *arguments)
  assert result.returncode == 1
  assert message in result.stderr
  assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
  "ask",
  [
    Search.trials,
    Search.best,
    Search.table,
    Search.front,
    Search.write_report,
    lambda search: search.best_within("20ms"),
    lambda search: search.recipe,
  ],
)
def test_a_search_that_is_not_there_is_called_so(tmp_path, ask):
  nowhere = tmp_path / "nowhere"
  with pytest.raises(UserError, match=f"There is no search in {nowhere}: it has no "):
    ask(Search(nowhere))
  assert not nowhere.exists()


def test_an_unknown_setting_names_the_nearest(tmp_path, run_program):
  recipe = tmp_path / "recipe.gin"
  recipe.write_text("Search.num_trails = 3\n")
  result = run_program("search", "--gin_file", recipe, "--search_dir", tmp_path / "new")
  assert result.returncode == 1
  assert "Did you mean Search.num_trials?" in result.stderr


def test_a_worker_needs_a_search(tmp_path, run_program):
  result = run_program("worker", "--search_dir", tmp_path, "--wait_seconds", 0.1)
  assert result.returncode == 1
  assert f"There is no search in {tmp_path}" in result.stderr
  assert "This worker waited for 0.1 s." in result.stderr
  assert "Waiting for it for up to 0.1 s." in result.stdout
  assert "Traceback" not in result.stderr


def test_a_worker_waits_for_its_search(tmp_path):
  search_dir = tmp_path / "search"
  worker = ProgramProcess("official_nasfpn.worker", ["--search_dir", search_dir])
  wait_until(lambda: "Waiting for it for up to 10 min" in worker.stdout)
  search_dir.mkdir()
  with contextlib.closing(TrialStore(storage.database_path(search_dir))) as store:
    store.create()
    time.sleep(2.5)  # Another look finds a store that no search has begun in.
    assert worker.poll() is None
    store.begin(f"Input.data_dir = {str(tmp_path / 'nowhere')!r}\n", "1", CODE)
  # It goes on to the recipe, whose data is not there.
  assert worker.wait(60) == 1
  assert "nowhere" in worker.stderr
  assert worker.stdout.count("Waiting") == 1


def wait_until(condition) -> None:
  deadline = time.monotonic() + 60
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.05)
