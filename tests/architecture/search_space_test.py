"""Search spaces: their size, their masks, uniform sampling and the round trip of decisions."""

import collections
import dataclasses
import math
import pickle
import random

import pytest

from official_nasfpn import configuration
from official_nasfpn.architecture import CATALOG, MergingCell, PyramidSpec, SearchSpace
from official_nasfpn.architecture.search_space import count_in_words

TINY_SPACES = [
  SearchSpace(3, 4, 0),
  SearchSpace(3, 4, 1),
  SearchSpace(3, 4, 1, ("sum",)),
  SearchSpace(3, 5, 0, ("global_pool",)),
  SearchSpace(5, 6, 2, ("sum",)),
  SearchSpace(3, 5, 1, ("sum",), intermediate_levels=(5,)),
  SearchSpace(3, 4, 0, num_repeats=(1, 3)),
  SearchSpace(3, 4, 0, num_repeats=(5, 2), num_filters=(8, 16, 24)),
]


def test_size_of_the_paper_space_is_the_published_one():
  # 1.93e15 is what google/vertex-ai-nas's space comes to: 2 intermediate cells at levels 4-7,
  # 2 ops, 5 output cells in any order, unordered pairs of different inputs.
  space = SearchSpace()
  by_cell = [10, 15, 21, 28, 36, 45, 55]
  assert [math.comb(5 + cell, 2) for cell in range(7)] == by_cell
  assert space.size_unordered == math.prod(by_cell) * 2**7 * 4**2 * math.factorial(5)
  assert space.size_unordered == 1_931_334_451_200_000
  assert count_in_words(space.size_unordered) == "1.93e+15"
  assert space.size == space.size_unordered * 2**7


@pytest.mark.parametrize("space", TINY_SPACES, ids=str)
def test_enumeration_has_the_stated_size_and_no_repetition(space):
  specs = list(space.enumerate())
  assert len(specs) == len(set(specs)) == space.size


def test_enumeration_is_every_valid_spec_and_no_other():
  # By brute force over all cells of 3 candidates and two levels, validity decided by PyramidSpec.
  space = SearchSpace(3, 4, 1, ("global_pool",))
  valid = set()
  pairs = [(i, j) for i in range(4) for j in range(4)]
  cells = [(pair, level, op) for pair in pairs for level in (3, 4) for op in space.ops]
  for first in cells:
    for second in cells:
      for third in cells:
        try:
          valid.add(PyramidSpec(3, 4, (first, second, third)))
        except ValueError:
          continue
  assert valid == set(space.enumerate())


def test_unordered_size_counts_input_pairs_once():
  space = SearchSpace(3, 4, 1)
  unordered = {
    tuple((frozenset(cell.inputs), cell.level, cell.op) for cell in spec.cells)
    for spec in space.enumerate()
  }
  assert len(unordered) == space.size_unordered


def test_enumeration_refuses_a_large_space_with_its_size():
  with pytest.raises(ValueError, match=r"has 2\.47e\+17 pyramids; at most 10,000,000"):
    SearchSpace().enumerate()


def test_sizes_beyond_floats_and_beyond_what_python_writes_are_said():
  for num_cells in (100, 1000):
    space = SearchSpace(num_intermediate_cells=num_cells)
    exponent = math.floor(math.log10(space.size))
    assert exponent > 308
    with pytest.raises(ValueError, match=rf"has \d\.\d\de\+{exponent} pyramids"):
      space.enumerate()


@pytest.mark.parametrize(
  ("number", "text"),
  [
    (1, "1"),
    (999_999, "999,999"),
    (1_000_000, "1.00e+6"),
    (1_931_334_451_200_000, "1.93e+15"),
    (9_996 * 10**400, "1.00e+404"),
  ],
)
def test_a_number_of_pyramids_is_short(number, text):
  assert count_in_words(number) == text


@pytest.mark.parametrize("space", [SearchSpace(), SearchSpace(3, 6, 11), *TINY_SPACES], ids=str)
def test_decode_and_encode_are_inverse(space):
  rng = random.Random(7)
  for _ in range(100):
    spec = space.sample(rng)
    choices = space.encode(spec)
    assert space.decode(choices) == spec
    assert space.encode(space.decode(choices)) == choices
    num_sizes = bool(space.num_repeats) + bool(space.num_filters)
    assert len(choices) == len(space.decisions) == 4 * space.num_cells + num_sizes


def test_every_choice_on_the_way_to_a_spec_is_valid_and_all_others_are_not():
  space = SearchSpace()
  rng = random.Random(11)
  for _ in range(20):
    choices = space.encode(space.sample(rng))
    for index, decision in enumerate(space.decisions):
      mask = space.mask(choices[:index])
      assert len(mask) == decision.num_choices
      assert mask[choices[index]]
      for wrong in (choice for choice, valid in enumerate(mask) if not valid):
        with pytest.raises(ValueError, match=f"not valid for decision {index}, the"):
          space.decode((*choices[:index], wrong, *choices[index + 1 :]))


def test_decisions_share_one_vocabulary_per_kind():
  decisions = SearchSpace().decisions
  assert {(d.kind, d.num_choices) for d in decisions} == {("input", 11), ("level", 5), ("op", 2)}
  assert [d.kind for d in decisions[:5]] == ["input", "input", "level", "op", "input"]
  assert [d.cell for d in decisions] == [cell for cell in range(7) for _ in range(4)]


def test_sizes_are_chosen_last_and_freely():
  space = SearchSpace(num_repeats=(1, 3, 5), num_filters=(64, 128))
  assert space.size == 6 * SearchSpace().size
  assert [(d.kind, d.cell, d.num_choices) for d in space.decisions[-2:]] == [
    ("num_repeats", None, 3),
    ("num_filters", None, 2),
  ]
  wiring = SearchSpace().encode(CATALOG["nas_fpn"])
  assert space.mask(wiring) == (True, True, True)
  assert space.mask((*wiring, 2)) == (True, True)
  spec = space.decode((*wiring, 2, 1))
  assert (spec.cells, spec.size_name) == (CATALOG["nas_fpn"].cells, "5 @ 128")
  with pytest.raises(ValueError, match=r"not valid for decision 29, the num_filters$"):
    space.decode((*wiring, 2, 2))


def test_a_pyramid_at_every_size():
  nas_fpn = CATALOG["nas_fpn"]
  space = SearchSpace(num_repeats=(1, 3), num_filters=(64, 128))
  sized = space.at_every_size(nas_fpn)
  assert [spec.size_name for spec in sized] == ["1 @ 64", "1 @ 128", "3 @ 64", "3 @ 128"]
  assert {spec.cells for spec in sized} == {nas_fpn.cells}
  assert SearchSpace().at_every_size(nas_fpn) == [nas_fpn]


@pytest.mark.parametrize(
  ("space", "sizes", "message"),
  [
    ({}, {"num_repeats": 3}, "has num_repeats 3, which the search space leaves to Detector.num_"),
    ({"num_filters": (8, 16)}, {}, r"has num_filters None, the search space \(8, 16\)"),
    ({"num_repeats": (1, 3)}, {"num_repeats": 5}, r"has num_repeats 5, the search space \(1, 3\)"),
  ],
)
def test_encode_refuses_a_spec_of_another_size(space, sizes, message):
  spec = dataclasses.replace(CATALOG["nas_fpn"], **sizes)
  with pytest.raises(ValueError, match=message):
    SearchSpace(**space).encode(spec)


def test_masks_of_the_paper_space():
  space = SearchSpace()
  assert space.mask(()) == (True,) * 5 + (False,) * 6
  assert space.mask((3,)) == (True, True, True, False, True) + (False,) * 6
  assert space.mask((3, 1)) == (False, True, True, True, True)  # no intermediate cell at P3
  assert space.mask((3, 1, 2)) == (True, True)
  nas_fpn = space.encode(CATALOG["nas_fpn"])
  # Outputs in the order P3, P4, P5, P7, P6.
  taken_before = [{}, {0}, {0, 1}, {0, 1, 2}, {0, 1, 2, 4}]
  for output, taken in enumerate(taken_before):
    mask = space.mask(nas_fpn[: 4 * (2 + output) + 2])
    assert mask == tuple(level not in taken for level in range(5))
  assert space.mask(nas_fpn[:24]) == (True,) * 11


def test_sampling_is_uniform_over_decision_sequences():
  space = SearchSpace(3, 4, 1, ("sum",))
  rng = random.Random(3)
  num_samples = 40 * space.size
  counts = collections.Counter(space.sample(rng) for _ in range(num_samples))
  assert len(counts) == space.size
  expected = num_samples / space.size
  chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
  # 5 standard deviations of the chi-square distribution with size - 1 degrees of freedom.
  degrees = space.size - 1
  assert abs(chi_square - degrees) < 5 * math.sqrt(2 * degrees)


def test_sampling_repeats_with_the_seed():
  space = SearchSpace()
  first = [space.sample(random.Random(1)) for _ in range(3)]
  assert first == [space.sample(random.Random(1)) for _ in range(3)]
  assert space.sample(random.Random(2)) != first[0]


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    (CATALOG["fpn_like"], "5 cells, those of the search space have 7"),
    (PyramidSpec(3, 4, (((0, 1), 3, "sum"), ((0, 1), 4, "sum"))), "levels 3 to 4"),
  ],
)
def test_encode_refuses_a_spec_of_another_space(spec, message):
  with pytest.raises(ValueError, match=message):
    SearchSpace().encode(spec)


def test_intermediate_cells_keep_to_their_levels():
  space = SearchSpace(3, 6, 11, intermediate_levels=(4,))
  rng = random.Random(5)
  for _ in range(20):
    assert {cell.level for cell in space.sample(rng).intermediate_cells} == {4}
  with pytest.raises(ValueError, match=r"cell 0 has level 4, intermediate cells .*\(5, 6\)"):
    SearchSpace(intermediate_levels=(5, 6)).encode(CATALOG["nas_fpn"])


def test_encode_refuses_an_op_outside_the_space():
  with pytest.raises(ValueError, match="cell 0 has op 'global_pool'"):
    SearchSpace(ops=("sum",)).encode(CATALOG["nas_fpn"])


def test_decode_refuses_a_sequence_of_the_wrong_length():
  with pytest.raises(ValueError, match="28 choices make a pyramid, got 3"):
    SearchSpace().decode((0, 1, 1))


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"min_level": 5, "max_level": 5}, "min_level 5 and max_level 5"),
    ({"num_intermediate_cells": -1}, "must not be negative, got -1"),
    ({"ops": ()}, "each once"),
    ({"ops": ("sum", "sum")}, "each once"),
    ({"ops": ("sum", "product")}, "some of sum, global_pool"),
    ({"intermediate_levels": ()}, "some of 4 to 7, each once"),
    ({"intermediate_levels": (3, 4)}, r"some of 4 to 7, each once, got \(3, 4\)"),
    ({"intermediate_levels": (4, 4)}, "each once"),
  ],
)
def test_impossible_spaces_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    SearchSpace(**arguments)


def test_a_space_comes_from_a_recipe_and_goes_back():
  space = SearchSpace(3, 6, 4, ("sum",), (4, 6))
  configuration.parse((), [configuration.to_gin(space)])
  assert configuration.from_bindings(SearchSpace) == space


def test_a_space_and_its_masks_survive_pickling():
  space = SearchSpace()
  space.mask((3,))
  assert pickle.loads(pickle.dumps(space)) == space


def test_choices_may_come_from_numpy():
  numpy = pytest.importorskip("numpy")
  space = SearchSpace()
  spec = space.decode(numpy.array(space.encode(CATALOG["nas_fpn"])))
  assert spec == CATALOG["nas_fpn"]
  assert all(type(index) is int for cell in spec.cells for index in cell.inputs)
  assert isinstance(spec.cells[0], MergingCell)
