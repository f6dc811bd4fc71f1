"""Recorded architectures: their table, the features of the surrogate, and the surrogate."""

import dataclasses
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.recorded_architectures import (
  Recorded,
  Surrogate,
  cross_validate,
  features,
  read_table,
  table_text,
)
from official_nasfpn.architecture import (
  CATALOG,
  PyramidSpec,
  SearchSpace,
  canonical_hash,
  inputs_are_ordered,
)
from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.store.trial_store import NewTrial, TrialStore

ROOT = Path(__file__).parents[3]
SPACE = SearchSpace()


def recorded(seed: int, reward: float) -> Recorded:
  spec = SPACE.sample(random.Random(seed))
  return Recorded(0, seed + 1, canonical_hash(spec), reward, SPACE.encode(spec))


def drawn_table(num: int = 60) -> list[Recorded]:
  """Returns architectures with noisy rewards for an output P4 that reads a fine level."""
  rng = random.Random(0)
  table = []
  for seed in range(num):
    entry = recorded(seed, 0.0)
    reward = 0.3 - 0.05 * features(entry.spec)["P4 finest input"] + rng.gauss(0, 0.01)
    table.append(dataclasses.replace(entry, reward=round(reward, 6)))
  return table


def swapped(spec: PyramidSpec) -> PyramidSpec:
  """Swaps the inputs of every cell where their order does not matter."""
  cells = (
    cell if inputs_are_ordered(spec, cell) else dataclasses.replace(cell, inputs=cell.inputs[::-1])
    for cell in spec.cells
  )
  return dataclasses.replace(spec, cells=tuple(cells))


def exchanged(spec: PyramidSpec, first: int) -> PyramidSpec | None:
  """Exchanges two successive cells, neither of which reads the other."""
  one, other = (spec.num_inputs + first, spec.num_inputs + first + 1)
  if one in spec.cells[first + 1].inputs:
    return None
  number = {one: other, other: one}
  cells = [
    dataclasses.replace(cell, inputs=tuple(number.get(i, i) for i in cell.inputs))
    for cell in spec.cells
  ]
  cells[first], cells[first + 1] = cells[first + 1], cells[first]
  return dataclasses.replace(spec, cells=tuple(cells))


def test_features_are_those_of_the_function_not_of_the_spec():
  rng = random.Random(0)
  num_exchanged = 0
  for _ in range(60):
    spec = SPACE.sample(rng)
    assert features(swapped(spec)) == features(spec)
    for first in (0, *range(2, 6)):
      other = exchanged(spec, first)
      if other is not None and canonical_hash(other) == canonical_hash(spec):
        num_exchanged += 1
        assert features(other) == features(spec)
  assert num_exchanged > 20


def test_features_of_the_discovered_architecture():
  """Expected values were read off Figure 6 of the paper by hand."""
  found = features(CATALOG["nas_fpn"])
  assert found["pooling cells"] == 4
  assert found["intermediate cells at 4"] == 2
  # P3 is the first output and reads C3 and the second intermediate cell, which reads C4 and the
  # first one, which reads C4 and C6.
  assert found["P3 place"] == 0
  assert found["P3 pools"] == 0
  assert found["P3 from C3 length"] == 1
  assert found["P3 from C6 length"] == 3
  assert found["P3 from C6 coarsest level"] == 6
  # C4 reaches P3 through the second intermediate cell, directly and through the first one.
  assert found["P3 from C4 log ways"] == pytest.approx(np.log1p(2))
  # P3 reads neither C5 nor C7: the values are the number of cells plus 1, the highest level plus 1.
  assert found["P3 from C7 length"] == 8
  assert found["P3 from C7 coarsest level"] == 8


def test_different_architectures_have_different_features():
  rng = random.Random(1)
  seen = {canonical_hash(spec): spec for spec in (SPACE.sample(rng) for _ in range(200))}
  assert len({tuple(features(spec).values()) for spec in seen.values()}) > 0.98 * len(seen)
  assert len({tuple(features(spec)) for spec in seen.values()}) == 1


def test_a_table_is_read_as_it_was_written(tmp_path):
  path, table = tmp_path / "table.csv", drawn_table(5)
  path.write_text(table_text(table))
  assert read_table(path) == table


def searched(search_dir: Path, rewards: list[float | None], settings: str) -> None:
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
    if reward is None:
      store.report_failure(number, attempt, "out of memory")
    else:
      store.report_reward(number, attempt, reward)
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
  new = dataclasses.replace(recorded(3, 0.125), search_seed=5, trial=3)
  assert read_table(path) == [recorded(1, 0.5), new]
  assert record(search_dir, path).stdout == f"0 new architectures, 2 in {path}.\n"


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


def test_the_recorded_benchmark_is_whole():
  path = ROOT / "docs" / "bccd_search" / "trials.csv"
  table = read_table(path)
  assert table_text(table) == path.read_text()
  assert len(table) >= 300
  assert all(0 <= entry.reward <= 1 for entry in table)


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("search_seed,", "seed,", "must begin with the line"),
    (",0.350000,", ",good,", "line 3: could not convert string to float"),
    (",0.350000,", ",nan,", "line 3: the reward nan is not finite"),
    (",0.350000,", ",", "line 3: .*Remove the line"),
    ("FIRST_CHOICES", "9 9 9", "line 2: 28 choices make a pyramid, got 3"),
    ("SECOND_HASH", "0123456789abcdef", "line 3: the choices are those of architecture"),
    ("SECOND_LINE", "FIRST_LINE", "line 3: the same architecture is already in line 2"),
  ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, old, new, message):
  table = [recorded(0, 0.25), recorded(1, 0.35)]
  text = table_text(table)
  names = {
    "FIRST_CHOICES": " ".join(map(str, table[0].choices)),
    "SECOND_HASH": table[1].architecture_hash,
    "FIRST_LINE": text.splitlines()[1],
    "SECOND_LINE": text.splitlines()[2],
  }
  path = tmp_path / "table.csv"
  path.write_text(text.replace(names.get(old, old), names.get(new, new), 1))
  with pytest.raises(UserError, match=message):
    read_table(path)


def test_a_missing_table_is_said(tmp_path):
  with pytest.raises(UserError, match="There is no table"):
    read_table(tmp_path / "none.csv")


def test_the_surrogate_predicts_what_can_be_learnt_and_the_same_each_time():
  table = drawn_table()
  unseen = [SPACE.sample(random.Random(seed)) for seed in range(1000, 1050)]
  truth = [0.3 - 0.05 * features(spec)["P4 finest input"] for spec in unseen]
  predicted = Surrogate(table)(unseen)
  assert np.corrcoef(predicted, truth)[0, 1] > 0.9
  np.testing.assert_array_equal(Surrogate(table)(unseen), predicted)
  np.testing.assert_allclose(Surrogate(table)([swapped(spec) for spec in unseen]), predicted)


def test_cross_validation_tells_a_reward_from_noise():
  table = drawn_table()
  fit = cross_validate(table)
  assert fit.r2 > 0.8
  assert fit.spearman > 0.7
  assert 0.005 < fit.residual < 0.04
  assert cross_validate(table) == fit
  rng = np.random.default_rng(0)
  by_chance = [dataclasses.replace(entry, reward=float(rng.normal())) for entry in table]
  assert cross_validate(by_chance).r2 < 0.3
