"""Clocks that are set, and machines that sleep, neither end a lease nor keep it."""

import contextlib
import time

import pytest
import sqlalchemy as sa

from official_nasfpn.search.store import lease_watch
from official_nasfpn.search.store.address import parse_url
from official_nasfpn.search.store.lease_watch import LeaseWatch
from official_nasfpn.search.store.trial import NewTrial
from official_nasfpn.search.store.trial_store import TrialStore

LEASE = 120.0


class Clocks:
  """The two clocks of a machine: of one the time may be set, the other counts waking seconds."""

  def __init__(self):
    self.wall, self.awake = 1.8e9, 50.0

  def wait(self, seconds: float) -> None:
    self.wall += seconds
    self.awake += seconds

  def monotonic(self) -> float:
    return self.awake


@pytest.fixture
def clocks(monkeypatch):
  clocks = Clocks()
  monkeypatch.setattr(time, "time", lambda: clocks.wall)
  monkeypatch.setattr(lease_watch, "time", clocks)
  return clocks


@pytest.fixture
def store(tmp_path, clocks):
  """Returns a store with a trial that a worker runs."""
  with contextlib.closing(TrialStore(tmp_path / "search.db", LEASE)) as opened:
    opened.create()
    opened.propose([NewTrial(1, 1, (), (), "hash", "")])
    opened.claim("a")
    yield opened


def another(store: TrialStore, lease_seconds: float = LEASE) -> contextlib.closing:
  """Opens the store as a process does that starts now."""
  return contextlib.closing(TrialStore(store._database.url, lease_seconds))


def seconds_until_released(store, clocks):
  """Returns how long a store looks at a lease that nobody renews before it takes the trial."""
  waited = 0
  while not store.release_expired():
    clocks.wait(2)
    waited += 2
  return waited


@pytest.mark.parametrize("jump", [-86400, -3600, 3600, 86400])
def test_a_live_worker_keeps_its_trial_when_the_clock_jumps(store, clocks, jump):
  assert store.release_expired() == 0
  for step in range(20):
    if step == 10:
      clocks.wall += jump
    # The renewal comes late: a controller, and a process that has just begun, look before it.
    with another(store) as late:
      assert late.claim("b") is None
    assert store.release_expired() == 0
    clocks.wait(LEASE / 4)
    assert store.release_expired() == 0
    assert store.renew(1, 1, 0.5)
  assert store.trials()[0].deaths == 0


@pytest.mark.parametrize("jump", [-86400, -3600, 0, 3600])
def test_a_dead_worker_loses_it_after_a_lease_whatever_the_clock_says(store, clocks, jump):
  assert store.release_expired() == 0
  clocks.wall += jump
  waited = seconds_until_released(store, clocks)
  assert waited == LEASE
  trial = store.trials()[0]
  assert (trial.state, trial.deaths) == ("queued", 1)


def test_a_process_that_begins_takes_the_trial_of_a_dead_worker_after_a_lease(store, clocks):
  with another(store) as late:
    for _ in range(4):
      assert late.claim("b") is None
      clocks.wait(LEASE / 4)
    assert late.claim("b").attempt == 2


@pytest.mark.parametrize("jump", [0, -3600, 3600])
def test_a_lowered_lease_is_not_that_of_a_worker_who_has_the_old_one(store, clocks, jump):
  """The search was continued with a tenth of the lease, and its worker went on."""
  with another(store, LEASE / 10) as controller:
    for step in range(6):
      # The worker renews in a quarter of its own lease; two of six renewals fail.
      for _ in range(10):
        assert controller.release_expired() == 0
        with another(store, LEASE / 10) as late:
          assert late.claim("b") is None
        clocks.wait(LEASE / 40)
      if step == 2:
        # The controller has seen the lease, and it and the worker sleep meanwhile.
        assert controller.release_expired() == 0
        clocks.wall += jump
      if step % 3 < 2:
        assert store.renew(1, 1, 0.5)
  assert store.trials()[0].deaths == 0


@pytest.mark.parametrize("jump", [0, -3600, 3600])
def test_when_it_dies_it_loses_its_trial_after_its_own_lease(store, clocks, jump):
  with another(store, LEASE / 10) as controller:
    assert controller.release_expired() == 0
    clocks.wall += jump
    waited = seconds_until_released(controller, clocks)
  assert waited == LEASE


def test_a_lease_in_the_far_future_is_believed_within_limits(store, clocks):
  clocks.wall -= 86400
  with another(store) as late:
    waited = 0
    while late.claim("b") is None:
      clocks.wait(LEASE / 2)
      waited += LEASE / 2
  assert waited == lease_watch.LONGEST_LEASES * LEASE


def test_a_lease_that_a_broken_row_has_not_is_watched_all_the_same(store, clocks):
  engine = sa.create_engine(store._database.url)
  with engine.begin() as connection:
    connection.exec_driver_sql("UPDATE trials SET lease_expires = 'soon'")
  engine.dispose()
  assert store.release_expired() == 0
  clocks.wait(LEASE)
  assert store.release_expired() == 1


def test_who_slept_as_long_as_the_workers_gives_them_time_to_renew(store, clocks):
  assert store.release_expired() == 0
  clocks.wait(3600)  # Processes were frozen; the machine was not.
  assert store.release_expired() == 0
  assert store.renew(1, 1, 0.5)
  clocks.wait(LEASE / 2)
  assert store.release_expired() == 0


def test_a_clock_that_was_set_back_makes_no_negative_durations(store, clocks):
  clocks.wall -= 3600
  assert store.report_reward(1, 1, 0.5)
  assert store.trials()[0].seconds == 0


def test_a_server_whose_clock_is_set_is_noticed(clocks):
  watch = LeaseWatch(LEASE)
  assert not watch.has_jumped(clocks.wall)
  clocks.wait(1000)
  assert not watch.has_jumped(clocks.wall)
  clocks.wall += 3600
  assert watch.has_jumped(clocks.wall)
  clocks.wait(LEASE - 1)
  assert watch.has_jumped(clocks.wall)
  clocks.wait(2)
  assert not watch.has_jumped(clocks.wall)


def test_a_lease_in_the_far_future_is_cut_on_a_server(postgres):
  """As if the server's clock had been set back by a day after its worker had died.

  It is not cut to the lease of who looks: the worker's own may be longer.
  """
  url = postgres.new_database()
  with contextlib.closing(TrialStore(url, lease_seconds=0.2)) as store:
    store.create()
    store.propose([NewTrial(1, 1, (), (), "hash", "")])
    store.claim("a")
    engine = sa.create_engine(parse_url(url))
    with engine.begin() as connection:
      connection.exec_driver_sql("UPDATE trials SET lease_expires = lease_expires + 86400")
    engine.dispose()
    begun = time.monotonic()
    while not store.release_expired():
      assert time.monotonic() < begun + 60
      time.sleep(0.1)
    assert time.monotonic() - begun >= lease_watch.LONGEST_LEASES * 0.2
