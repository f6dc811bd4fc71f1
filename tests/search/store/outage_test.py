"""PostgreSQL servers that die and come back, lost answers, and clocks that differ."""

import contextlib
import gc
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from official_nasfpn.errors import UserError
from official_nasfpn.search.store.address import parse_url
from official_nasfpn.search.store.trial import NewTrial
from official_nasfpn.search.store.trial_store import TrialStore
from tests.cutting_relay import cutting_relay
from tests.program_process import fork_server

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 240


def new_trial(number: int, update: int = 1) -> NewTrial:
  return NewTrial(number, update, (number,), (-0.5,), f"hash {number}", f"# trial {number}")


@pytest.fixture
def url(postgres) -> str:
  return postgres.new_database()


@pytest.fixture
def open_store(url):
  stores = []

  def open_(place: str = url, **arguments) -> TrialStore:
    stores.append(TrialStore(place, **arguments))
    return stores[-1]

  open_().create()
  yield open_
  for store in stores:
    store.close()


@pytest.fixture
def execute(url):
  def execute_(statement: str) -> None:
    engine = sa.create_engine(parse_url(url))
    with engine.begin() as connection:
      connection.exec_driver_sql(statement)
    engine.dispose()

  return execute_


def restart(postgres) -> None:
  postgres.kill()
  postgres.start()


class TestRestarts:
  @pytest.mark.parametrize("keeps_connection", [True, False])
  def test_operations_wait_for_a_server_that_is_away(
    self, open_store, postgres, capsys, keeps_connection
  ):
    store = open_store(keeps_connection=keeps_connection)
    store.propose([new_trial(1), new_trial(2)])
    trial = store.claim("a")
    postgres.kill()
    starting = threading.Timer(1.0, postgres.start)
    starting.start()
    assert store.report_reward(1, trial.attempt, 0.5)
    starting.join()
    assert store.claim("b").number == 2
    assert store.counts().done == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2, lines
    assert "does not answer" in lines[0]
    assert lines[1].endswith("answers again.")

  def test_a_connection_lost_between_operations_is_not_worth_a_word(
    self, open_store, postgres, capsys
  ):
    store = open_store()
    store.propose([new_trial(1)])
    restart(postgres)
    assert store.claim("a").number == 1
    assert capsys.readouterr().err == ""

  def test_the_wait_has_an_end(self, open_store, postgres):
    store = open_store(outage_seconds=0.3)
    postgres.kill()
    try:
      with pytest.raises(UserError, match=r"has not answered for 0.3 s .*Nothing .* is lost"):
        store.claim("a")
    finally:
      postgres.start()
    assert store.claim("a") is None

  def test_other_errors_are_no_outage(self, open_store, execute):
    store = open_store()
    execute("ALTER TABLE trials RENAME COLUMN worker TO somebody")
    with pytest.raises(UserError, match=r"cannot be used: column .*worker.* does not exist"):
      store.claim("a")

  def test_a_live_worker_keeps_its_trial_although_its_lease_ran_out_meanwhile(
    self, open_store, postgres, execute
  ):
    store = open_store(lease_seconds=60)
    store.propose([new_trial(1)])
    trial = store.claim("a")
    restart(postgres)
    # As if the server had been down for long.
    execute("UPDATE trials SET lease_expires = lease_expires - 1000")
    # An idle worker asks first, and the worker that runs the trial renews late.
    assert open_store(lease_seconds=60).claim("b") is None
    assert open_store(lease_seconds=60).release_expired() == 0
    assert store.renew(1, trial.attempt, 0.5)
    assert open_store(lease_seconds=60).claim("b") is None

  def test_who_could_not_reach_the_server_waits_too(self, open_store, postgres, url, execute):
    store = open_store(lease_seconds=0.5)
    store.propose([new_trial(1)])
    trial = store.claim("a")
    time.sleep(0.6)
    with cutting_relay(postgres.port, 100, 1) as port:
      cut = open_store(url.replace(str(postgres.port), str(port)), lease_seconds=10)
      assert cut.claim("b") is None
    assert store.renew(1, trial.attempt, 0.5)
    # No other process saw the outage: after another lease without a renewal, the trial is free.
    time.sleep(0.6)
    assert store.claim("b").attempt == 2

  @pytest.mark.slow
  def test_kills_in_the_middle_lose_nothing_and_count_nothing_twice(
    self, open_store, postgres, url, tmp_path
  ):
    num_trials, num_workers = 120, 4
    store = open_store()
    processes = [
      fork_server().Process(target=_work, args=(url, num_trials, tmp_path / f"worker-{i}"))
      for i in range(num_workers)
    ]
    for process in processes:
      process.start()
    proposing = threading.Thread(target=_propose, args=(store, num_trials))
    proposing.start()
    watcher = open_store()
    try:
      for done in (20, 50, 85):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while watcher.counts().done < done:
          assert time.monotonic() < deadline
          time.sleep(0.02)
        restart(postgres)
    finally:
      proposing.join(PATIENCE_SECONDS)
      for process in processes:
        process.join(PATIENCE_SECONDS)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * num_workers
    trials = store.trials()
    assert [(t.number, t.state, t.attempt, t.deaths) for t in trials] == [
      (number, "done", 1, 0) for number in range(1, num_trials + 1)
    ]
    assert [t.reward for t in trials] == [t.number / 1000 for t in trials]
    assert store.latest_snapshot() == (num_trials // 20, str(num_trials // 20).encode())
    evaluated = [int(n) for i in range(4) for n in (tmp_path / f"worker-{i}").read_text().split()]
    assert sorted(evaluated) == list(range(1, num_trials + 1))


class TestLostAnswers:
  """The connection breaks at any byte of the answer; repeating the operation does no harm."""

  @pytest.mark.slow
  # If a connection breaks during the greeting, pg8000 leaves its socket to the garbage collector.
  @pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket")
  @pytest.mark.filterwarnings("ignore:unclosed <socket.socket")
  def test_every_operation_may_be_repeated(self, open_store, postgres, url):
    store = open_store()
    update = 0
    # A connection receives a greeting of some 600 bytes, then the answers of the operation.
    for num_bytes in range(0, 2400, 199):
      update += 1
      first = 2 * update - 1
      trials = [new_trial(first, update), new_trial(first + 1, update)]

      def through_a_cut(operation, num_bytes=num_bytes):
        with cutting_relay(postgres.port, num_bytes, 1) as port:
          place = url.replace(str(postgres.port), str(port))
          cut = TrialStore(place, keeps_connection=False)
          try:
            return operation(cut)
          finally:
            cut.close()

      through_a_cut(lambda cut, trials=trials: cut.propose(trials))
      trial = through_a_cut(lambda cut: cut.claim("a"))
      assert (trial.number, trial.attempt, trial.deaths) == (first, 1, 0)
      assert through_a_cut(lambda cut, n=first: cut.renew(n, 1, 0.5))
      others = through_a_cut(lambda cut, n=first: cut.measure(n, 1, 0.5, n / 1000))
      assert others == [n / 1000 for n in range(1, first, 2)]
      assert through_a_cut(lambda cut, n=first: cut.report_reward(n, 1, 0.25, {"AP": n}))
      assert through_a_cut(lambda cut: cut.claim("a")).number == first + 1
      assert through_a_cut(lambda cut, n=first: cut.report_failure(n + 1, 1, "NaN"))
      through_a_cut(lambda cut, u=update: cut.mark_learnt(u, [2 * u], b"state", {"entropy": u}))
      through_a_cut(lambda cut: cut.begin("", "1", "code"))
      counts = through_a_cut(lambda cut: cut.counts())
      assert (counts.sampled, counts.done, counts.failed) == (2 * update, update, update)
    assert {(t.attempt, t.deaths) for t in store.trials()} == {(1, 0)}
    assert store.latest_snapshot() == (update, b"state")
    gc.collect()


class TestStatementsThatFail:
  def test_serializable_transactions_are_repeated_until_each_has_succeeded(
    self, open_store, url, execute, capsys
  ):
    execute(
      f"ALTER DATABASE {parse_url(url).database} SET default_transaction_isolation = 'serializable'"
    )
    open_store().propose([new_trial(number) for number in range(1, 31)])
    claimed, errors = [], []

    def work(name: str) -> None:
      try:
        store = open_store()
        while trial := store.claim(name):
          claimed.append(trial.number)
          store.report_reward(trial.number, trial.attempt, 0.5)
      except Exception as error:
        errors.append(error)

    threads = [threading.Thread(target=work, args=(f"worker {n}",)) for n in range(3)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    assert errors == []
    assert sorted(claimed) == list(range(1, 31))
    assert capsys.readouterr().err == ""

  def test_a_server_that_only_reads_is_waited_for(self, open_store, url, execute, capsys):
    """As after a failover, until the address names the new server."""
    database = parse_url(url).database
    store = open_store(keeps_connection=False)
    store.propose([new_trial(1)])
    execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")

    def fail_over() -> None:
      engine = sa.create_engine(parse_url(url))
      with engine.begin() as connection:
        connection.exec_driver_sql("SET TRANSACTION READ WRITE")
        connection.exec_driver_sql(
          f"ALTER DATABASE {database} SET default_transaction_read_only = off"
        )
      engine.dispose()

    timer = threading.Timer(1.0, fail_over)
    timer.start()
    assert store.claim("a").number == 1
    timer.join()
    first, second = capsys.readouterr().err.splitlines()
    assert "does not answer (cannot execute UPDATE in a read-only transaction)" in first
    assert second.endswith("answers again.")

  def test_a_cancelled_statement_is_tried_again(self, open_store, url, execute, capsys):
    execute(f"ALTER DATABASE {parse_url(url).database} SET statement_timeout = '300ms'")
    store = open_store(keeps_connection=False)
    store.propose([new_trial(1)])
    other = sa.create_engine(parse_url(url))
    with other.connect() as connection:
      connection.exec_driver_sql("SET statement_timeout = 0")
      connection.exec_driver_sql("LOCK TABLE trials IN ACCESS EXCLUSIVE MODE")
      timer = threading.Timer(1.0, connection.rollback)
      timer.start()
      assert store.claim("a").number == 1
      timer.join()
    other.dispose()
    assert "(canceling statement due to statement timeout)" in capsys.readouterr().err

  def test_what_never_succeeds_is_one_sentence(self, open_store, url, execute):
    store = open_store(outage_seconds=1.0, keeps_connection=False)
    execute(f"ALTER DATABASE {parse_url(url).database} SET default_transaction_read_only = on")
    with pytest.raises(UserError, match=r"has not answered for 1 s \(cannot execute UPDATE in a"):
      store.claim("a")


class TestClocks:
  @pytest.mark.parametrize("hours", [-1, 1])
  def test_a_machine_whose_clock_is_wrong_does_no_harm(self, open_store, url, hours):
    store = open_store(lease_seconds=60)
    store.propose([new_trial(1), new_trial(2)])
    store.claim("a")
    code = (
      "import sys, time; right = time.time; "
      f"time.time = lambda: right() + {hours * 3600}; "
      "from official_nasfpn.search.store.trial_store import TrialStore; "
      "store = TrialStore(sys.argv[1], lease_seconds=60); "
      "print(store.release_expired(), store.claim('b').number, store.claim('c'))"
    )
    process = subprocess.run(
      [sys.executable, "-c", code, url], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert process.stdout.split() == ["0", "2", "None"], process.stderr
    assert [trial.worker for trial in store.trials()] == ["a", "b"]
    for trial in store.trials():
      assert trial.lease_expires == pytest.approx(time.time() + 60, abs=50)


class TestOneController:
  def test_a_second_one_is_refused_and_told_who_has_the_store(self, open_store):
    with (
      open_store().exclusive(),
      pytest.raises(UserError, match=r"Another search, process \d+ on .*, is running on post"),
      open_store().exclusive(),
    ):
      pass
    with open_store().exclusive():
      pass

  def test_searches_in_other_databases_are_not_in_the_way(self, open_store, postgres):
    with open_store().exclusive(), open_store(postgres.new_database()).exclusive():
      pass

  def test_the_lock_of_a_killed_one_is_free_at_once(self, open_store, url):
    code = (
      "import sys, time; "
      "from official_nasfpn.search.store.trial_store import TrialStore\n"
      "with TrialStore(sys.argv[1]).exclusive():\n"
      "  print('has it', flush=True); time.sleep(9999)"
    )
    process = subprocess.Popen(
      [sys.executable, "-c", code, url], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
      assert process.stdout.readline() == "has it\n"
      process.send_signal(signal.SIGKILL)
      with open_store().exclusive():
        pass
    finally:
      process.kill()
      process.wait()
      process.stdout.close()

  def test_it_is_taken_again_after_the_server_was_away(self, open_store, postgres):
    with contextlib.ExitStack() as stack:
      store = open_store()
      stack.enter_context(store.exclusive())
      restart(postgres)
      store.propose([new_trial(1)])
      with pytest.raises(UserError, match="Another search"), open_store().exclusive():
        pass

  def test_who_was_overtaken_meanwhile_does_not_write_any_more(self, open_store, postgres):
    with contextlib.ExitStack() as stack:
      store = open_store()
      stack.enter_context(store.exclusive())
      restart(postgres)
      stack.enter_context(open_store().exclusive())
      for write in (
        lambda: store.propose([new_trial(1)]),
        lambda: store.mark_learnt(1, [], b"", {}),
      ):
        with pytest.raises(UserError, match="Another search"):
          write()
      assert store.trials() == []


def _propose(store: TrialStore, num_trials: int) -> None:
  for first in range(1, num_trials + 1, 20):
    update = first // 20 + 1
    store.propose([new_trial(number, update) for number in range(first, first + 20)])
    store.mark_learnt(update, [], str(update).encode(), {})
    # The server must die while trials are still to be proposed.
    time.sleep(1.0)


def _work(url: str, num_trials: int, log: Path) -> None:
  store = TrialStore(url, keeps_connection=False)
  evaluated = []
  while store.counts().finished < num_trials:
    if trial := store.claim(log.name):
      evaluated.append(trial.number)
      time.sleep(0.02)
      assert store.renew(trial.number, trial.attempt, 0.5)
      assert store.report_reward(trial.number, trial.attempt, trial.number / 1000)
  store.close()
  log.write_text(" ".join(map(str, evaluated)))
