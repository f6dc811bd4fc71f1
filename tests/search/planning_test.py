"""The estimated cost of a search."""

import contextlib

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.planning import (
  SearchPlan,
  in_flight_that_keeps_busy,
  plan_of,
  wall_seconds,
)
from official_nasfpn.search.store.trial import NewTrial
from official_nasfpn.search.store.trial_store import TrialStore


def config(num_trials, trials_per_update, trials_in_flight=0, **settings):
  return SearchConfig(
    num_trials=num_trials,
    trials_per_update=trials_per_update,
    trials_in_flight=trials_in_flight,
    **settings,
  )


@pytest.mark.parametrize(
  ("num_trials", "per_update", "in_flight", "num_workers", "rounds"),
  [
    (10, 10, 0, 1, 10),
    (10, 10, 0, 10, 1),
    (10, 10, 0, 4, 3),
    # Two updates of ten on four workers: each takes three rounds, and two workers wait in the last.
    (20, 10, 0, 4, 6),
    (20, 10, 14, 4, 5),
    # More workers than trials in an update.
    (40, 10, 0, 20, 4),
    (40, 10, 20, 20, 2),
    (25, 10, 0, 10, 3),
  ],
)
def test_rounds_on_a_pool(num_trials, per_update, in_flight, num_workers, rounds):
  assert wall_seconds(config(num_trials, per_update, in_flight), num_workers, 7.0) == 7.0 * rounds


def test_fewer_in_flight_than_in_an_update_are_refused():
  with pytest.raises(ValueError, match="trials_in_flight = 5 is less than trials_per_update = 10"):
    config(40, 10, 5)


@pytest.mark.parametrize("num_workers", [1, 5, 10, 11, 64, 100])
def test_so_many_trials_in_flight_keep_a_pool_busy(num_workers):
  per_update = 10
  in_flight = in_flight_that_keeps_busy(config(1, per_update), num_workers)
  total = 200 * num_workers
  seconds = wall_seconds(config(total, per_update, in_flight), num_workers, 1.0)
  assert seconds == pytest.approx(200, rel=0.02)


def test_a_worker_that_is_replaced_starts_again():
  kept = SearchPlan(config(100, 10), 2, 2, first_seconds=40.0, seconds=30.0, rewards=(0.1,))
  assert kept.worker_hours == pytest.approx((100 * 30 + 2 * 10) / 3600)
  replaced = SearchPlan(
    config(100, 10, trials_per_worker=10), 2, 2, first_seconds=40.0, seconds=30.0, rewards=(0.1,)
  )
  assert replaced.worker_hours == pytest.approx((100 * 30 + 10 * 10) / 3600)


def test_confirmations_are_counted():
  settings = {"confirm_top": 5, "confirm_seeds": 2}
  plan = SearchPlan(config(100, 10, **settings), 2, 2, 30.0, 30.0, rewards=(0.1,))
  assert plan.worker_hours == pytest.approx(110 * 30 / 3600)
  assert plan.days == pytest.approx(55 * 30 / 86400)
  assert (
    "100 trials and 10 trainings that confirm the best 5: 55 min of one worker" in plan.as_text()
  )
  # A worker begins anew with each seed.
  plan = SearchPlan(config(100, 10, **settings), 2, 2, 40.0, 30.0, rewards=(0.1,))
  assert plan.worker_hours == pytest.approx((110 * 30 + (2 + 4) * 10) / 3600)
  # There cannot be more than trials.
  assert wall_seconds(config(3, 3, confirm_top=99, confirm_seeds=1), 3, 7.0) == 14.0
  alone = SearchPlan(config(3, 3, confirm_top=1, confirm_seeds=1), 1, 1, 9.0, 9.0, rewards=(0.1,))
  assert "3 trials and 1 training that confirms the best: 36 s of" in alone.as_text()


def test_it_says_what_would_keep_the_pool_busy():
  plan = SearchPlan(config(1000, 20), 100, 2, first_seconds=3700.0, seconds=3600.0, rewards=(0.2,))
  text = plan.as_text()
  assert "2.1 days with 100 workers, busy 20 % of the time" in text
  assert "Search.trials_in_flight = 120 would" in text


def test_the_papers_search():
  # 24,000 architectures, an hour each, on 100 TPUs: ten days.
  plan = SearchPlan(
    config(24_000, 20, 120), 100, 1, first_seconds=3600, seconds=3600, rewards=(0.1,)
  )
  assert plan.worker_hours == 24_000
  assert plan.days == pytest.approx(10, rel=0.02)
  assert "in_flight" not in plan.as_text()


class Measured:
  """The attributes of a trial that planning reads."""

  def __init__(self, worker, started_at, seconds, reward):
    self.worker, self.started_at, self.seconds, self.reward = worker, started_at, seconds, reward
    self.state = "failed" if reward is None else "done"


def test_rewards_of_0_promise_nothing():
  nothing = SearchPlan(config(10, 10), 2, 2, 40.0, 30.0, rewards=(0.0, 0.0)).as_text()
  assert nothing.splitlines()[-8].startswith("Nothing was learnt: no trial found an object")
  something = SearchPlan(config(10, 10), 2, 2, 40.0, 30.0, rewards=(0.0, 0.01)).as_text()
  assert "Nothing was learnt" not in something


def test_without_a_reward_there_is_nothing_to_plan_with():
  failed = Measured("a", 0.0, 5.0, None)
  failed.failure = "the loss became NaN"
  with pytest.raises(UserError, match=r"gave a reward.*became NaN"):
    plan_of([failed], config(10, 5), 2)


def test_first_and_further_trials_are_told_apart():
  trials = [
    Measured("b", 1.0, 44.0, 0.2),
    Measured("a", 0.0, 40.0, 0.1),
    Measured("a", 40.0, 30.0, 0.3),
    Measured("b", 45.0, 32.0, 0.4),
    Measured("a", 70.0, None, None),
  ]
  plan = plan_of(trials, config(10, 5), 2)
  assert (plan.first_seconds, plan.seconds, plan.num_measuring) == (42.0, 31.0, 2)
  assert plan.rewards == (0.1, 0.2, 0.3, 0.4)


def test_a_repeated_architecture_was_not_measured(tmp_path):
  with contextlib.closing(TrialStore(tmp_path / "search.db")) as store:
    store.create()
    store.propose([NewTrial(number, 1, (), (), "same", "") for number in (1, 2)])
    store.report_reward(1, store.claim("a").attempt, 0.25)
    trials = store.trials()
  assert trials[1].reward == 0.25
  plan = plan_of(trials, config(10, 5), 2)
  assert (plan.rewards, plan.num_measuring, plan.seconds) == ((0.25,), 1, trials[0].seconds)
  text = plan.as_text()
  assert "measured         1 trial, 1 at a time, rewards 0.250" in text
  assert "No worker trained a second one" in text


@pytest.mark.parametrize(
  ("seconds", "lines"),
  [
    (
      1.25,
      (
        "a trial          1.2 s, a worker's first one 2.5 s",
        "10 trials: 15 s of one",
        "7.5 s with",
      ),
    ),
    (
      30.0,
      (
        "a trial          30 s, a worker's first one 1.0 min",
        "10 trials: 6.0 min of",
        "3.0 min with",
      ),
    ),
    (
      4000.0,
      (
        "1 h 7 min, a worker's first one 2 h 13 min",
        "10 trials: 13 h 20 min of",
        "6 h 40 min with",
      ),
    ),
  ],
)
def test_a_plan_says_seconds_where_they_are_seconds(seconds, lines):
  plan = SearchPlan(config(10, 10), 2, 2, 2 * seconds, seconds, rewards=(0.1,))
  text = plan.as_text()
  for line in lines:
    assert line in text
  assert "0.0" not in text
