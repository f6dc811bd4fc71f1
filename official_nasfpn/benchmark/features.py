"""Features of a pyramid's graph, for the surrogate."""

import math

from official_nasfpn.architecture import (
  PyramidSpec,
  SearchSpace,
  canonical_form,
  pyramid_multiply_adds,
  unconsumed_inputs,
)

# Every architecture of the table is of this space.
_RECORDED = SearchSpace()


def features(spec: PyramidSpec) -> dict[str, float]:
  """Returns a pyramid's features for the surrogate; equal for specs that compute the same.

  For each output: its op, its place in the building order and the levels it reads. For each pair of
  output and input of the pyramid: the number of cells on the shortest path, the number of paths,
  and, of the coarsest level on a path, the finest over all paths.

  Raises:
    ValueError: the spec says a size, or has other levels or another number of cells than the
      recorded ones, which are all alike in that.
  """
  if spec.size_name:
    raise ValueError(f"the table has trainings of one size, and the pyramid says {spec.size_name}")
  recorded, own = _shape(_RECORDED), _shape(spec)
  if own != recorded:
    raise ValueError(f"the table has trainings of pyramids with {recorded}, and this one has {own}")
  spec = canonical_form(spec)
  num_inputs = spec.num_inputs
  reads = [
    (*cell.inputs, *added) for cell, added in zip(spec.cells, unconsumed_inputs(spec), strict=True)
  ]
  # For each candidate and input of the pyramid. No path counts as longer and coarser than any.
  far, coarse = spec.num_cells + 1, spec.max_level + 1
  inputs = range(num_inputs)
  length = [[0 if i == j else far for j in inputs] for i in inputs]
  coarsest = [[spec.min_level + i if i == j else coarse for j in inputs] for i in inputs]
  ways = [[int(i == j) for j in inputs] for i in inputs]
  for cell, read in zip(spec.cells, reads, strict=True):
    length.append([min(far, 1 + min(length[i][j] for i in read)) for j in inputs])
    coarsest.append([max(cell.level, min(coarsest[i][j] for i in read)) for j in inputs])
    ways.append([sum(ways[i][j] for i in read) for j in inputs])
  found: dict[str, float] = {
    "pooling cells": sum(cell.op == "global_pool" for cell in spec.cells),
    "log multiply-adds": math.log(pyramid_multiply_adds(spec, 1, (256, 256))),
  }
  for level in spec.levels[1:]:
    found[f"intermediate cells at {level}"] = sum(
      cell.level == level for cell in spec.intermediate_cells
    )
  for place, cell in enumerate(spec.output_cells):
    index = spec.num_intermediate_cells + place
    levels = [spec.level_of(candidate) for candidate in reads[index]]
    output = f"P{cell.level}"
    found[f"{output} pools"] = cell.op == "global_pool"
    found[f"{output} place"] = place
    found[f"{output} number of inputs"] = len(levels)
    found[f"{output} finest input"] = min(levels) - cell.level
    found[f"{output} coarsest input"] = max(levels) - cell.level
    for j in inputs:
      way = f"{output} from C{spec.min_level + j}"
      found[f"{way} length"] = length[num_inputs + index][j]
      found[f"{way} coarsest level"] = coarsest[num_inputs + index][j]
      found[f"{way} log ways"] = math.log1p(ways[num_inputs + index][j])
  # By name: outputs are built in different orders.
  return {name: float(found[name]) for name in sorted(found)}


def _shape(of: PyramidSpec | SearchSpace) -> str:
  return f"levels {of.min_level} to {of.max_level} and {of.num_cells} cells"
