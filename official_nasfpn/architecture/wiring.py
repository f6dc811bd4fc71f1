"""The connections that follow from a spec without being written in it."""

from official_nasfpn.architecture.merge_ops import MERGE_OPS
from official_nasfpn.architecture.spec import MergingCell, PyramidSpec


def unconsumed_inputs(spec: PyramidSpec) -> tuple[tuple[int, ...], ...]:
  """Returns the candidates that every cell adds to its two inputs.

  When an output cell is built, every candidate of its level that nothing has consumed yet, inputs
  of the pyramid included, is added to it (paper, section 3.1: such layers would otherwise not
  reach the output). Only what has been built before counts: a layer that a later cell reads is
  still added, as in the authors' code.

  Args:
    spec: the pyramid.

  Returns:
    For each cell in order, candidate indices in rising order; empty for intermediate cells.
  """
  consumed: set[int] = set()
  additions = []
  for index, cell in enumerate(spec.cells):
    consumed.update(cell.inputs)
    added: tuple[int, ...] = ()
    if spec.is_output(index):
      added = tuple(
        candidate
        for candidate in range(spec.num_inputs + index)
        if candidate not in consumed and spec.level_of(candidate) == cell.level
      )
    consumed.update(added)
    additions.append(added)
  return tuple(additions)


def coarse_and_fine(spec: PyramidSpec, cell: MergingCell) -> tuple[int, int]:
  """Returns the cell's two inputs, that of the higher level first.

  At equal levels the order is that of the cell.
  """
  first, second = cell.inputs
  return (first, second) if spec.level_of(first) >= spec.level_of(second) else (second, first)


def inputs_are_ordered(spec: PyramidSpec, cell: MergingCell) -> bool:
  """Returns whether swapping the cell's two inputs would change what it computes.

  Where the levels differ, they say which input is the coarse one; so the order matters only at
  equal levels, and only to an op that is not symmetric.
  """
  first, second = cell.inputs
  return not MERGE_OPS[cell.op].symmetric and spec.level_of(first) == spec.level_of(second)
