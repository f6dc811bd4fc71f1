"""A store that an earlier version of the program wrote can be continued."""

import sqlite3
from pathlib import Path

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.search.report.found import read_trials
from official_nasfpn.search.store.trial import Counts, NewTrial
from official_nasfpn.search.store.trial_store import TrialStore

# A store of version 1, as of July 2026.
VERSION_1 = """
CREATE TABLE schema (version INTEGER NOT NULL);
CREATE TABLE trials (
  number INTEGER NOT NULL,
  update_number INTEGER NOT NULL,
  choices TEXT NOT NULL,
  log_probs TEXT NOT NULL,
  architecture_hash TEXT NOT NULL,
  architecture TEXT NOT NULL,
  state TEXT NOT NULL,
  reused_from INTEGER,
  attempt INTEGER NOT NULL,
  deaths INTEGER NOT NULL,
  worker TEXT,
  lease_expires DOUBLE,
  progress DOUBLE NOT NULL,
  reward DOUBLE,
  failure TEXT,
  diverged BOOLEAN NOT NULL,
  proposed_at DOUBLE NOT NULL,
  started_at DOUBLE,
  finished_at DOUBLE,
  seconds DOUBLE,
  PRIMARY KEY (number),
  FOREIGN KEY(reused_from) REFERENCES trials (number)
);
CREATE INDEX ix_trials_state ON trials (state);
CREATE INDEX ix_trials_architecture_hash ON trials (architecture_hash);
CREATE INDEX ix_trials_update_number ON trials (update_number);
CREATE TABLE updates (
  number INTEGER NOT NULL,
  metrics TEXT NOT NULL,
  learnt_at DOUBLE NOT NULL,
  snapshot BLOB,
  PRIMARY KEY (number)
);
INSERT INTO schema VALUES (1);
INSERT INTO updates VALUES (1, '{"entropy": 1.5}', 20.0, x'00ff');
INSERT INTO trials VALUES
  (1, 1, '[1, 2]', '[-0.5, -0.25]', 'a', '# a', 'done', NULL, 2, 1, 'worker-0', NULL, 1.0,
   0.25, NULL, 0, 1.0, 2.0, 9.0, 7.0),
  (2, 1, '[1, 3]', '[-0.5, -0.25]', 'b', '# b', 'failed', NULL, 1, 0, 'worker-1', NULL, 0.5,
   NULL, 'NaN loss', 1, 1.0, 2.0, 5.0, 3.0),
  (3, 1, '[2, 1]', '[-0.5, -0.25]', 'a', '# a', 'reused', 1, 0, 0, NULL, NULL, 0.0,
   NULL, NULL, 0, 1.0, NULL, NULL, NULL),
  (4, 2, '[1, 4]', '[-0.5, -0.25]', 'c', '# c', 'running', NULL, 1, 0, 'worker-0', 130.0, 0.5,
   NULL, NULL, 0, 21.0, 22.0, NULL, NULL),
  (5, 2, '[1, 5]', '[-0.5, -0.25]', 'd', '# d', 'queued', NULL, 1, 1, 'worker-1', NULL, 0.0,
   NULL, 'worker died (signal 9)', 0, 21.0, 22.0, NULL, NULL);
"""


# What version 2, of August 2026, has in addition.
VERSION_2 = """
ALTER TABLE trials ADD COLUMN metrics TEXT DEFAULT '{}' NOT NULL;
ALTER TABLE trials ADD COLUMN learnt_in INTEGER;
UPDATE trials SET learnt_in = 1 WHERE update_number = 1;
DROP INDEX ix_trials_state;
CREATE INDEX ix_trials_learnt_in ON trials (learnt_in);
CREATE INDEX trials_by_reward ON trials (state, reward);
CREATE INDEX trials_by_state ON trials (state, number, reused_from);
CREATE TABLE measurements (
  trial INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  share DOUBLE NOT NULL,
  value DOUBLE NOT NULL,
  measured_at DOUBLE NOT NULL,
  PRIMARY KEY (trial, attempt, share),
  FOREIGN KEY(trial) REFERENCES trials (number)
);
CREATE INDEX ix_measurements_share ON measurements (share);
CREATE TABLE search (
  id INTEGER NOT NULL,
  recipe TEXT NOT NULL,
  recipe_version TEXT NOT NULL,
  code_version TEXT NOT NULL,
  begun_at DOUBLE NOT NULL,
  PRIMARY KEY (id)
);
INSERT INTO search VALUES (1, '', '1', 'code', 1.0);
UPDATE schema SET version = 2;
"""


@pytest.fixture(params=[1, 2])
def version(request) -> int:
  return request.param


@pytest.fixture
def path(tmp_path, version) -> Path:
  path = tmp_path / "search.db"
  database = sqlite3.connect(path)
  database.executescript(VERSION_1 if version == 1 else VERSION_1 + VERSION_2)
  database.close()
  return path


@pytest.fixture
def store(path):
  store = TrialStore(path, clock=lambda: 100.0)
  yield store
  store.close()


def test_every_trial_is_kept(store):
  store.create()
  store.create()
  done, failed, reused, running, queued = store.trials()
  assert (done.state, done.reward, done.attempt, done.seconds) == ("done", 0.25, 2, 7.0)
  assert (done.choices, done.log_probs, done.architecture) == ((1, 2), (-0.5, -0.25), "# a")
  assert (failed.state, failed.failure, failed.diverged) == ("failed", "NaN loss", True)
  assert (reused.state, reused.reused_from, reused.reward) == ("reused", 1, 0.25)
  assert (running.state, running.worker, running.progress) == ("running", "worker-0", 0.5)
  assert (queued.state, queued.failure) == ("queued", "worker died (signal 9)")
  assert [trial.metrics for trial in store.trials()] == [{}] * 5
  assert store.latest_snapshot() == (1, b"\x00\xff")
  assert store.metrics() == {1: {"entropy": 1.5}}
  assert store.counts() == Counts(5, 3, 1, 1, 1, 4, 1, 1, learnt=3)


def test_the_search_goes_on(store, path):
  store.create()
  store.begin("", "1", "code")
  # A worker that runs during the migration is not disturbed.
  assert store.renew(4, 1, 0.75)
  assert store.claim("another").number == 5
  assert store.measure(4, 1, 0.5, 0.125) == []
  assert store.report_reward(4, 1, 0.5, {"AP": 0.5})
  store.propose([NewTrial(6, 3, (), (), "c", "# c")])
  assert (store.trials(3)[0].reward, store.trials(3)[0].metrics) == (0.5, {"AP": 0.5})
  database = sqlite3.connect(path)
  indexes = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
  database.close()
  fresh = TrialStore(path.with_name("fresh.db"))
  fresh.create()
  fresh.close()
  database = sqlite3.connect(path.with_name("fresh.db"))
  assert {name for (name,) in database.execute("SELECT name FROM sqlite_master")} == indexes
  database.close()


def test_the_best_of_an_earlier_search_are_confirmed(store):
  store.create()
  store.propose([NewTrial(6, 1, (), (), "a", "# a", confirms=1, seed_offset=1)])
  assert [store.claim("another").number for _ in range(2)] == [5, 5]
  assert store.report_reward(5, 2, 0.125)
  trial = store.claim("another")
  assert (trial.number, trial.confirms, trial.seed_offset) == (6, 1, 1)
  assert store.report_reward(6, trial.attempt, 0.375)
  assert [(t.number, t.rewards) for t in store.best(9)] == [(1, (0.25, 0.375)), (5, (0.125,))]
  assert store.counts() == Counts(5, 4, 2, 1, 1, 4, 1, 0, learnt=3, confirmations=1)


def test_who_does_not_lead_the_search_says_what_to_do(store, path, version):
  for ask in (store.check_version, store.recipe, lambda: store.join("a", "", "")):
    with pytest.raises(
      UserError, match=f"earlier version .*version {version}.*Continue the search with"
    ):
      ask()
  with pytest.raises(UserError, match="earlier version"):
    read_trials(path.parent)
  store.create()
  assert len(read_trials(path.parent)) == 5


def test_a_migration_that_fails_changes_nothing(store, path, version):
  database = sqlite3.connect(path)
  # Another table already has an index of this name, so the migration fails halfway.
  database.execute("CREATE INDEX confirmations_by_number ON updates (number)")
  if version == 1:
    database.execute("CREATE TABLE search (id TEXT)")
  database.commit()
  before = database.execute("SELECT sql FROM sqlite_master").fetchall()
  with pytest.raises(Exception, match="already exists"):
    store.create()
  assert database.execute("SELECT sql FROM sqlite_master").fetchall() == before
  assert database.execute("SELECT version FROM schema").fetchall() == [(version,)]
  database.close()
