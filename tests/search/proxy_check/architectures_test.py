"""The architectures that a proxy check compares."""

import random

import pytest

from official_nasfpn.architecture import CATALOG, SearchSpace, canonical_hash
from official_nasfpn.benchmark.table import TABLE
from official_nasfpn.errors import UserError
from official_nasfpn.search.proxy_check.architectures import (
  catalogue_architectures,
  choose_architectures,
  read_rewards,
)

SPACE = SearchSpace()


def test_the_catalogue_is_there_at_one_size():
  space = SearchSpace(num_repeats=(3, 1), num_filters=(64, 32))
  found = [space.decode(choices) for choices in catalogue_architectures(space)]
  plain = [SearchSpace().decode(choices) for choices in catalogue_architectures(SearchSpace())]
  assert [spec.cells for spec in found] == [spec.cells for spec in plain]
  assert {spec.size_name for spec in found} == {"3 @ 64"}


def sampled(count, seed=7):
  rng = random.Random(seed)
  return [SPACE.encode(SPACE.sample(rng)) for _ in range(count)]


def test_catalogue_first_then_random_ones_by_seed():
  chosen = choose_architectures(SPACE, 6, seed=3, rewards={})
  assert SPACE.decode(chosen[0]) == CATALOG["nas_fpn"]
  assert len({canonical_hash(SPACE.decode(choices)) for choices in chosen}) == 6
  assert chosen == choose_architectures(SPACE, 6, seed=3, rewards={})
  assert chosen[1:] != choose_architectures(SPACE, 6, seed=4, rewards={})[1:]
  # A larger number adds architectures.
  assert choose_architectures(SPACE, 9, seed=3, rewards={})[:6] == chosen


def test_a_small_space_gives_what_it_has():
  space = SearchSpace(min_level=3, max_level=4, num_intermediate_cells=0, ops=("sum",))
  every = {canonical_hash(spec) for spec in space.enumerate()}
  assert len(choose_architectures(space, 1000, seed=0, rewards={})) == len(every)


def test_known_rewards_are_spread_from_worst_to_best():
  rewards = {choices: index / 100 for index, choices in enumerate(sampled(21))}
  chosen = choose_architectures(SPACE, 6, seed=0, rewards=rewards)
  assert [rewards[choices] for choices in chosen[1:]] == [0.0, 0.05, 0.1, 0.15, 0.2]


def test_a_table_of_trials_is_read(tmp_path):
  first, second, third = (" ".join(map(str, choices)) for choices in sampled(3))
  table = tmp_path / "trials.csv"
  table.write_text(f"trial,reward,choices\n1,0.5,{first}\n2,,{second}\n3,0.25,{third}\n")
  assert list(read_rewards(table, SPACE).values()) == [0.5, 0.25]
  for row in ("4,0.5,1 2 3", "4,high," + first, "4,0.5"):
    table.write_text(f"trial,reward,choices\n{row}\n")
    with pytest.raises(UserError, match="line 2, is not a trial"):
      read_rewards(table, SPACE)
  for reward in ("nan", "inf", "-inf"):
    table.write_text(f"trial,reward,choices\n3,0.5,{first}\n4,{reward},{second}\n")
    with pytest.raises(UserError, match=f"line 3, has the reward {reward}, which ranks nothing"):
      read_rewards(table, SPACE)
  with pytest.raises(UserError, match="no table of trials"):
    read_rewards(tmp_path / "none.csv", SPACE)


def test_a_table_of_another_space_is_refused(tmp_path):
  table, (choices,) = tmp_path / "trials.csv", sampled(1)
  there = SearchSpace(ops=SPACE.ops[::-1]).decode(choices)
  row = f"0.5,{canonical_hash(there)},{' '.join(map(str, choices))}"
  table.write_text(f"reward,architecture_hash,choices\n{row}\n")
  with pytest.raises(UserError, match=r"line 2, is not a trial of this search space \(its choices"):
    read_rewards(table, SPACE)


def test_the_recorded_table_is_of_the_papers_space():
  assert len(read_rewards(TABLE, SPACE)) == 300
