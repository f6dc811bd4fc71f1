"""The contract of the trial store, in every kind of database."""

import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from official_nasfpn.errors import UserError
from official_nasfpn.search.store.trial import Counts, NewTrial, TimelineRow
from official_nasfpn.search.store.trial_store import TrialStore
from tests.program_process import fork_server


def new_trial(number: int, architecture_hash: str | None = None, update: int = 1) -> NewTrial:
  return NewTrial(
    number=number,
    update=update,
    choices=(number, 1),
    log_probs=(-0.1, -1 / 3),
    architecture_hash=architecture_hash or f"hash {number}",
    architecture=f"# trial {number}",
  )


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

  def test_a_store_of_a_later_version_is_refused(self, open_store, execute):
    store = open_store()
    execute("UPDATE schema SET version = 99")
    for open_ in (store.create, store.check_version):
      with pytest.raises(
        UserError, match=r"later version .*version 99; .* reads version 3.*Update"
      ):
        open_()

  def test_proposing_again_changes_nothing(self, open_store):
    store = open_store()
    for _ in range(2):
      store.propose([new_trial(1), new_trial(2)])
    assert [trial.number for trial in store.trials()] == [1, 2]
    with pytest.raises(sa.exc.IntegrityError):
      store.propose([new_trial(1, "another"), new_trial(2)])


class TestReuse:
  def test_a_repeated_architecture_is_never_handed_out(self, open_store):
    store = open_store()
    store.propose([new_trial(1, "same"), new_trial(2, "same"), new_trial(3, "other")])
    assert [store.claim("a").number, store.claim("b").number] == [1, 3]
    assert store.claim("c") is None

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
    claimed = [store.claim(worker) for worker in "abc"]
    assert [(trial.number, trial.worker) for trial in claimed] == [(1, "a"), (2, "b"), (3, "c")]
    assert {(trial.attempt, trial.state) for trial in claimed} == {(1, "running")}
    assert store.claim("d") is None

  def test_a_worker_that_holds_a_trial_gets_that_one_again(self, open_store):
    store = open_store()
    store.propose([new_trial(1), new_trial(2)])
    first = store.claim("a")
    again = store.claim("a")
    assert (again.number, again.attempt, again.deaths) == (1, 1, 0)
    assert again.started_at == first.started_at
    assert again.lease_expires >= first.lease_expires

  def test_many_processes_do_each_trial_exactly_once(self, open_store, place, tmp_path):
    store = open_store()
    store.propose([new_trial(number) for number in range(1, 61)])
    # Not fork: a child process cannot use its parent's connections.
    processes = [
      fork_server().Process(target=_work_until_none_is_left, args=(place, tmp_path / f"worker-{i}"))
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

    def work(worker):
      while trial := store.claim(worker):
        claimed.append(trial.number)
        store.report_reward(trial.number, trial.attempt, 0.5)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in "abcd"]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    assert sorted(claimed) == list(range(1, 41))


class TestLeases:
  """The lease seconds of a store apply to trials that are claimed or renewed through it."""

  @pytest.fixture
  def clock(self):
    """Returns a clock that only the test advances."""
    return Clock()

  def test_a_silent_worker_loses_its_trial(self, open_store, clock):
    store = open_store(lease_seconds=60, clock=clock)
    store.propose([new_trial(1)])
    store.claim("silent")
    clock.seconds += 59
    assert store.claim("b") is None
    clock.seconds += 2
    again = store.claim("b")
    assert (again.number, again.attempt, again.deaths, again.worker) == (1, 2, 1, "b")
    assert store.claim("c") is None

  def test_a_renewing_worker_keeps_it(self, open_store, clock):
    store = open_store(lease_seconds=60, clock=clock)
    store.propose([new_trial(1)])
    trial = store.claim("a")
    clock.seconds += 50
    assert store.renew(1, trial.attempt, progress=0.75)
    clock.seconds += 50
    assert store.claim("b") is None
    assert store.trials()[0].progress == 0.75

  def test_a_late_renewal_counts_while_nobody_has_the_trial(self, open_store, clock):
    store = open_store(lease_seconds=60, clock=clock)
    store.propose([new_trial(1)])
    late = store.claim("a")
    clock.seconds += 1000
    assert store.release_expired() == 1
    assert store.release_expired() == 0
    assert store.trials()[0].state == "queued"
    assert store.renew(1, late.attempt, 0.5)
    assert store.claim("b") is None

  def test_a_renewal_after_another_claim_is_refused(self, open_store, clock):
    store = open_store(lease_seconds=60, clock=clock)
    store.propose([new_trial(1)])
    late = store.claim("a")
    clock.seconds += 1000
    assert store.claim("b").attempt == 2
    assert not store.renew(1, late.attempt, 0.5)
    assert store.trials()[0].worker == "b"

  def test_without_a_clock_the_time_is_that_of_the_database(self, open_store):
    store = open_store(lease_seconds=1000)
    before = time.time()
    store.propose([new_trial(1)])
    trial = store.claim("a")
    # The server runs on this machine.
    assert before <= trial.proposed_at <= trial.started_at <= time.time()
    assert trial.lease_expires == pytest.approx(trial.started_at + 1000, abs=1)


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
    assert store.report_reward(1, attempt, 0.125, {"AP": 0.125})
    (trial,) = store.trials()
    assert not store.report_reward(1, attempt, 0.5, {"AP": 0.125})
    assert not store.report_reward(1, attempt, 0.125)
    assert not store.report_failure(1, attempt, "too late")
    # Reported again because the answer was lost: the result counts, and nothing changes.
    assert store.report_reward(1, attempt, 0.125, {"AP": 0.125})
    assert store.trials() == [trial]

  def test_a_failure_counts_once(self, open_store):
    store = open_store()
    store.propose([new_trial(1)])
    attempt = store.claim("a").attempt
    for _ in range(2):
      assert store.report_failure(1, attempt, "NaN loss", diverged=True)
    assert not store.report_failure(1, attempt, "NaN loss")
    assert not store.report_reward(1, attempt, 0.5)
    assert store.trials()[0].failure == "NaN loss"

  def test_any_text_can_be_a_reason(self, open_store):
    store = open_store()
    store.propose([new_trial(1)])
    assert store.report_failure(1, store.claim("a").attempt, "a\0b \ud800 \N{PILE OF POO} 'x'")
    assert store.trials()[0].failure == "ab ? \N{PILE OF POO} 'x'"

  def test_what_was_measured_is_kept_and_shown_by_reuses(self, open_store):
    store = open_store()
    store.propose([new_trial(1, "same"), new_trial(2, "same")])
    assert [trial.metrics for trial in store.trials()] == [{}, {}]
    metrics = {"AP": 1 / 3, "multiply_adds": 10**12, "stopped_at": None}
    store.report_reward(1, store.claim("a").attempt, 0.25, metrics)
    assert [trial.metrics for trial in store.trials()] == [metrics, metrics]

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


class TestJoining:
  """Workers must have the recipe and the code of the search."""

  RECIPE = "Search.num_trials = 24\nDetector.num_filters = 8\n"
  BEGUN = (RECIPE, "recipe 1", "code 1")

  def test_a_worker_reads_what_the_controller_began(self, open_store):
    open_store().begin(*self.BEGUN)
    store = open_store()
    assert store.recipe() == self.RECIPE
    store.join("a", "recipe 1", "code 1")
    store.propose([new_trial(1)])
    assert store.claim("a").number == 1

  def test_without_a_search_there_is_nothing_to_join(self, place, open_store):
    store = TrialStore(place)
    with pytest.raises(UserError, match="holds no search; start the search first"):
      store.recipe()
    store.close()
    for ask in (open_store().recipe, lambda: open_store().join("a", "", "")):
      with pytest.raises(UserError, match="holds no search yet; start the search first"):
        ask()

  def test_another_version_of_the_code_is_refused(self, open_store):
    store = open_store()
    store.begin(*self.BEGUN)
    message = r"a does not have the code of the search in .*: version code 2 here, code 1 there"
    with pytest.raises(UserError, match=message):
      store.join("a", "recipe 1", "code 2")

  def test_another_recipe_is_refused(self, open_store):
    store = open_store()
    store.begin(*self.BEGUN)
    message = "not have the recipe of the search in .*: version recipe 2 here, recipe 1 there"
    with pytest.raises(UserError, match=message):
      store.join("a", "recipe 2", "code 1")

  def test_a_recipe_that_computes_the_same_ends_no_worker(self, open_store):
    store = open_store()
    store.begin(*self.BEGUN)
    store.join("a", "recipe 1", "code 1")
    store.begin(self.RECIPE.replace("24", "48"), "recipe 1", "code 1")
    assert store.claim("a") is None
    assert store.recipe() == self.RECIPE.replace("24", "48")

  def test_a_controller_with_other_code_ends_the_workers_with_the_old_one(self, open_store):
    store = open_store()
    store.begin(*self.BEGUN)
    store.propose([new_trial(1)])
    store.join("a", "recipe 1", "code 1")
    open_store().begin(self.RECIPE, "recipe 1", "code 2")
    with pytest.raises(UserError, match="code 1 here, code 2 there"):
      store.claim("a")
    assert store.trials()[0].state == "queued"

  def test_what_was_begun_with_is_known(self, open_store):
    store = open_store()
    assert store.begun_recipe() is None
    store.begin(*self.BEGUN)
    assert open_store().begun_recipe() == self.RECIPE

  def test_what_an_earlier_process_of_the_name_ran_is_free_again(self, open_store):
    store = open_store()
    store.begin(*self.BEGUN)
    store.propose([new_trial(1), new_trial(2)])
    store.claim("a")
    store.claim("b")
    open_store().join("a", "recipe 1", "code 1")
    first, second = store.trials()
    assert (first.state, first.deaths, second.state) == ("queued", 1, "running")
    assert open_store().claim("a").attempt == 2


class TestSnapshots:
  def test_the_newest_is_kept(self, open_store):
    store = open_store()
    assert store.latest_snapshot() == (0, None)
    store.mark_learnt(1, [], b"one", {"entropy": 1.5})
    store.mark_learnt(2, [], b"\x00two", {"entropy": 1.25})
    assert open_store().latest_snapshot() == (2, b"\x00two")
    assert open_store().metrics() == {1: {"entropy": 1.5}, 2: {"entropy": 1.25}}

  def test_old_ones_take_no_room(self, tmp_path):
    # Only SQLite needs this; PostgreSQL's vacuum frees space.
    store = TrialStore(tmp_path / "search.db")
    store.create()
    for update in range(1, 31):
      store.mark_learnt(update, [], bytes(200_000), {})
    store.close()
    assert (tmp_path / "search.db").stat().st_size < 1_000_000

  def test_an_update_is_learnt_once(self, open_store):
    store = open_store()
    store.mark_learnt(1, [], b"one", {})
    with pytest.raises(sa.exc.IntegrityError):
      store.mark_learnt(1, [], b"again", {})
    # Reported again because the answer was lost, it changes nothing.
    store.mark_learnt(1, [], b"one", {})
    assert store.latest_snapshot() == (1, b"one")


class TestMeasurements:
  def test_others_are_compared_at_the_same_share(self, open_store):
    store = open_store()
    store.propose([new_trial(number) for number in (1, 2, 3)])
    for worker in "abc":
      store.claim(worker)
    assert store.measure(1, 1, 0.3, 0.125) == []
    assert store.measure(2, 1, 0.3, 0.25) == [0.125]
    assert store.measure(2, 1, 0.6, 0.5) == []
    store.report_reward(1, 1, 0.5)
    assert store.measure(3, 1, 0.3, 0.0) == [0.125, 0.25]
    # The same measurement again, as after a lost answer.
    assert store.measure(3, 1, 0.3, 0.0) == [0.125, 0.25]
    assert store.measure(2, 1, 0.3, 0.25) == [0.125, 0.0]

  def test_only_last_attempts_count(self, open_store):
    store = open_store()
    store.propose([new_trial(1), new_trial(2)])
    store.claim("a")
    store.claim("b")
    store.measure(1, 1, 0.5, 0.125)
    store.release("a", "worker died (signal 9)")
    assert store.measure(2, 1, 0.5, 0.25) == [0.125]
    assert store.claim("c").attempt == 2
    assert store.measure(2, 1, 0.5, 0.25) == []
    # Measurements of the lost attempt no longer count.
    store.measure(1, 1, 0.5, 0.75)
    assert store.measure(2, 1, 0.5, 0.25) == []
    store.measure(1, 2, 0.5, 0.375)
    assert store.measure(2, 1, 0.5, 0.25) == [0.375]

  @pytest.mark.parametrize(("share", "value"), [(0, 0.5), (1, 0.5), (0.5, float("nan"))])
  def test_nonsense_is_refused(self, open_store, share, value):
    with pytest.raises(ValueError, match="not"):
      open_store().measure(1, 1, share, value)


class TestOverview:
  """The figures that a search loop asks for agree with the trials themselves."""

  @pytest.fixture
  def store(self, open_store) -> TrialStore:
    """Returns a store with trials in every state: done, failed, reused, running, queued."""
    store = open_store()
    hashes = ["a", "b", "c", "d", "e", "f", "a", "b", "d", "e"]
    store.propose([new_trial(i, h, 1 + i // 4) for i, h in enumerate(hashes, start=1)])
    assert [store.claim(worker).number for worker in "vwxyz"] == [1, 2, 3, 4, 5]
    store.report_reward(1, 1, 0.25)
    store.report_failure(2, 1, "NaN loss", diverged=True)
    store.report_reward(3, 1, 0.5)
    store.report_reward(5, 1, 0.5)
    return store

  def test_counts(self, store):
    trials = store.trials()
    states = [trial.state for trial in trials]
    assert store.counts() == Counts(
      sampled=10, finished=7, done=3, failed=1, reused=4, unique=6, running=1, queued=1, learnt=0
    )
    assert sum(trial.is_finished for trial in trials) == 7
    assert (states.count("running"), states.count("queued")) == (1, 1)

  def test_counts_of_an_empty_store(self, open_store):
    assert open_store().counts() == Counts(0, 0, 0, 0, 0, 0, 0, 0, 0)

  def test_what_is_finished_and_not_learnt_comes_in_the_order_of_results(self, store):
    # 7 reuses 1, 8 reuses 2 and 10 reuses 5, so they got their results at the same time.
    numbers = [trial.number for trial in store.finished_and_not_learnt(10)]
    assert numbers == [1, 7, 2, 8, 3, 5, 10]
    assert [trial.number for trial in store.finished_and_not_learnt(2)] == [1, 7]
    store.mark_learnt(1, [7, 3], b"", {})
    assert [trial.number for trial in store.finished_and_not_learnt(10)] == [1, 2, 8, 5, 10]
    assert store.counts().learnt == 2
    assert {trial.number: trial.learnt_in for trial in store.trials() if trial.learnt_in} == {
      3: 1,
      7: 1,
    }

  def test_the_latest_update(self, store, open_store):
    assert store.latest_update() == 3

  def test_running_progress(self, store):
    assert store.running_progress() == 0
    assert store.renew(4, 1, progress=0.25)
    assert store.running_progress() == 0.25

  def test_best(self, store):
    assert [trial.number for trial in store.best(10)] == [3, 5, 1]
    assert store.best(1) == [store.trials()[2]]

  def test_timeline(self, store):
    assert store.timeline() == [
      TimelineRow(t.number, t.update, t.state, t.reward, t.architecture_hash, t.finished_at)
      for t in store.trials()
    ]


class Clock:
  seconds = 1e9

  def __call__(self) -> float:
    return self.seconds


def _work_until_none_is_left(place: Path | str, log: Path) -> None:
  store = TrialStore(place)
  done = []
  while trial := store.claim(log.name):
    assert store.report_reward(trial.number, trial.attempt, 0.5)
    done.append(trial.number)
  store.close()
  log.write_text(" ".join(map(str, done)))
