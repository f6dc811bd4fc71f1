"""What is read and written for a search of many trials is bounded, counted in rows and bytes."""

import base64
import contextlib
import json
import random
import zlib

import numpy as np
import pytest

from official_nasfpn.architecture import SearchSpace, formats, from_gin, to_gin
from official_nasfpn.reporting.chart import Series, make_chart
from official_nasfpn.search.report.events import EventLog
from official_nasfpn.search.report.found import read_overview
from official_nasfpn.search.report.html import table
from official_nasfpn.search.search import Search
from official_nasfpn.search.store import standing, trial_store
from official_nasfpn.search.store.trial import DONE, Trial
from official_nasfpn.search.store.trial_store import NewTrial, TrialStore

NUM_TRIALS = 300


@pytest.fixture
def rows_read(monkeypatch) -> list[int]:
  """Returns the numbers of the trials that are read from a store, in order."""
  read = []
  convert = standing.to_trial

  def to_trial(row):
    read.append(row.number)
    return convert(row)

  for module in (trial_store, standing):
    monkeypatch.setattr(module, "to_trial", to_trial)
  return read


@pytest.fixture
def store(tmp_path):
  """Returns the store of a search of many trials, all of them done."""
  with contextlib.closing(TrialStore(tmp_path / "search.db")) as opened:
    opened.create()
    opened.propose(
      [NewTrial(n, 1 + n // 20, (), (), f"hash {n}", "") for n in range(1, NUM_TRIALS + 1)]
    )
    with opened._database._engine.begin() as connection:
      connection.exec_driver_sql(
        "UPDATE trials SET state = 'done', reward = number / 1000.0, seconds = 36, attempt = 1, "
        "started_at = number, finished_at = number + 36"
      )
    yield opened


def test_the_status_reads_the_rows_that_it_shows(store, tmp_path, rows_read):
  table_of_two = Search(tmp_path).table(2)
  assert rows_read == [NUM_TRIALS, NUM_TRIALS - 1]
  assert table_of_two.startswith(f"{NUM_TRIALS} architectures sampled, {NUM_TRIALS} unique, ")
  assert "3 h 0 min of worker time" in table_of_two
  assert read_overview(tmp_path, 1).trained == NUM_TRIALS


def test_each_update_adds_its_point_from_its_own_trials(store, tmp_path, rows_read):
  log = EventLog(tmp_path / "events")
  for update in (1, 2, 3):
    numbers = range(20 * update - 19, 20 * update + 1)
    store.mark_learnt(update, [*numbers], b"state", {"entropy": 1.0})
    rows_read.clear()
    log.add_missing(store)
    assert rows_read == [*numbers]
    log.add_missing(store)
    assert rows_read == [*numbers]
  # Another process counts from the beginning, and only when there is something to add.
  rows_read.clear()
  EventLog(tmp_path / "events").add_missing(store)
  assert rows_read == []


def rows(count: int) -> list[table.TrialRow]:
  """Returns the rows of trials as different as those of a real search."""
  rng = random.Random(0)
  specs = [SearchSpace().sample(rng) for _ in range(count)]
  trials = [
    Trial(
      number=number,
      update=1 + number // 20,
      choices=(),
      log_probs=(),
      architecture_hash=f"{number:012x}",
      architecture="",
      state=DONE,
      reused_from=None,
      attempt=1,
      deaths=0,
      worker=f"node-{rng.randrange(100)}",
      lease_expires=None,
      progress=1.0,
      reward=rng.random(),
      failure=None,
      diverged=False,
      proposed_at=0.0,
      started_at=0.0,
      finished_at=1.0,
      seconds=rng.uniform(3000, 4000),
      metrics={},
      learnt_in=1,
    )
    for number in range(1, count + 1)
  ]
  ranks = {t.number: rank for rank, t in enumerate(sorted(trials, key=lambda t: -t.reward), 1)}
  return [
    table.TrialRow(trial, ranks[trial.number], spec, rng.randrange(10**9, 10**10), 10**6)
    for trial, spec in zip(trials, specs, strict=True)
  ]


def test_a_trial_costs_the_page_few_bytes():
  count = 5000
  text = table.table_data(rows(count), "search", "PPO")
  packed = table.packed(text)
  # 50,000 of them: below 2.4 MB, of the 3 MB that a report may have.
  assert len(packed) / count < 48
  data = json.loads(zlib.decompress(base64.b64decode(packed)))
  assert data == json.loads(text)
  assert {len(column) for column in data["columns"]} == {count}
  assert table.packed(table.table_data(rows(50), "search", "PPO")) is None


def test_a_chart_of_many_trials_has_no_more_places_than_its_picture():
  count = 50_000
  rng = np.random.default_rng(0)
  x, y = np.arange(count), rng.random(count)
  series = [
    Series("trial", "dots", "quiet", x, y),
    Series("mean", "line", "first", x, np.convolve(y, np.ones(5000) / 5000, "same")),
    Series("best", "steps", "second", x, np.maximum.accumulate(y)),
    Series("wild", "line", "first", x, y),
  ]
  dots, *lines = (path for _, path in make_chart("", "", "", "", series).paths)
  assert len(dots) < 250_000
  assert all(len(line) < 30_000 for line in lines)
  # What is outermost stays: the first point, the last one, and the highest.
  small = make_chart("", "", "", "", [Series("wild", "line", "first", x[:5000], y[:5000])])
  assert small.paths[0][1].count("L") > 4000


def test_what_a_search_writes_is_read_without_gins_parser():
  rng = random.Random(1)
  for space in (SearchSpace(), SearchSpace(3, 4, 0), SearchSpace(3, 6, 11)):
    for _ in range(20):
      spec = space.sample(rng)
      text = f"# Search x, trial 1, update 1, algorithm PPO.\n{to_gin(spec)}"
      assert formats._as_written(text) == spec == from_gin(text)
      # Anything else goes to the parser, which has the last word.
      for other in (f"{text}\nTraining.epochs = 1\n", f"import os\n{text}", f" {text}"):
        assert formats._as_written(other) is None
