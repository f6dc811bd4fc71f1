"""The features of the surrogate: of the function that a pyramid computes."""

import dataclasses
import random

import numpy as np
import pytest

from official_nasfpn.architecture import (
  CATALOG,
  PyramidSpec,
  SearchSpace,
  canonical_hash,
  inputs_are_ordered,
)
from official_nasfpn.benchmark.features import features
from official_nasfpn.benchmark.table import read_table

SPACE = SearchSpace()


def swapped(spec: PyramidSpec) -> PyramidSpec:
  """Swaps the inputs of every cell where their order does not matter."""
  cells = (
    cell if inputs_are_ordered(spec, cell) else dataclasses.replace(cell, inputs=cell.inputs[::-1])
    for cell in spec.cells
  )
  return dataclasses.replace(spec, cells=tuple(cells))


def exchanged(spec: PyramidSpec, first: int) -> PyramidSpec | None:
  """Exchanges two successive cells, neither of which reads the other."""
  one, other = (spec.num_inputs + first, spec.num_inputs + first + 1)
  if one in spec.cells[first + 1].inputs:
    return None
  number = {one: other, other: one}
  cells = [
    dataclasses.replace(cell, inputs=tuple(number.get(i, i) for i in cell.inputs))
    for cell in spec.cells
  ]
  cells[first], cells[first + 1] = cells[first + 1], cells[first]
  return dataclasses.replace(spec, cells=tuple(cells))


def test_features_are_those_of_the_function_not_of_the_spec():
  rng = random.Random(0)
  num_exchanged = 0
  for _ in range(60):
    spec = SPACE.sample(rng)
    assert features(swapped(spec)) == features(spec)
    for first in (0, *range(2, 6)):
      other = exchanged(spec, first)
      if other is not None and canonical_hash(other) == canonical_hash(spec):
        num_exchanged += 1
        assert features(other) == features(spec)
  assert num_exchanged > 20


def test_another_size_has_no_features():
  sized = dataclasses.replace(CATALOG["nas_fpn"], num_repeats=3)
  with pytest.raises(ValueError, match="trainings of one size, and the pyramid says 3 repeats"):
    features(sized)


@pytest.mark.parametrize(
  ("spec", "what"),
  [
    (CATALOG["nas_fpnlite_ours"], "levels 3 to 6 and [0-9]+ cells"),
    (SearchSpace(4, 8).sample(random.Random(0)), "levels 4 to 8 and 7 cells"),
    (SearchSpace(2, 7).sample(random.Random(0)), "levels 2 to 7 and 8 cells"),
    (SearchSpace(num_intermediate_cells=3).sample(random.Random(0)), "levels 3 to 7 and 8 cells"),
  ],
)
def test_a_pyramid_of_another_space_has_no_features(spec, what):
  with pytest.raises(ValueError, match=f"levels 3 to 7 and 7 cells, and this one has {what}$"):
    features(spec)


def test_all_recorded_pyramids_have_features():
  table = read_table()
  assert len({tuple(features(entry.spec)) for entry in table}) == 1


def test_features_of_the_discovered_architecture():
  """Expected values were read off Figure 6 of the paper by hand."""
  found = features(CATALOG["nas_fpn"])
  assert found["pooling cells"] == 4
  assert found["intermediate cells at 4"] == 2
  # P3 is the first output and reads C3 and the second intermediate cell, which reads C4 and the
  # first one, which reads C4 and C6.
  assert found["P3 place"] == 0
  assert found["P3 pools"] == 0
  assert found["P3 from C3 length"] == 1
  assert found["P3 from C6 length"] == 3
  assert found["P3 from C6 coarsest level"] == 6
  # C4 reaches P3 through the second intermediate cell, directly and through the first one.
  assert found["P3 from C4 log ways"] == pytest.approx(np.log1p(2))
  # P3 reads neither C5 nor C7: the values are the number of cells plus 1, the highest level plus 1.
  assert found["P3 from C7 length"] == 8
  assert found["P3 from C7 coarsest level"] == 8


def test_different_architectures_have_different_features():
  rng = random.Random(1)
  seen = {canonical_hash(spec): spec for spec in (SPACE.sample(rng) for _ in range(200))}
  assert len({tuple(features(spec).values()) for spec in seen.values()}) > 0.98 * len(seen)
  assert len({tuple(features(spec)) for spec in seen.values()}) == 1
