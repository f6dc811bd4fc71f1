"""A database that is deleted or damaged is noticed, and never quietly begun again."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.algorithms.random_search import RandomSearch
from official_nasfpn.search.recipe import SearchRecipe, read_recipe
from official_nasfpn.search.report.found import read_trials
from official_nasfpn.search.store.schema import NoSearchYet
from official_nasfpn.search.store.trial_store import NewTrial, TrialStore
from official_nasfpn.search.workers.evaluation import Evaluation
from tests.search.one_process import search_in_one_process


def recipe(*bindings: str) -> SearchRecipe:
  return read_recipe(
    gin_params=[
      "Search.algorithm = @RandomSearch()",
      "Search.num_trials = 4",
      "Search.trials_per_update = 2",
      *bindings,
    ]
  )


def search(search_dir: Path, evaluate=lambda *_: Evaluation(0.5)) -> list:
  return search_in_one_process(recipe(), search_dir, evaluate)


def test_a_search_without_its_store_is_not_begun_again(tmp_path):
  assert isinstance(recipe().search.algorithm, RandomSearch)
  search(tmp_path)
  kept = tmp_path.with_name("copy.db")
  shutil.move(storage.database_path(tmp_path), kept)
  for start in (lambda: search(tmp_path), lambda: read_trials(tmp_path)):
    with pytest.raises(UserError, match=r"is a search without its store: .*search\.db is missing"):
      start()
    assert not storage.database_path(tmp_path).exists()
  # An empty file, or one without tables, is no store either.
  storage.database_path(tmp_path).touch()
  for _ in range(2):
    with pytest.raises(UserError, match="is a search without its store"):
      search(tmp_path)
  shutil.move(kept, storage.database_path(tmp_path))
  assert len(search(tmp_path)) == 4


def test_a_search_that_was_killed_before_it_had_a_store_begins(tmp_path):
  storage.settle_recipe(recipe(), tmp_path)
  with pytest.raises(NoSearchYet, match="There is no search"):
    read_trials(tmp_path)
  assert len(search(tmp_path)) == 4


@pytest.mark.parametrize("loss", ["deleted", "replaced", "whole directory"])
def test_a_store_that_is_lost_in_mid_run_ends_the_search(tmp_path, loss):
  search_dir = tmp_path / "search"
  database = storage.database_path(search_dir)
  evaluated = []

  def evaluate(*_):
    evaluated.append(1)
    if loss == "whole directory":
      shutil.rmtree(search_dir)
    else:
      database.unlink()
      if loss == "replaced":
        with contextlib.closing(TrialStore(tmp_path / "other.db")) as other:
          other.create()
        shutil.copyfile(tmp_path / "other.db", database)
    return Evaluation(0.5)

  with pytest.raises(UserError, match=r"search\.db was deleted or replaced while it was in use"):
    search(search_dir, evaluate)
  assert len(evaluated) == 1


def damage(path: Path, how: str) -> None:
  content = bytearray(path.read_bytes())
  if how == "truncated":
    content = content[: len(content) // 2]
  elif how == "overwritten":
    content[4096:] = b"\xaa" * (len(content) - 4096)
  elif how == "text":
    content = bytearray(b"no database at all " * 1000)
  path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "overwritten", "text"])
def test_a_damaged_store_is_named_by_controller_and_readers(tmp_path, how):
  search(tmp_path)
  damage(storage.database_path(tmp_path), how)
  for use in (lambda: search(tmp_path), lambda: read_trials(tmp_path)):
    with pytest.raises(
      UserError, match=r"search\.db cannot be (used|read): .*(malformed|not a da)"
    ):
      use()


@pytest.mark.parametrize(
  "statement",
  [
    "CREATE TABLE schema (version TEXT)",
    "CREATE TABLE schema (something_else)",
    "CREATE TABLE schema (version INTEGER)",
  ],
)
def test_a_database_of_somebody_else_is_refused(tmp_path, statement):
  with contextlib.closing(sqlite3.connect(storage.database_path(tmp_path))) as database, database:
    database.execute(statement)
    if "something" not in statement:
      database.execute("INSERT INTO schema VALUES ('2b')" if "TEXT" in statement else "SELECT 1")
    database.execute("CREATE TABLE trials (number INTEGER)")
  for use in (lambda: search(tmp_path), lambda: read_trials(tmp_path)):
    with pytest.raises(UserError):
      use()


def test_a_worker_fails_a_trial_whose_row_is_damaged_and_goes_on(tmp_path):
  with contextlib.closing(TrialStore(tmp_path / "search.db")) as store:
    store.create()
    store.propose([NewTrial(n, 1, (1,), (-1.0,), f"hash {n}", "") for n in (1, 2, 3)])
    with contextlib.closing(sqlite3.connect(tmp_path / "search.db")) as database, database:
      database.execute("UPDATE trials SET choices = ? WHERE number = 1", ("[" * 100_000,))
      database.execute("UPDATE trials SET architecture = X'00ff' WHERE number = 2")
    assert store.claim("a").number == 3
    states = [(trial.state, trial.attempt) for trial in store.trials()]
    assert states == [("failed", 0), ("failed", 0), ("running", 1)]
