"""Confirmations in the store: trials for workers, and further rewards of a trial for readers."""

import re

import pytest
import sqlalchemy as sa

from official_nasfpn.search.report.found import read_search
from official_nasfpn.search.store.trial import Counts, NewTrial


def new_trial(number: int, confirms: int | None = None, seed_offset: int = 0) -> NewTrial:
  name = confirms or number
  return NewTrial(number, 1, (name,), (-0.5,), f"hash {name}", f"# {name}", confirms, seed_offset)


@pytest.fixture
def store(open_store):
  """Returns a store with four trials of rewards 0.1 to 0.4, the last of which reuses the first."""
  store = open_store()
  store.begin("", "1", "code")
  trials = [new_trial(number) for number in (1, 2, 3)]
  store.propose([*trials, NewTrial(4, 2, (1,), (-0.5,), "hash 1", "# 1")])
  for number in (1, 2, 3):
    store.report_reward(number, store.claim("a").attempt, number / 10)
  store.mark_learnt(1, [1, 2, 3], b"", {})
  return store


@pytest.fixture
def confirmed(store):
  """Returns the store with two confirmations of trials 3 and 2; trial 2 is then the better one."""
  confirmations = [new_trial(5, 3, 1), new_trial(6, 2, 1), new_trial(7, 3, 2), new_trial(8, 2, 2)]
  store.propose(confirmations)
  store.propose(confirmations)  # The answer to the first was lost.
  for reward in (0.1, 0.3, 0.2, 0.4):
    trial = store.claim("b")
    store.report_reward(trial.number, trial.attempt, reward)
  return store


def test_a_confirmation_is_trained_though_its_architecture_is_known(store):
  store.propose([new_trial(5, 3, 1), new_trial(6, 3, 2)])
  trial = store.claim("b")
  assert (trial.number, trial.confirms, trial.seed_offset) == (5, 3, 1)
  assert (trial.state, trial.reused_from, trial.architecture) == ("running", None, "# 3")
  assert store.counts() == Counts(4, 4, 3, 0, 1, 3, 1, 1, learnt=3, confirmations=2, confirming=2)
  assert store.renew(5, 1, 0.5)
  assert store.running_progress() == 0.5
  assert store.release("b", "worker died (signal 9)") == 1
  assert store.claim("c").number == 5
  assert store.report_failure(5, 2, "NaN loss", diverged=True)
  counts = store.counts()
  assert (counts.failed, counts.confirming) == (0, 1)
  (failed,) = store.overview(3).failed_confirmations
  assert (failed.number, failed.confirms, failed.failure) == (5, 3, "NaN loss")
  # Left out: what is not confirmed has one reward.
  assert [(trial.number, trial.rewards) for trial in store.best(1)] == [(3, (0.3,))]


def test_readers_see_further_rewards_of_the_trial(confirmed):
  trials = confirmed.trials()
  assert [trial.number for trial in trials] == [1, 2, 3, 4]
  assert [trial.further_rewards for trial in trials] == [(), (0.3, 0.4), (0.1, 0.2), ()]
  assert [row.number for row in confirmed.timeline()] == [1, 2, 3, 4]
  assert [trial.number for trial in confirmed.confirmations()] == [5, 6, 7, 8]
  assert [trial.number for trial in confirmed.finished_and_not_learnt(9)] == [4]
  assert confirmed.counts() == Counts(4, 4, 3, 0, 1, 3, 0, 0, learnt=3, confirmations=4)


def test_the_best_are_ranked_by_their_means_and_confirmed_ones_come_first(confirmed):
  assert [trial.number for trial in confirmed.best(9)] == [2, 3, 1]
  assert confirmed.best(1)[0].mean_reward == pytest.approx(0.3)
  assert confirmed.best(2) == [confirmed.trials()[1], confirmed.trials()[2]]
  assert confirmed.best(0) == []
  overview = confirmed.overview(3)
  assert [trial.number for trial in overview.best] == [2, 3, 1]
  assert (overview.sampled, overview.trained, overview.unfinished) == (4, 3, 0)
  # By rewards of their own, nothing has changed.
  assert [t.number for t in confirmed.greatest_rewards(2, lambda trial: True)] == [3, 2]
  assert [t.number for t in confirmed.greatest_rewards(2, lambda t: t.number < 3)] == [2, 1]


def test_an_architecture_that_comes_after_its_confirmation_reuses_the_trial(confirmed):
  confirmed.propose([NewTrial(9, 3, (3,), (-0.5,), "hash 3", "# 3")])
  trial = confirmed.trials()[-1]
  assert (trial.number, trial.state, trial.reused_from, trial.reward) == (9, "reused", 3, 0.3)


def test_a_confirmation_that_failed_by_deaths_is_tried_again(open_store, store):
  store.propose([new_trial(5, 3, 1)])
  for _ in range(3):
    store.claim("b")
    store.release("b", "worker died (signal 9)")
  assert store.counts().confirming == 0
  patient = open_store(max_attempts=4)
  assert patient.retry_dead() == 1
  assert patient.counts().confirming == 1
  assert patient.counts().learnt == 3


class TestSqlite:
  """What only a file can have, or shows best."""

  @pytest.fixture
  def place(self, tmp_path):
    return tmp_path / "search.db"

  @pytest.mark.parametrize(
    ("damage", "named", "ranking"),
    [
      ("seed_offset = 'x' WHERE number = 5", 5, [2, 3, 1]),
      ("reward = 'x' WHERE number = 6", 6, [2, 3, 1]),
      ("confirms = 'x' WHERE number = 8", 8, [2, 3, 1]),
      ("reward = 'x' WHERE number = 2", 2, [3, 1]),
      ("confirms = 3 WHERE number = 2", None, [3, 1]),
    ],
  )
  def test_damaged_rows_cost_themselves(self, confirmed, execute, tmp_path, damage, named, ranking):
    execute("PRAGMA foreign_keys = 0")
    execute(f"UPDATE trials SET {damage}")
    assert [trial.number for trial in confirmed.best(9)] == ranking
    found = read_search(tmp_path)
    assert [trial.number for trial in found.damaged] == ([] if named is None else [named])
    overview = confirmed.overview(9)
    assert [trial.number for trial in overview.damaged] == [t.number for t in found.damaged]
    assert overview.failed_confirmations == ()

  def test_no_question_of_a_long_search_reads_all_rows(self, confirmed):
    engine = confirmed._database._engine
    asked = []

    def note(connection, cursor, statement, parameters, context, executemany):
      if statement.startswith("SELECT"):
        asked.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", note)
    confirmed.counts()
    confirmed.best(3)
    confirmed.greatest_rewards(3, lambda trial: True)
    confirmed.confirmations()
    confirmed.finished_and_not_learnt(20)
    sa.event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
      plans = [
        row[3]
        for statement, parameters in asked
        for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
      ]
    assert any("confirmations_by_number" in plan for plan in plans)
    assert any("USING COVERING INDEX trials_by_state" in plan for plan in plans)
    assert not [plan for plan in plans if re.fullmatch(r"SCAN trials", plan)], plans
