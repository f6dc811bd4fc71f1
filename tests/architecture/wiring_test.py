"""What output cells add, and where the order of inputs matters."""

import pytest

from official_nasfpn.architecture import (
  CATALOG,
  MergingCell,
  PyramidSpec,
  inputs_are_ordered,
  unconsumed_inputs,
)


def test_the_discovered_architecture_adds_two_inputs():
  # C5 to P5 and C7 to P7, as Model Garden's NASFPN does at runtime.
  assert unconsumed_inputs(CATALOG["nas_fpn"]) == ((), (), (), (), (2,), (4,), ())


def test_fpn_adds_nothing():
  assert unconsumed_inputs(CATALOG["fpn_like"]) == ((),) * 5


def test_unread_intermediates_go_to_the_output_of_their_level():
  spec = PyramidSpec(
    3, 4, (((0, 1), 4, "sum"), ((0, 1), 4, "sum"), ((0, 1), 3, "sum"), ((1, 2), 4, "sum"))
  )
  assert unconsumed_inputs(spec) == ((), (), (), (3,))


def test_what_only_a_later_cell_reads_is_still_added():
  # C4 is read by P3, but P4 is built first.
  spec = PyramidSpec(3, 5, (((0, 2), 4, "sum"), ((0, 1), 3, "sum"), ((0, 2), 5, "sum")))
  assert unconsumed_inputs(spec) == ((1,), (), ())


def test_a_cells_own_inputs_count_as_read():
  spec = PyramidSpec(3, 4, (((0, 1), 3, "sum"), ((1, 2), 4, "sum")))
  assert unconsumed_inputs(spec) == ((), ())


@pytest.mark.parametrize(
  ("op", "inputs", "ordered"),
  [
    ("sum", (0, 1), False),
    ("sum", (1, 5), False),
    ("global_pool", (0, 1), False),
    ("global_pool", (1, 5), True),
  ],
)
def test_order_matters_to_a_global_pool_of_equal_levels_only(op, inputs, ordered):
  # Candidates 1 and 5 of the discovered architecture both have level 4.
  assert inputs_are_ordered(CATALOG["nas_fpn"], MergingCell(inputs, 4, op)) == ordered
