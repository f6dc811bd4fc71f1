"""A feature pyramid as data: merging cells and the levels they connect (paper, section 3.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from official_nasfpn.architecture.merge_ops import MERGE_OPS
from official_nasfpn.configuration import LEFT_OUT_IF_NONE, configurable

# Of repeats and of filters. No detector comes near; a stranger's file may name any number.
MAX_SIZE = 9999


@dataclasses.dataclass(frozen=True)
class MergingCell:
  """Merges two candidate feature layers into a new one.

  Attributes:
    inputs: two different indices into the candidates: the pyramid's inputs in order of their level,
      then the output of every cell in order.
    level: the level of the new feature layer; its stride is `2**level`.
    op: one of `MERGE_OPS`. The reference's name of `global_pool`, `attention`, is accepted too.
  """

  inputs: tuple[int, int]
  level: int
  op: str

  def __post_init__(self) -> None:
    if isinstance(self.inputs, list):
      object.__setattr__(self, "inputs", tuple(self.inputs))
    if isinstance(self.op, str):
      object.__setattr__(self, "op", _by_reference_name(self.op))
    if not isinstance(self.inputs, tuple) or len(self.inputs) != 2:
      raise ValueError(f"inputs must be two candidate indices, got {self.inputs!r}")
    for index in self.inputs:
      if type(index) is not int or index < 0:
        raise ValueError(f"an input must be a non-negative int, got {index!r} in {self.inputs}")
    if self.inputs[0] == self.inputs[1]:
      raise ValueError(f"the two inputs must differ, got {self.inputs}")
    if type(self.level) is not int:
      raise ValueError(f"the level must be an int, got {self.level!r}")
    if not isinstance(self.op, str) or self.op not in MERGE_OPS:
      raise ValueError(f"the op must be one of {', '.join(MERGE_OPS)}, got {self.op!r}")


@configurable("PyramidSpec")
@dataclasses.dataclass(frozen=True)
class PyramidSpec:
  """The architecture of one feature pyramid.

  The last cells, one for each level, are the output cells; those before them are intermediate
  cells. An intermediate cell never has the lowest level.

  Attributes:
    min_level: the lowest level, that of the first input and of one output.
    max_level: the highest level.
    cells: the cells in the order in which they are built. `(inputs, level, op)` tuples are
      accepted and become `MergingCell`s.
    num_repeats: how many of this pyramid a detector stacks; None leaves it to
      `Detector.num_repeats`. A search sets it where `SearchSpace.num_repeats` has choices.
    num_filters: the width of every feature map; None leaves it to `Detector.num_filters`.
  """

  min_level: int = 3
  max_level: int = 7
  cells: tuple[MergingCell, ...] = ()
  num_repeats: int | None = dataclasses.field(default=None, metadata=LEFT_OUT_IF_NONE)
  num_filters: int | None = dataclasses.field(default=None, metadata=LEFT_OUT_IF_NONE)

  def __post_init__(self) -> None:
    if type(self.min_level) is not int or type(self.max_level) is not int:
      raise ValueError(f"levels must be ints, got {self.min_level!r} and {self.max_level!r}")
    if not 0 <= self.min_level < self.max_level:
      raise ValueError(
        "a pyramid needs 0 <= min_level < max_level, got "
        f"min_level {self.min_level} and max_level {self.max_level}"
      )
    if not isinstance(self.cells, tuple | list):
      raise ValueError(f"cells must be a sequence of (inputs, level, op), got {self.cells!r}")
    if len(self.cells) < self.num_inputs:
      raise ValueError(
        f"{len(self.cells)} cells are too few for one output at each of the {self.num_inputs} "
        f"levels {self.min_level} to {self.max_level}"
      )
    object.__setattr__(
      self, "cells", tuple(self._as_cell(index, cell) for index, cell in enumerate(self.cells))
    )
    for index, cell in enumerate(self.cells):
      self._check_cell(index, cell)
    self._check_output_levels()
    for name, size in self.sizes.items():
      if size is not None and (type(size) is not int or not 1 <= size <= MAX_SIZE):
        raise ValueError(f"{name} must be an int from 1 to {MAX_SIZE}, or None")

  @property
  def levels(self) -> tuple[int, ...]:
    """All levels, the lowest first."""
    return tuple(range(self.min_level, self.max_level + 1))

  @property
  def num_inputs(self) -> int:
    """The number of input feature layers, which is also that of levels and of outputs."""
    return self.max_level - self.min_level + 1

  @property
  def num_cells(self) -> int:
    return len(self.cells)

  @property
  def num_intermediate_cells(self) -> int:
    return len(self.cells) - self.num_inputs

  @property
  def intermediate_cells(self) -> tuple[MergingCell, ...]:
    return self.cells[: self.num_intermediate_cells]

  @property
  def output_cells(self) -> tuple[MergingCell, ...]:
    """The output cells in the order in which they are built."""
    return self.cells[self.num_intermediate_cells :]

  @property
  def sizes(self) -> dict[str, int | None]:
    """How large it is in a detector, by the names of `Detector`'s settings."""
    return {"num_repeats": self.num_repeats, "num_filters": self.num_filters}

  @property
  def size_name(self) -> str:
    """Its sizes as the paper writes them, `7 @ 256`; empty where they are left to the detector."""
    if self.num_repeats and self.num_filters:
      return f"{self.num_repeats} @ {self.num_filters}"
    names = {"repeats": self.num_repeats, "filters": self.num_filters}
    return "".join(f"{size} {name}" for name, size in names.items() if size)

  def is_output(self, cell_index: int) -> bool:
    """Returns whether the cell with this index, counted from the first cell, is an output cell."""
    return cell_index >= self.num_intermediate_cells

  def level_of(self, candidate: int) -> int:
    """Returns the level of a candidate: an input or the output of a cell."""
    if candidate < self.num_inputs:
      return self.min_level + candidate
    return self.cells[candidate - self.num_inputs].level

  @classmethod
  def from_block_specs(
    cls, block_specs: Iterable[Sequence[Any]], min_level: int = 3, max_level: int = 7
  ) -> PyramidSpec:
    """Reads the notation of the authors' code and of Model Garden.

    Args:
      block_specs: `(level, op, (input, input), is_output)` for every cell in order.
      min_level: the lowest level.
      max_level: the highest level.

    Raises:
      ValueError: the cells break a rule, or those marked as outputs are not the last ones.
    """
    cells: list[Any] = []  # Checked where the spec is made, which names the cell at fault.
    marks = []
    for index, block_spec in enumerate(block_specs):
      if len(block_spec) != 4:
        raise ValueError(
          f"block spec {index} must be (level, op, (input, input), is_output), got {block_spec!r}"
        )
      level, op, inputs, is_output = block_spec
      cells.append((inputs, level, op))
      marks.append(bool(is_output))
    spec = cls(min_level, max_level, tuple(cells))
    for index, mark in enumerate(marks):
      if mark != spec.is_output(index):
        raise ValueError(
          f"{spec._describe(index)} is{'' if mark else ' not'} marked as an output; the outputs "
          f"are the last {spec.num_inputs} cells"
        )
    return spec

  def _describe(self, index: int) -> str:
    return f"cell {index} ({'output' if self.is_output(index) else 'intermediate'})"

  def _as_cell(self, index: int, cell: MergingCell | Sequence[Any]) -> MergingCell:
    if isinstance(cell, MergingCell):
      return cell
    if not isinstance(cell, tuple | list) or len(cell) != 3:
      raise ValueError(f"{self._describe(index)} must be (inputs, level, op), got {cell!r}")
    try:
      return MergingCell(*cell)
    except ValueError as error:
      raise ValueError(f"{self._describe(index)}: {error}") from error

  def _check_cell(self, index: int, cell: MergingCell) -> None:
    num_candidates = self.num_inputs + index
    if max(cell.inputs) >= num_candidates:
      raise ValueError(
        f"{self._describe(index)} reads candidate {max(cell.inputs)}, but before it there are only "
        f"candidates 0 to {num_candidates - 1}: {self.num_inputs} inputs and {index} cells"
      )
    if not self.min_level <= cell.level <= self.max_level:
      raise ValueError(
        f"{self._describe(index)} has level {cell.level}, outside {self.min_level} to "
        f"{self.max_level}"
      )
    if cell.level == self.min_level and not self.is_output(index):
      raise ValueError(
        f"{self._describe(index)} has the lowest level, {self.min_level}, which only an output "
        "cell may have"
      )

  def _check_output_levels(self) -> None:
    first_by_level: dict[int, int] = {}
    for index in range(self.num_intermediate_cells, self.num_cells):
      level = self.cells[index].level
      if level in first_by_level:
        missing = sorted(set(self.levels) - {cell.level for cell in self.output_cells})
        raise ValueError(
          f"{self._describe(index)} has level {level}, which output cell {first_by_level[level]} "
          f"has already; every level needs exactly one output, level {missing[0]} has none"
        )
      first_by_level[level] = index


def _by_reference_name(name: str) -> str:
  return next((name_here for name_here, op in MERGE_OPS.items() if op.reference_name == name), name)
