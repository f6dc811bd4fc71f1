"""The space that is searched, as sequences of decisions (paper, section 3.1)."""

import dataclasses
import functools
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Annotated, Literal, cast

from pydantic import Field

from official_nasfpn.architecture.merge_ops import MERGE_OPS
from official_nasfpn.architecture.spec import MAX_SIZE, MergingCell, PyramidSpec
from official_nasfpn.configuration import configurable, settings

# Larger spaces are not enumerated.
_MAX_ENUMERATED = 10_000_000

_Size = Annotated[int, Field(gt=0, le=MAX_SIZE)]
DecisionKind = Literal["input", "level", "op", "num_repeats", "num_filters"]


@dataclasses.dataclass(frozen=True)
class Decision:
  """One choice that describes a pyramid.

  Attributes:
    kind: what is chosen: a candidate to read, the level of the new layer, the op, or a size.
    cell: the index of the cell it is about; None for sizes, which are the pyramid's.
    num_choices: the number of choices, the same for all decisions of a kind, so that a controller
      can share weights between them. `SearchSpace.mask` tells which are valid.
  """

  kind: DecisionKind
  cell: int | None
  num_choices: int


@configurable("SearchSpace")
@settings
class SearchSpace:
  """All pyramids with some number of cells, levels and ops, and perhaps of several sizes.

  For each cell four decisions are taken: the first input, the second input (another one), the
  level and the op. A choice is an int: the index of the candidate, the level counted from the
  lowest one, the index in `ops`. An intermediate cell chooses among `intermediate_levels`, an
  output cell among the levels that no output cell has yet, and so the order of the outputs. Sizes,
  where there are any to choose from, come last.

  Every sequence of valid choices is one pyramid and every pyramid of the space is one sequence.

  Attributes:
    min_level: the lowest level.
    max_level: the highest level.
    num_intermediate_cells: the number of cells before the output cells.
    ops: the ops to choose from, some of `MERGE_OPS`; by default the paper's.
    intermediate_levels: the levels that intermediate cells may have; most of a pyramid's cost
      depends on them. None allows all but the lowest.
    num_repeats: numbers of stacked pyramids to choose from, such as (1, 3, 5). Wiring alone changes
      what a detector costs by a few percent, its sizes by multiples. Empty leaves the number to
      `Detector.num_repeats`; what is chosen counts instead of it. Each size has a graph of its own,
      and a worker that goes from one to another grows: set `Search.trials_per_worker` to 20, say.
    num_filters: widths of the pyramid to choose from; empty leaves it to `Detector.num_filters`.
  """

  min_level: int = 3
  max_level: int = 7
  num_intermediate_cells: int = 2
  ops: tuple[str, ...] = ("sum", "global_pool")
  intermediate_levels: tuple[int, ...] | None = None
  num_repeats: tuple[_Size, ...] = ()
  num_filters: tuple[_Size, ...] = ()

  def __post_init__(self) -> None:
    if not 0 <= self.min_level < self.max_level:
      raise ValueError(
        "a search space needs 0 <= min_level < max_level, got "
        f"min_level {self.min_level} and max_level {self.max_level}"
      )
    if self.num_intermediate_cells < 0:
      raise ValueError(
        f"num_intermediate_cells must not be negative, got {self.num_intermediate_cells}"
      )
    if not self.ops or len(set(self.ops)) != len(self.ops) or not set(self.ops) <= set(MERGE_OPS):
      raise ValueError(f"ops must be some of {', '.join(MERGE_OPS)}, each once, got {self.ops!r}")
    allowed = range(self.min_level + 1, self.max_level + 1)
    levels = self._intermediate_levels
    if not levels or len(set(levels)) != len(levels) or not set(levels) <= set(allowed):
      raise ValueError(
        f"intermediate_levels must be some of {self.min_level + 1} to {self.max_level}, each once, "
        f"got {self.intermediate_levels!r}"
      )
    for name, values in self._size_choices.items():
      if len(set(values)) != len(values):
        raise ValueError(f"{name} must have each number once, got {values!r}")

  @property
  def num_levels(self) -> int:
    """The number of levels, of inputs and of output cells."""
    return self.max_level - self.min_level + 1

  @property
  def num_cells(self) -> int:
    return self.num_intermediate_cells + self.num_levels

  @functools.cached_property
  def decisions(self) -> tuple[Decision, ...]:
    """The decisions in the order in which they are taken: four for each cell, then sizes."""
    num_inputs = self._num_candidates(self.num_cells - 1)
    decisions_of_a_cell: tuple[tuple[DecisionKind, int], ...] = (
      ("input", num_inputs),
      ("input", num_inputs),
      ("level", self.num_levels),
      ("op", len(self.ops)),
    )
    of_cells = (
      Decision(kind, cell, num_choices)
      for cell in range(self.num_cells)
      for kind, num_choices in decisions_of_a_cell
    )
    of_sizes = (
      Decision(cast(DecisionKind, name), None, len(values))
      for name, values in self._size_choices.items()
    )
    return (*of_cells, *of_sizes)

  @property
  def size(self) -> int:
    """The exact number of pyramids in the space: of sequences of valid choices."""
    input_pairs = math.prod(
      self._num_candidates(cell) * (self._num_candidates(cell) - 1)
      for cell in range(self.num_cells)
    )
    intermediate: int = len(self._intermediate_levels) ** self.num_intermediate_cells
    levels = intermediate * math.factorial(self.num_levels)
    ops: int = len(self.ops) ** self.num_cells
    return input_pairs * levels * ops * math.prod(map(len, self._size_choices.values()))

  @property
  def size_unordered(self) -> int:
    """The size if the two inputs of a cell are unordered, as the literature counts."""
    orders: int = 2**self.num_cells
    return self.size // orders

  def mask(self, choices: Sequence[int]) -> tuple[bool, ...]:
    """Returns which choices are valid for the next decision.

    Args:
      choices: the choices taken so far, all of them valid.

    Returns:
      One bool for each of the `num_choices` of decision number `len(choices)`.
    """
    cell, step = divmod(len(choices), 4)
    if cell >= self.num_cells:
      return (True,) * self.decisions[len(choices)].num_choices
    if step == 1:
      return self._second_input_masks[cell][choices[-1]]
    if step == 2 and cell >= self.num_intermediate_cells:
      taken = set(choices[4 * self.num_intermediate_cells + 2 :: 4])
      return tuple(level not in taken for level in range(self.num_levels))
    return self._constant_masks[cell][step]

  def decode(self, choices: Sequence[int]) -> PyramidSpec:
    """Returns the pyramid that a full sequence of choices describes.

    Raises:
      ValueError: there are too few or too many choices, or one is not valid.
    """
    if len(choices) != len(self.decisions):
      raise ValueError(f"{len(self.decisions)} choices make a pyramid, got {len(choices)}")
    choices = tuple(int(choice) for choice in choices)
    for index, (choice, decision) in enumerate(zip(choices, self.decisions, strict=True)):
      if not 0 <= choice < decision.num_choices or not self.mask(choices[:index])[choice]:
        what = (
          decision.kind if decision.cell is None else f"{decision.kind} of cell {decision.cell}"
        )
        raise ValueError(f"choice {choice} is not valid for decision {index}, the {what}")
    of_cells, of_sizes = choices[: 4 * self.num_cells], choices[4 * self.num_cells :]
    cells = tuple(
      MergingCell((first, second), self.min_level + level, self.ops[op])
      for first, second, level, op in zip(*[iter(of_cells)] * 4, strict=True)
    )
    sizes = {
      name: values[choice]
      for (name, values), choice in zip(self._size_choices.items(), of_sizes, strict=True)
    }
    return PyramidSpec(self.min_level, self.max_level, cells, **sizes)

  def at_every_size(self, spec: PyramidSpec) -> list[PyramidSpec]:
    """Returns a pyramid at every size that the space has; as it is where it has none."""
    if not self._size_choices:
      return [spec]
    return [
      PyramidSpec(
        spec.min_level,
        spec.max_level,
        spec.cells,
        **dict(zip(self._size_choices, sizes, strict=True)),
      )
      for sizes in itertools.product(*self._size_choices.values())
    ]

  def encode(self, spec: PyramidSpec) -> tuple[int, ...]:
    """Returns the choices that `decode` turns into this pyramid.

    Raises:
      ValueError: the pyramid is not in this space.
    """
    if (spec.min_level, spec.max_level) != (self.min_level, self.max_level):
      raise ValueError(
        f"the pyramid has levels {spec.min_level} to {spec.max_level}, the search space "
        f"{self.min_level} to {self.max_level}"
      )
    if spec.num_cells != self.num_cells:
      raise ValueError(
        f"the pyramid has {spec.num_cells} cells, those of the search space have {self.num_cells}"
      )
    choices: list[int] = []
    for index, cell in enumerate(spec.cells):
      if cell.op not in self.ops:
        raise ValueError(f"cell {index} has op {cell.op!r}, the search space {self.ops}")
      if not spec.is_output(index) and cell.level not in self._intermediate_levels:
        raise ValueError(
          f"cell {index} has level {cell.level}, intermediate cells of the search space "
          f"{self._intermediate_levels}"
        )
      choices += (*cell.inputs, cell.level - self.min_level, self.ops.index(cell.op))
    for name, size in spec.sizes.items():
      values = self._size_choices.get(name)
      if values is None and size is not None:
        raise ValueError(
          f"the pyramid has {name} {size}, which the search space leaves to Detector.{name}"
        )
      if values is not None:
        if size not in values:
          raise ValueError(f"the pyramid has {name} {size}, the search space {values}")
        choices.append(values.index(size))
    return tuple(choices)

  def sample(self, rng: random.Random) -> PyramidSpec:
    """Returns a pyramid drawn uniformly from the space."""
    # The number of valid choices never depends on earlier ones, so drawing each choice uniformly
    # draws the sequence uniformly.
    choices: list[int] = []
    for _ in self.decisions:
      choices.append(rng.choice([c for c, valid in enumerate(self.mask(choices)) if valid]))
    return self.decode(choices)

  def enumerate(self) -> Iterator[PyramidSpec]:
    """Yields every pyramid of a small space once.

    Raises:
      ValueError: the space is too large for that.
    """
    if self.size > _MAX_ENUMERATED:
      raise ValueError(
        f"the search space has {count_in_words(self.size)} pyramids; at most {_MAX_ENUMERATED:,} "
        "are enumerated"
      )
    return map(self.decode, self._sequences(()))

  def _sequences(self, choices: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yields every full sequence that starts with `choices`."""
    if len(choices) == len(self.decisions):
      yield choices
      return
    for choice, valid in enumerate(self.mask(choices)):
      if valid:
        yield from self._sequences((*choices, choice))

  @property
  def has_sizes(self) -> bool:
    """Whether there are sizes to choose from."""
    return bool(self._size_choices)

  @property
  def _size_choices(self) -> dict[str, tuple[int, ...]]:
    """The sizes to choose from by name, in the order in which they are chosen."""
    choices = {"num_repeats": self.num_repeats, "num_filters": self.num_filters}
    return {name: values for name, values in choices.items() if values}

  @property
  def _intermediate_levels(self) -> tuple[int, ...]:
    if self.intermediate_levels is None:
      return tuple(range(self.min_level + 1, self.max_level + 1))
    return self.intermediate_levels

  def _num_candidates(self, cell: int) -> int:
    return self.num_levels + cell

  # Masks are kept, because a controller asks for one at each step of each sample.

  @functools.cached_property
  def _constant_masks(self) -> tuple[tuple[tuple[bool, ...], ...], ...]:
    """For each cell, the masks of its four decisions before earlier choices are considered."""
    num_inputs = self._num_candidates(self.num_cells - 1)
    masks = []
    for cell in range(self.num_cells):
      inputs = tuple(index < self._num_candidates(cell) for index in range(num_inputs))
      levels = tuple(
        self.min_level + level in self._intermediate_levels for level in range(self.num_levels)
      )
      masks.append((inputs, inputs, levels, (True,) * len(self.ops)))
    return tuple(masks)

  @functools.cached_property
  def _second_input_masks(self) -> tuple[tuple[tuple[bool, ...], ...], ...]:
    """For each cell and first input, the mask of the second input."""
    return tuple(
      tuple(
        tuple(valid and index != first for index, valid in enumerate(masks[1]))
        for first in range(len(masks[1]))
      )
      for masks in self._constant_masks
    )


def count_in_words(number: int) -> str:
  """Returns a number of pyramids for people, `1,320` or `1.93e+15`.

  It may be greater than any float, and have more digits than Python writes of a whole number.

  Args:
    number: such as `SearchSpace.size`.
  """
  return f"{number:,}" if number < 1_000_000 else f"{Decimal(number):.2e}"
