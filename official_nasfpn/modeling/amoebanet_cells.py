"""The cells of AmoebaNet-D as data (Real et al. 2019), and the number of cells.

Cells, stem and widths follow the authors' classifier in `tensorflow/tpu`. The NAS-FPN paper does
not say which AmoebaNet-D it used: F = 256 and 15 normal cells are the only numbers that give the
parameters and the FLOPs of all its AmoebaNet rows.
"""

from dataclasses import dataclass

NUM_FILTERS = 256
NUM_STEM_FILTERS = 32
NORMAL_CELLS_PER_STAGE = 5


@dataclass(frozen=True)
class Cell:
  """A cell: five pairwise sums of states.

  States 0 and 1 are the outputs of the last cell and of the one before, each projected to the
  cell's width; every sum adds a state.

  Attributes:
    sums: the two terms (state, op) of each sum.
    outputs: the states whose concatenation is the cell's output.
  """

  sums: tuple[tuple[tuple[int, str], tuple[int, str]], ...]
  outputs: tuple[int, ...]


NORMAL_CELL = Cell(
  sums=(
    ((1, "1x1"), (1, "max_3x3")),
    ((1, "identity"), (0, "1x7_7x1")),
    ((0, "1x1"), (0, "1x7_7x1")),
    ((2, "max_3x3"), (2, "identity")),
    ((1, "avg_3x3"), (5, "1x1")),
  ),
  outputs=(0, 3, 4, 6),
)
REDUCTION_CELL = Cell(
  sums=(
    ((0, "max_2x2"), (0, "max_3x3")),
    ((2, "identity"), (1, "3x3")),
    ((2, "1x7_7x1"), (2, "max_3x3")),
    ((3, "identity"), (1, "max_2x2")),
    ((2, "avg_3x3"), (3, "1x1")),
  ),
  outputs=(4, 5, 6),
)
