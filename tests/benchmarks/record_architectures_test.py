"""`python -m benchmarks.record_architectures`: what a search has trained becomes a table."""

import dataclasses
import subprocess
from pathlib import Path

import pytest

from official_nasfpn.benchmark.table import read_table, table_text
from official_nasfpn.search import storage
from official_nasfpn.search.store.trial_store import NewTrial, TrialStore
from tests.benchmark.drawn_tables import recorded


def searched(
  search_dir: Path, rewards: list[float | None], settings: str = "", measured_at=(), **metrics
) -> None:
  """Makes a search with one trial per reward; None is a failed trial."""
  search_dir.mkdir()
  storage.recipe_path(search_dir).write_text(f"Search.seed = 5\n{settings}\n")
  store = TrialStore(storage.database_path(search_dir))
  store.create()
  for number, reward in enumerate(rewards, start=1):
    entry = recorded(number, 0.0)
    store.propose(
      [NewTrial(number, number, entry.choices, (), entry.architecture_hash, "an architecture")]
    )
    attempt = store.claim("a").attempt
    for share in measured_at:
      store.measure(number, attempt, share, share * (reward or 0.1))
    if reward is None:
      store.report_failure(number, attempt, "out of memory")
    else:
      store.report_reward(number, attempt, reward, metrics)
  store.close()


@pytest.fixture
def record(run_program):
  """Returns a function that adds the trained architectures of a search to a table."""

  # In a process of its own: the known settings depend on the imported modules.
  def run(search_dir: Path, table: Path) -> subprocess.CompletedProcess:
    arguments = [f"--search_dir={search_dir}", f"--table={table}"]
    return run_program("record_architectures", *arguments, package="benchmarks")

  return run


def test_what_a_search_has_trained_is_added_once(record, tmp_path):
  search_dir, path = tmp_path / "search", tmp_path / "table.csv"
  searched(search_dir, [0.25, None, 0.125], "Proxy.mode = 'plain'\nReward.cost = 'none'")
  path.write_text(table_text([recorded(1, 0.5)]))
  process = record(search_dir, path)
  assert process.stdout == f"1 new architectures, 2 in {path}.\n", process.stderr
  (old, added) = read_table(path)
  assert old == recorded(1, 0.5)
  assert added.seconds > 0
  new = dataclasses.replace(recorded(3, 0.125), search_seed=5, trial=3)
  assert dataclasses.replace(added, seconds=None) == new
  assert record(search_dir, path).stdout == f"0 new architectures, 2 in {path}.\n"


def test_curves_are_recorded_and_trials_that_were_stopped_are_not(record, tmp_path):
  path = tmp_path / "table.csv"
  searched(tmp_path / "whole", [0.25], measured_at=(0.8, 0.4))
  searched(tmp_path / "stopped", [0.25, 0.3], measured_at=(0.4,), stopped_at=0.4)
  record(tmp_path / "whole", path)
  record(tmp_path / "stopped", path)
  (entry,) = read_table(path)
  assert entry.curve == ((0.4, 0.1), (0.8, 0.2), (1.0, 0.25))


@pytest.mark.parametrize(
  ("settings", "complaint"),
  [
    ("Proxy.mode = 'shared'", "something else than the AP of plain trainings"),
    ("SearchSpace.num_intermediate_cells = 4", "does not search the paper's space"),
  ],
)
def test_what_is_not_comparable_is_not_recorded(record, tmp_path, settings, complaint):
  searched(tmp_path / "search", [0.25], settings)
  process = record(tmp_path / "search", tmp_path / "table.csv")
  assert complaint in process.stderr
  assert not (tmp_path / "table.csv").exists()
