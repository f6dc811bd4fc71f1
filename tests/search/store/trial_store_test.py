"""The contract of the trial store, whatever database it is in."""

import multiprocessing
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from official_nasfpn.errors import UserError
from official_nasfpn.search.store.trial_store import NewTrial, TrialStore


def new_trial(number: int, architecture_hash: str | None = None, update: int = 1) -> NewTrial:
  return NewTrial(
    number=number,
    update=update,
    choices=(number, 1),
    log_probs=(-0.1, -1 / 3),
    architecture_hash=architecture_hash or f"hash {number}",
    architecture=f"# trial {number}",
  )


@pytest.fixture
def path(tmp_path) -> Path:
  return tmp_path / "search.db"


@pytest.fixture
def open_store(path):
  stores = []

  def open_(lease_seconds: float = 60.0, max_attempts: int = 3) -> TrialStore:
    stores.append(TrialStore(path, lease_seconds, max_attempts))
    stores[-1].create()
    return stores[-1]

  yield open_
  for store in stores:
    store.close()


class TestProposing:
  def test_what_is_proposed_is_read_back_exactly(self, open_store):
    open_store().propose([new_trial(1), new_trial(2, update=2)])
    first, second = open_store().trials()
    assert (first.number, first.update, first.state) == (1, 1, "queued")
    assert (first.choices, first.log_probs) == ((1, 1), (-0.1, -1 / 3))
    assert (first.architecture, first.architecture_hash) == ("# trial 1", "hash 1")
    assert [second] == open_store().trials(update=2)

  def test_a_batch_is_added_whole_or_not_at_all(self, open_store):
    store = open_store()
    store.propose([new_trial(2)])
    with pytest.raises(sa.exc.IntegrityError):
      store.propose([new_trial(1), new_trial(2)])
    assert [trial.number for trial in store.trials()] == [2]

  def test_creating_again_keeps_everything(self, open_store):
    open_store().propose([new_trial(1)])
    open_store().create()
    assert len(open_store().trials()) == 1

  def test_a_store_of_another_version_is_refused(self, open_store, path):
    open_store()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
      connection.execute(sa.text("UPDATE schema SET version = 99"))
    engine.dispose()
    with pytest.raises(UserError, match="version 99, this program reads version 1"):
      open_store()


class TestReuse:
  def test_a_repeated_architecture_is_never_handed_out(self, open_store):
    store = open_store()
    store.propose([new_trial(1, "same"), new_trial(2, "same"), new_trial(3, "other")])
    assert [store.claim("a").number, store.claim("a").number] == [1, 3]
    assert store.claim("a") is None

  def test_the_reward_is_that_of_the_twin_whenever_it_comes(self, open_store):
    store = open_store()
    store.propose([new_trial(1, "same"), new_trial(2, "same")])
    trial = store.claim("a")
    reused = store.trials()[1]
    assert (reused.state, reused.reused_from, reused.is_finished) == ("reused", 1, False)
    store.report_reward(1, trial.attempt, 0.25)
    store.propose([new_trial(3, "same", update=2)])
    for reused in store.trials()[1:]:
      assert (reused.state, reused.reused_from) == ("reused", 1)
      assert (reused.reward, reused.is_finished) == (0.25, True)

  def test_the_failure_of_the_twin_is_reused_too(self, open_store):
    store = open_store()
    store.propose([new_trial(1, "same"), new_trial(2, "same")])
    store.report_failure(1, store.claim("a").attempt, "NaN loss", diverged=True)
    reused = store.trials()[1]
    assert (reused.failure, reused.diverged, reused.reward) == ("NaN loss", True, None)
    assert reused.is_finished


class TestClaiming:
  def test_the_lowest_trial_comes_first(self, open_store):
    store = open_store()
    store.propose([new_trial(3), new_trial(1), new_trial(2)])
    claimed = [store.claim("a") for _ in range(3)]
    assert [trial.number for trial in claimed] == [1, 2, 3]
    assert {(trial.attempt, trial.worker, trial.state) for trial in claimed} == {
      (1, "a", "running")
    }
    assert store.claim("a") is None

  def test_many_processes_do_each_trial_exactly_once(self, open_store, path, tmp_path):
    store = open_store()
    store.propose([new_trial(number) for number in range(1, 61)])
    # Not fork: the parent's connections are no good in a child.
    context = multiprocessing.get_context("spawn")
    processes = [
      context.Process(target=_work_until_none_is_left, args=(path, tmp_path / f"worker-{i}"))
      for i in range(3)
    ]
    for process in processes:
      process.start()
    for process in processes:
      process.join()
      assert process.exitcode == 0
    done = [int(n) for i in range(3) for n in (tmp_path / f"worker-{i}").read_text().split()]
    assert sorted(done) == list(range(1, 61))
    assert all(trial.state == "done" and trial.attempt == 1 for trial in store.trials())

  def test_threads_of_one_process_may_share_a_store(self, open_store):
    store = open_store()
    store.propose([new_trial(number) for number in range(1, 41)])
    claimed = []

    def work():
      while trial := store.claim("a"):
        claimed.append(trial.number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    assert sorted(claimed) == list(range(1, 41))


class TestLeases:
  """The lease of a store says how long what is claimed or renewed through it lasts."""

  def test_a_silent_worker_loses_its_trial(self, open_store):
    store = open_store(lease_seconds=0.1)
    store.propose([new_trial(1)])
    store.claim("silent")
    time.sleep(0.15)
    again = open_store().claim("b")
    assert (again.number, again.attempt, again.deaths, again.worker) == (1, 2, 1, "b")
    assert open_store().claim("c") is None

  def test_a_renewing_worker_keeps_it(self, open_store):
    store = open_store(lease_seconds=0.5)
    store.propose([new_trial(1)])
    trial = store.claim("a")
    assert open_store(lease_seconds=60).renew(1, trial.attempt, progress=0.75)
    time.sleep(0.6)
    assert store.claim("b") is None
    assert store.trials()[0].progress == 0.75

  def test_a_late_renewal_counts_while_nobody_has_the_trial(self, open_store):
    store = open_store(lease_seconds=0.1)
    store.propose([new_trial(1)])
    late = store.claim("a")
    time.sleep(0.15)
    assert store.release_expired() == 1
    assert store.trials()[0].state == "queued"
    assert open_store(lease_seconds=60).renew(1, late.attempt, 0.5)
    assert store.claim("b") is None

  def test_a_renewal_after_another_claim_is_refused(self, open_store):
    store = open_store(lease_seconds=0.1)
    store.propose([new_trial(1)])
    late = store.claim("a")
    time.sleep(0.15)
    assert open_store().claim("b").attempt == 2
    assert not store.renew(1, late.attempt, 0.5)
    assert store.trials()[0].worker == "b"


class TestResults:
  def test_a_reward_ends_the_trial(self, open_store):
    store = open_store()
    store.propose([new_trial(1)])
    assert store.report_reward(1, store.claim("a").attempt, 0.125)
    (trial,) = store.trials()
    assert (trial.state, trial.reward, trial.failure) == ("done", 0.125, None)
    assert trial.proposed_at <= trial.started_at <= trial.finished_at
    assert trial.seconds == pytest.approx(trial.finished_at - trial.started_at, abs=1e-3)

  def test_a_result_counts_once(self, open_store):
    store = open_store()
    store.propose([new_trial(1)])
    attempt = store.claim("a").attempt
    assert store.report_reward(1, attempt, 0.125)
    assert not store.report_reward(1, attempt, 0.5)
    assert not store.report_failure(1, attempt, "too late")
    assert store.trials()[0].reward == 0.125

  def test_the_late_result_of_a_lost_attempt_is_rejected(self, open_store):
    store = open_store()
    store.propose([new_trial(1)])
    lost = store.claim("a").attempt
    store.release("a", "worker died (signal 9)")
    attempt = store.claim("b").attempt
    assert not store.report_reward(1, lost, 0.9)
    assert store.report_reward(1, attempt, 0.1)
    assert store.trials()[0].reward == 0.1

  def test_the_late_result_is_accepted_while_nobody_redoes_the_trial(self, open_store):
    store = open_store()
    store.propose([new_trial(1)])
    lost = store.claim("a").attempt
    store.release("a", "worker died (signal 9)")
    assert store.report_reward(1, lost, 0.9)
    assert store.claim("b") is None
    assert store.trials()[0].reward == 0.9

  @pytest.mark.parametrize("reward", [float("nan"), float("inf")])
  def test_only_finite_rewards_are_taken(self, open_store, reward):
    store = open_store()
    store.propose([new_trial(1)])
    with pytest.raises(ValueError, match="must be finite"):
      store.report_reward(1, store.claim("a").attempt, reward)


class TestDeaths:
  def test_a_trial_fails_when_enough_workers_have_died_of_it(self, open_store):
    store = open_store(max_attempts=3)
    store.propose([new_trial(1)])
    for attempt in (1, 2, 3):
      assert store.claim("a").attempt == attempt
      assert store.release("a", "worker died (signal 9)") == 1
    (trial,) = store.trials()
    assert trial.state == "failed"
    assert trial.failure == "worker died (signal 9), 3 attempts"
    assert not trial.diverged

  def test_stopping_a_search_is_not_held_against_its_trials(self, open_store):
    store = open_store(max_attempts=1)
    store.propose([new_trial(1)])
    for _ in range(5):
      store.claim("a")
      store.release("a", "the search was stopped", is_death=False)
    assert store.claim("a").attempt == 6

  def test_only_the_dead_workers_trial_is_taken_back(self, open_store):
    store = open_store()
    store.propose([new_trial(1), new_trial(2)])
    store.claim("a")
    store.claim("b")
    assert store.running_workers() == ["a", "b"]
    assert store.release("a", "worker died (signal 9)") == 1
    assert store.release("a", "worker died (signal 9)") == 0
    assert [trial.state for trial in store.trials()] == ["queued", "running"]


class TestSnapshots:
  def test_the_newest_is_kept(self, open_store):
    store = open_store()
    assert store.latest_snapshot() == (0, None)
    store.mark_learnt(1, b"one", {"entropy": 1.5})
    store.mark_learnt(2, b"\x00two", {"entropy": 1.25})
    assert open_store().latest_snapshot() == (2, b"\x00two")
    assert open_store().metrics() == {1: {"entropy": 1.5}, 2: {"entropy": 1.25}}

  def test_old_ones_take_no_room(self, open_store, path):
    store = open_store()
    for update in range(1, 31):
      store.mark_learnt(update, bytes(200_000), {})
    store.close()
    assert path.stat().st_size < 1_000_000

  def test_an_update_is_learnt_once(self, open_store):
    store = open_store()
    store.mark_learnt(1, b"one", {})
    with pytest.raises(sa.exc.IntegrityError):
      store.mark_learnt(1, b"again", {})
    assert store.latest_snapshot() == (1, b"one")


def _work_until_none_is_left(path: Path, log: Path) -> None:
  store = TrialStore(path)
  done = []
  while trial := store.claim(log.name):
    assert store.report_reward(trial.number, trial.attempt, 0.5)
    done.append(trial.number)
  store.close()
  log.write_text(" ".join(map(str, done)))
