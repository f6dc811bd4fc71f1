"""Parts of a proxy check that need no training."""

import random

import pytest

from official_nasfpn.architecture import CATALOG, SearchSpace, canonical_hash
from official_nasfpn.errors import UserError
from official_nasfpn.search.proxy.check_architectures import choose_architectures, read_rewards
from official_nasfpn.search.proxy.check_trainings import Result, Training, TrainingsFile

SPACE = SearchSpace()


def sampled(count, seed=7):
  rng = random.Random(seed)
  return [SPACE.encode(SPACE.sample(rng)) for _ in range(count)]


def test_catalogue_first_then_random_ones_by_seed():
  chosen = choose_architectures(SPACE, 6, seed=3, rewards={})
  assert SPACE.decode(chosen[0]) == CATALOG["nas_fpn"]
  assert len({canonical_hash(SPACE.decode(choices)) for choices in chosen}) == 6
  assert chosen == choose_architectures(SPACE, 6, seed=3, rewards={})
  assert chosen[1:] != choose_architectures(SPACE, 6, seed=4, rewards={})[1:]
  # Raising the number adds to them.
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
  with pytest.raises(UserError, match="no table of trials"):
    read_rewards(tmp_path / "none.csv", SPACE)


def test_finished_trainings_come_back(tmp_path):
  file = TrainingsFile(tmp_path / "trainings.jsonl", SPACE)
  assert file.read() == {}
  trainings = [Training("abc", choices, seed) for seed, choices in enumerate(sampled(3))]
  for index, training in enumerate(trainings):
    file.add(training, Result(index / 10, 1.5))
  assert file.read() == {
    training: Result(index / 10, 1.5) for index, training in enumerate(trainings)
  }


def test_an_unfinished_last_line_is_cut_off(tmp_path):
  path = tmp_path / "trainings.jsonl"
  file = TrainingsFile(path, SPACE)
  first, second = (Training("abc", choices, 0) for choices in sampled(2))
  file.add(first, Result(0.1))
  whole = path.read_bytes()
  file.add(second, Result(0.2))
  for length in range(len(whole), path.stat().st_size):
    path.write_bytes((whole + path.read_bytes()[len(whole) :])[:length])
    if length > len(whole):
      assert list(file.read()) == [first]
    file.mend()
    assert path.read_bytes() == whole
    file.add(second, Result(0.2))
  assert list(file.read()) == [first, second]


def test_a_damaged_line_is_named(tmp_path):
  path = tmp_path / "trainings.jsonl"
  path.write_text('{"recipe": "abc"}\n')
  with pytest.raises(UserError, match="line 1, is not a finished training"):
    TrainingsFile(path, SPACE).read()
