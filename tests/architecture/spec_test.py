"""Merging cells and pyramids: every rule has its error, and the reference notation is read."""

import dataclasses

import pytest

from official_nasfpn import configuration
from official_nasfpn.architecture import CATALOG, MergingCell, PyramidSpec

# Model Garden's NASFPN_BLOCK_SPECS, which are those of the authors' code.
BLOCK_SPECS = (
  (4, "attention", (1, 3), False),
  (4, "sum", (1, 5), False),
  (3, "sum", (0, 6), True),
  (4, "sum", (6, 7), True),
  (5, "attention", (7, 8), True),
  (7, "attention", (6, 9), True),
  (6, "attention", (9, 10), True),
)
# Outputs P3 and P4 of a pyramid with two levels; candidates 0 and 1 are its inputs.
OUTPUTS = (((0, 1), 3, "sum"), ((0, 1), 4, "sum"))


def test_a_spec_is_immutable_and_hashable():
  spec = CATALOG["nas_fpn"]
  assert hash(spec) == hash(dataclasses.replace(spec))
  assert len({spec, dataclasses.replace(spec)}) == 1
  with pytest.raises(dataclasses.FrozenInstanceError):
    spec.min_level = 4


def test_cells_are_accepted_as_objects_tuples_and_lists():
  specs = {
    PyramidSpec(3, 4, OUTPUTS),
    PyramidSpec(3, 4, [[[0, 1], 3, "sum"], [[0, 1], 4, "sum"]]),
    PyramidSpec(3, 4, tuple(MergingCell(*cell) for cell in OUTPUTS)),
  }
  assert len(specs) == 1


def test_the_reference_name_of_global_pool_is_accepted():
  assert MergingCell((0, 1), 3, "attention") == MergingCell((0, 1), 3, "global_pool")


def test_parts_of_the_discovered_architecture():
  spec = CATALOG["nas_fpn"]
  assert spec.levels == (3, 4, 5, 6, 7)
  assert (spec.num_inputs, spec.num_cells, spec.num_intermediate_cells) == (5, 7, 2)
  assert [cell.level for cell in spec.intermediate_cells] == [4, 4]
  assert [cell.level for cell in spec.output_cells] == [3, 4, 5, 7, 6]
  assert [spec.is_output(index) for index in range(7)] == [False] * 2 + [True] * 5
  assert [spec.level_of(index) for index in range(12)] == [3, 4, 5, 6, 7, 4, 4, 3, 4, 5, 7, 6]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (((0,), 3, "sum"), r"two candidate indices, got \(0,\)"),
    (((0, 1, 2), 3, "sum"), "two candidate indices"),
    ((5, 3, "sum"), "two candidate indices, got 5"),
    (((0, 1.0), 3, "sum"), "non-negative int, got 1.0"),
    (((0, True), 3, "sum"), "non-negative int, got True"),
    (((0, 1), "3", "sum"), "level must be an int, got '3'"),
    (((0, 1), 3, "product"), "op must be one of sum, global_pool, got 'product'"),
    (((0, 1), 3, 7), "op must be one of sum, global_pool, got 7"),
    (((0, 1), 3, ["sum"]), "op must be one of sum, global_pool"),
  ],
)
def test_a_cell_refuses(arguments, message):
  with pytest.raises(ValueError, match=message):
    MergingCell(*arguments)


@pytest.mark.parametrize(
  ("cells", "message"),
  [
    (
      (((0, 1), 4, "sum"), ((0, 3), 4, "sum"), *OUTPUTS),
      r"cell 1 \(intermediate\) reads candidate 3, .* candidates 0 to 2: 2 inputs and 1 cells",
    ),
    (
      (OUTPUTS[0], ((0, 3), 4, "sum")),
      r"cell 1 \(output\) reads candidate 3, .* candidates 0 to 2",
    ),
    ((((0, 1), 5, "sum"), *OUTPUTS), r"cell 0 \(intermediate\) has level 5, outside 3 to 4"),
    ((OUTPUTS[0], ((0, 1), 2, "sum")), r"cell 1 \(output\) has level 2, outside 3 to 4"),
    ((OUTPUTS[0],), "1 cells are too few for one output at each of the 2 levels 3 to 4"),
    ((), "0 cells are too few"),
    ((OUTPUTS[0], ((0, 1), 4)), r"cell 1 \(output\) must be \(inputs, level, op\)"),
    ((OUTPUTS[0], "sum"), r"cell 1 \(output\) must be \(inputs, level, op\), got 'sum'"),
    ((OUTPUTS[0], ((0, 1), 4, "add")), r"cell 1 \(output\): the op must be one of"),
    (7, "cells must be a sequence"),
  ],
)
def test_a_spec_refuses_and_names_the_cell(cells, message):
  with pytest.raises(ValueError, match=message):
    PyramidSpec(3, 4, cells)


@pytest.mark.parametrize(
  ("min_level", "max_level"), [(4, 4), (5, 3), (-1, 1), (3, 7.0), ("3", 7), (False, 4)]
)
def test_a_spec_refuses_impossible_levels(min_level, max_level):
  with pytest.raises(ValueError, match=r"level"):
    PyramidSpec(min_level, max_level, OUTPUTS)


# What Model Garden 2.20's NASFPN accepts without a word, or fails on without naming the cell.


def test_the_same_input_twice_is_refused():
  with pytest.raises(ValueError, match=r"cell 1 \(output\): the two inputs must differ.*\(1, 1\)"):
    PyramidSpec(3, 4, (OUTPUTS[0], ((1, 1), 4, "sum")))


def test_an_intermediate_cell_at_stride_8_is_refused():
  with pytest.raises(ValueError, match=r"cell 0 \(intermediate\) has the lowest level, 3"):
    PyramidSpec(3, 4, (((0, 1), 3, "sum"), *OUTPUTS))


def test_a_negative_offset_is_refused():
  with pytest.raises(ValueError, match=r"cell 0 \(output\): an input must be .* got -1"):
    PyramidSpec(3, 4, (((0, -1), 3, "sum"), OUTPUTS[1]))


def test_an_output_level_given_twice_is_refused():
  with pytest.raises(
    ValueError, match=r"cell 1 \(output\) has level 3, which output cell 0 .* level 4 has none"
  ):
    PyramidSpec(3, 4, (OUTPUTS[0], OUTPUTS[0]))


def test_the_default_architecture_at_levels_3_to_6_is_refused_by_name():
  # Its indices count five inputs, and there are four: the first cell that this breaks is named.
  with pytest.raises(ValueError, match=r"cell 1 \(intermediate\) reads candidate 5, but"):
    PyramidSpec.from_block_specs(BLOCK_SPECS, max_level=6)


def test_block_specs_are_read():
  spec = PyramidSpec(
    cells=(
      ((1, 3), 4, "global_pool"),
      ((1, 5), 4, "sum"),
      ((0, 6), 3, "sum"),
      ((6, 7), 4, "sum"),
      ((7, 8), 5, "global_pool"),
      ((6, 9), 7, "global_pool"),
      ((9, 10), 6, "global_pool"),
    )
  )
  assert PyramidSpec.from_block_specs(BLOCK_SPECS) == spec == CATALOG["nas_fpn"]
  assert PyramidSpec.from_block_specs([list(block) for block in BLOCK_SPECS]) == spec


@pytest.mark.parametrize(
  ("index", "mark", "message"),
  [
    (1, True, r"cell 1 \(intermediate\) is marked as an output"),
    (2, False, r"cell 2 \(output\) is not marked as an output"),
  ],
)
def test_block_specs_with_a_wrong_output_mark_are_refused(index, mark, message):
  block_specs = list(BLOCK_SPECS)
  block_specs[index] = (*block_specs[index][:3], mark)
  with pytest.raises(ValueError, match=message):
    PyramidSpec.from_block_specs(block_specs)


def test_a_block_spec_of_another_shape_is_refused():
  with pytest.raises(ValueError, match="block spec 0 must be"):
    PyramidSpec.from_block_specs([(4, "sum", (0, 1))])


def test_a_spec_comes_from_a_recipe():
  spec = CATALOG["nas_fpn"]
  configuration.parse((), [configuration.to_gin(spec)])
  assert configuration.from_bindings(PyramidSpec) == spec
