"""Rows that hold no trial are left out of the report by name, and cost nobody the rest."""

import contextlib
import sqlite3

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.report.found import best_trials, read_search, read_trials
from official_nasfpn.search.report.html.table import costs_detector
from official_nasfpn.search.report.trade_offs import pyramid_of
from official_nasfpn.search.search import Search
from official_nasfpn.search.store.trial_store import TrialStore
from tests.search.report.searches import eventful_search

DEEP = "[" * 100_000
# What is set in the row of trial 2, the best, and what is said of it.
DAMAGES = {
  "deep nesting": ("metrics", DEEP, "metrics is '[[[["),
  "no JSON": ("metrics", "{", "metrics is '{'"),
  "a list of metrics": ("metrics", "[1]", "metrics is '[1]'"),
  "a text as reward": ("reward", "best", "reward is 'best'"),
  "an infinite reward": ("reward", float("inf"), "reward is inf"),
  "bytes as reward": ("reward", b"\xff", "reward is b'"),
  "no reward": ("reward", None, "it is done and has no reward"),
  "the result of another": ("reused_from", 1, "it is done and reused from 1"),
  "an absurd time": ("finished_at", 1e300, "finished_at is 1e+300"),
  "a time before all times": ("proposed_at", -1e300, "proposed_at is -1e+300"),
  "an unknown state": ("state", "eaten", "state is 'eaten'"),
  "choices of another kind": ("choices", '{"a": 1}', "choices is '{"),
  "probabilities that are none": ("log_probs", '["x"]', "log_probs is "),
  "a huge number": ("attempt", "9" * 5000, "attempt is "),
  "bytes as architecture": ("architecture", b"\x00\xff", "architecture is b'"),
}


@pytest.fixture
def search_dir(tmp_path):
  eventful_search(tmp_path)
  return tmp_path


def update(search_dir, statement: str, *values) -> None:
  with contextlib.closing(sqlite3.connect(storage.database_path(search_dir))) as database, database:
    database.execute("PRAGMA ignore_check_constraints = 1")
    database.execute(statement, values)


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_row_is_left_out_and_named(search_dir, kind, capsys):
  column, value, said = DAMAGES[kind]
  before = read_trials(search_dir)
  update(search_dir, f"UPDATE trials SET {column} = ? WHERE number = 2", value)
  assert read_trials(search_dir) == [trial for trial in before if trial.number != 2]
  warning = capsys.readouterr().err
  assert warning.startswith(f"warning: {storage.database_path(search_dir)}: 1 damaged row is left")
  assert f"trial 2 ({said}" in warning
  assert len(warning) < 400
  search = Search(search_dir)
  assert search.best().trial == 1
  table = search.table()
  assert "\n   1    0.2500       1" in table
  if column not in ("reward", "finished_at"):
    return
  report = search.write_report().read_text()
  assert "1 damaged row" in report
  assert "trial 2 (" in report
  assert report.count('<tr id="trial-') == 8


def test_many_damaged_rows_are_counted(search_dir, capsys):
  update(search_dir, "UPDATE trials SET state = 1 WHERE number <= 8")
  assert [trial.number for trial in read_trials(search_dir)] == [9]
  assert "8 damaged rows are left out: trial 1 (state is '1'), trial 2" in (
    warning := capsys.readouterr().err
  )
  assert "and 3 more" in warning


@pytest.mark.parametrize("seconds", [float("inf"), -5.0, 1e300, "long", b"\xff"])
def test_seconds_that_are_none_are_not_summed(search_dir, seconds):
  update(search_dir, "UPDATE trials SET seconds = 7200")
  update(search_dir, "UPDATE trials SET seconds = ? WHERE number = 2", seconds)
  with contextlib.closing(TrialStore(storage.database_path(search_dir))) as store:
    assert store.overview(3).worker_hours == 16


def test_workers_that_are_no_names_are_left_out(search_dir):
  update(search_dir, "UPDATE trials SET state = 'running', worker = NULL WHERE number <= 4")
  update(search_dir, "UPDATE trials SET state = 'running', worker = X'00ff' WHERE number = 5")
  update(search_dir, "UPDATE trials SET state = 'running', worker = 'w' WHERE number = 6")
  with contextlib.closing(TrialStore(storage.database_path(search_dir))) as store:
    assert "w" in store.running_workers()
    assert all(isinstance(name, str) for name in store.running_workers())


def test_a_worker_of_trials_that_have_not_ended_has_cost_nothing(search_dir):
  # Damaged so that seconds are left, as of a trial that has ended.
  update(search_dir, "UPDATE trials SET state = 'queued'")
  page = Search(search_dir).write_report().read_text()
  assert "Cost by worker" not in page


def test_text_that_is_no_utf8_is_shown_as_such(search_dir):
  update(search_dir, "UPDATE trials SET worker = CAST(X'77ff' AS TEXT) WHERE number = 2")
  assert best_trials(read_trials(search_dir))[0].worker == "w\ufffd"
  assert "w\ufffd" in Search(search_dir).write_report().read_text()


@pytest.mark.parametrize("value", [DEEP, "{", "[]", '{"entropy": "x"}', '{"entropy": NaN}', None])
def test_damaged_metrics_are_left_out(search_dir, value):
  if value is None:
    update(search_dir, "UPDATE updates SET metrics = X'ff' WHERE number = 1")
  else:
    update(search_dir, "UPDATE updates SET metrics = ? WHERE number = 1", value)
  assert "entropy" not in read_search(search_dir).metrics.get(1, {})
  assert read_search(search_dir).metrics[2]["entropy"] == 1.5


@pytest.mark.parametrize("value", ["1e999", "NaN", "-1", '"many"', "9" * 300, "[1]"])
def test_a_cost_that_is_none_is_not_shown(search_dir, value):
  metrics = f'{{"multiply_adds": {value}}}'
  update(search_dir, "UPDATE trials SET metrics = ? WHERE number = 2", metrics)
  trials = read_trials(search_dir)
  assert len(trials) == 9
  assert not costs_detector(trials)


@pytest.mark.parametrize(
  "text", ["(" * 50_000, "x = " + "[" * 5000 + "]" * 5000, "\0", "=", "é" * 9]
)
def test_an_architecture_that_is_none_is_still_a_row(search_dir, text):
  update(search_dir, "UPDATE trials SET architecture = ? WHERE number = 2", text)
  assert '<tr id="trial-2">' in Search(search_dir).write_report().read_text()
  # It is the best, and the table asks for its size.
  (trial,) = (trial for trial in read_trials(search_dir) if trial.number == 2)
  assert pyramid_of(trial) is None
  assert "000002" in Search(search_dir).table().splitlines()[2]


@pytest.mark.parametrize(
  "content",
  [
    b"\xff\xfe\x00",
    b"(" * 50_000,
    b"Search.num_trials = " + b"[" * 5000 + b"]" * 5000,
    b"Search.num_trials = 'many'",
    b"Search.num_trials = 1e400",
    b"Search.algorithm = @Nothing()",
    b"Search.seed = " + b"9" * 5000,
    b"\0" * 1000,
  ],
)
def test_a_damaged_recipe_is_one_sentence(search_dir, content):
  storage.recipe_path(search_dir).write_bytes(content)
  with pytest.raises(UserError) as error:
    Search(search_dir).write_report()
  assert str(storage.recipe_path(search_dir)) in str(error.value) or "Search." in str(error.value)
  assert len(str(error.value)) < 500
