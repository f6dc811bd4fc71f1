"""What the best architectures share."""

import dataclasses
import random

import pytest

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.search.report.shares import MIN_ARCHITECTURES, shares_of_the_best

SPACE = SearchSpace()


def sampled(count, seed=0, space=SPACE):
  rng = random.Random(seed)
  return [space.sample(rng) for _ in range(count)]


def with_op(spec, op, level):
  """Returns the pyramid with another op in the output cell of a level."""
  cells = list(spec.cells)
  for index in range(len(cells) - spec.num_inputs, len(cells)):
    if cells[index].level == level:
      cells[index] = dataclasses.replace(cells[index], op=op)
  return dataclasses.replace(spec, cells=tuple(cells))


def test_what_the_best_have_in_common_stands_out():
  specs = sampled(40)
  ranked = [
    *(with_op(spec, "global_pool", 3) for spec in specs[:10]),
    *(with_op(spec, "sum", 3) for spec in specs[10:]),
  ]
  shares = {share.what: share for share in shares_of_the_best(ranked, SPACE)}
  share = shares["global_pool in P3"]
  assert (share.best, share.all) == (1, 0.25)
  assert share.stands_out
  assert sum(share.stands_out for share in shares.values()) <= 3
  of_all_cells = [cell.op == "global_pool" for spec in ranked for cell in spec.cells]
  assert shares["global_pool, of all cells"].all == pytest.approx(sum(of_all_cells) / 280)


def test_where_rank_means_nothing_one_in_twenty_stands_out():
  shares = [share for seed in range(40) for share in shares_of_the_best(sampled(40, seed), SPACE)]
  assert 0.01 < sum(share.stands_out for share in shares) / len(shares) < 0.1


def test_what_all_share_equally_does_not_stand_out():
  # Each has one of three intermediate cells at each level; the mean of 40 thirds is rounded.
  space = SearchSpace(3, 6, 3)
  specs = [
    spec
    for spec in sampled(2000, space=space)
    if sorted(cell.level for cell in spec.intermediate_cells) == [4, 5, 6]
  ]
  shares = [each for each in shares_of_the_best(specs[:40], space) if "level" in each.what]
  assert [share.best for share in shares] == pytest.approx([1 / 3] * 3)
  assert not any(share.stands_out for share in shares)


def test_levels_and_ops_are_those_of_the_space():
  space = SearchSpace(3, 6, 11, intermediate_levels=(4, 5))
  names = [share.what for share in shares_of_the_best(sampled(8, space=space), space)]
  assert names == [
    "global_pool, of all cells",
    *(f"global_pool in P{level}" for level in range(3, 7)),
    *(f"level {level}, of intermediate cells" for level in (4, 5)),
  ]
  # Where all intermediate cells have one level there is nothing to choose.
  light = SearchSpace(3, 6, 11, intermediate_levels=(4,))
  assert len(shares_of_the_best(sampled(8, space=light), light)) == 5
  flat = SearchSpace(3, 4, 0)
  assert len(shares_of_the_best(sampled(8, space=flat), flat)) == 3


def test_few_architectures_say_nothing():
  assert shares_of_the_best(sampled(MIN_ARCHITECTURES - 1), SPACE) == []
