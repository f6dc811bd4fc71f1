"""Trial stores in which somebody or a broken disk has written: sound trials, or one sentence."""

import contextlib
import math
import sqlite3

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from official_nasfpn.search import storage
from official_nasfpn.search.report.found import read_trials
from official_nasfpn.search.search import Search
from official_nasfpn.search.store import schema
from official_nasfpn.search.store.rows import is_damaged
from official_nasfpn.search.store.trial import DONE, REUSED
from official_nasfpn.search.store.trial_store import TrialStore
from tests.fuzz.fuzzing import examples, opened_files, unless_refused
from tests.fuzz.mutations import mutated
from tests.search.report.searches import eventful_search

VALUES = st.one_of(
  st.none(),
  st.integers(-2, 12),
  st.floats(),
  st.binary(max_size=6),
  st.text(st.characters(codec="utf-8"), max_size=6),
  st.sampled_from(
    [
      -(2**63),
      2**63 - 1,
      1e300,
      -1e300,
      "",
      "[",
      "[" * 50_000,
      "{}",
      "[]",
      "[1]",
      '["x"]',
      "[NaN]",
      "[1e999]",
      f"[{'9' * 5000}]",
      '{"AP": "x"}',
      '{"AP": NaN, "multiply_adds": -1}',
      '{"stopped_at": [1]}',
      '{"parameters": 1e400}',
      "done",
      "failed",
      "queued",
      "running",
      "reused",
      "eaten",
      "1",
      "NaN",
      "9" * 5000,
      "<script>alert(1)</script>",
      "\x1b[2J\u202e",
      "\0",
      "PyramidSpec.cells = ()",
      "include '/etc/hostname'\n",
      "(" * 20_000,
    ]
  ),
)
TABLES = (schema.trials, schema.updates, schema.measurements, schema.search, schema.schema)
COLUMNS = [(table.name, column.name) for table in TABLES for column in table.columns]
# Most of them in trials, which is what people and programs look at.
TRIAL_COLUMNS = [("trials", column.name) for column in schema.trials.columns]
EDITS = st.lists(
  st.tuples(
    st.one_of(st.sampled_from(TRIAL_COLUMNS), st.sampled_from(COLUMNS)),
    st.one_of(st.integers(1, 9), st.just(0)),
    VALUES,
  ),
  min_size=1,
  max_size=4,
)


class Damaged:
  """A search whose store is made anew for every input."""

  def __init__(self, search_dir):
    self.search_dir = search_dir
    eventful_search(search_dir)
    self.path = storage.database_path(search_dir)
    with contextlib.closing(sqlite3.connect(self.path)) as database:
      database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
      database.execute("PRAGMA journal_mode = DELETE")
    self.content = self.path.read_bytes()
    self.trials = {trial.number: trial for trial in read_trials(search_dir)}

  def reset(self, content=None):
    for name in self.search_dir.glob(f"{self.path.name}-*"):
      name.unlink()
    self.path.write_bytes(self.content if content is None else content)

  def edit(self, edits):
    """Writes values into rows; returns whether SQLite took them all."""
    with contextlib.closing(sqlite3.connect(self.path)) as database, database:
      database.execute("PRAGMA foreign_keys = 0")
      database.execute("PRAGMA ignore_check_constraints = 1")
      for (table, column), number, value in edits:
        # Rows by their place: 0 is all of them.
        where = f" WHERE rowid = {number}" if number else ""
        with contextlib.suppress(sqlite3.IntegrityError):
          database.execute(f"UPDATE {table} SET {column} = ?{where}", (value,))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
  return Damaged(tmp_path_factory.mktemp("search"))


def check_readers(damaged):
  """Asks a search for all that people ask it; returns its trials."""
  search = Search(damaged.search_dir)
  page = damaged.search_dir / "report.html"
  with opened_files() as opened:
    trials = unless_refused(search.trials)
    for ask in (search.table, search.best):
      unless_refused(ask)
    assert not [path for path, writes in opened if writes]
  if unless_refused(lambda: search.write_report(page)):
    text = page.read_text(encoding="utf-8")
    assert "<script>alert(1)" not in text
    event("reported")
  for trial in trials or ():
    if trial.state == DONE:
      assert math.isfinite(trial.reward)
      assert math.isfinite(trial.finished_at)
    assert all(isinstance(choice, int) for choice in trial.choices)
  return trials


def check_store(damaged):
  """Lets a controller and a worker work on a store."""
  store = TrialStore(damaged.path, outage_seconds=0.0)
  try:
    for use in (
      store.create,
      store.begun_recipe,
      store.retry_dead,
      store.release_expired,
      store.counts,
      store.running_progress,
      store.latest_update,
      store.latest_snapshot,
      store.metrics,
      store.timeline,
      store.running_workers,
      lambda: store.finished_and_not_learnt(5),
      lambda: store.overview(3),
    ):
      unless_refused(use)
    trial = unless_refused(lambda: store.claim("new"))
    if trial is not None and not is_damaged(trial):
      event("claimed")
      unless_refused(lambda: store.renew(trial.number, trial.attempt, 0.5))
      unless_refused(lambda: store.measure(trial.number, trial.attempt, 0.5, 0.25))
      if unless_refused(lambda: store.report_reward(trial.number, trial.attempt, 0.75)):
        # A row may have become a confirmation, which is no trial of its own.
        trials = unless_refused(lambda: [*store.trials(), *store.confirmations()])
        if trials is not None:
          [again] = [found for found in trials if found.number == trial.number]
          assert is_damaged(again) or again.reward == 0.75
  finally:
    store.close()


@examples(25, cost=4)
@given(edits=EDITS)
def test_rows_of_any_values(damaged, edits):
  damaged.reset()
  damaged.edit(edits)
  trials = check_readers(damaged)
  changed = {number for (table, _), number, _ in edits if table == "trials"}
  tables = {table for (table, _), _, _ in edits}
  if trials is not None and tables == {"trials"} and 0 not in changed:
    event("the other trials are as they were")
    found = {trial.number: trial for trial in trials}
    for number, trial in damaged.trials.items():
      # A reused trial has the result of another, which may be damaged.
      if number not in changed and trial.state != REUSED:
        assert found[number] == trial
  check_store(damaged)


@examples(25, cost=4)
@given(data=st.data())
def test_a_damaged_file(damaged, data):
  pieces = [b"\0", b"\xff", b"\xff" * 64, b"\0" * 512, b"SQLite format 3\0", b"\0\0\0\1"]
  damaged.reset(data.draw(mutated([damaged.content], pieces)))
  check_readers(damaged)
  check_store(damaged)
