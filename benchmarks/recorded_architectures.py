"""A table of architectures that were really trained, and a surrogate model fitted to it.

`record_architectures.py` fills the table, `docs/bccd_search/trials.csv`. The surrogate is gradient
boosting on features of the pyramid's graph, so architectures that compute the same function get the
same reward.
"""

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from official_nasfpn.architecture import (
  PyramidSpec,
  SearchSpace,
  canonical_form,
  canonical_hash,
  pyramid_multiply_adds,
  unconsumed_inputs,
)
from official_nasfpn.errors import UserError

COLUMNS = ("search_seed", "trial", "architecture_hash", "reward", "choices")


@dataclasses.dataclass(frozen=True)
class Recorded:
  """One trained architecture.

  Attributes:
    search_seed: `Search.seed` of the search that sampled it.
    trial: its number in that search.
    architecture_hash: hash of its canonical form.
    reward: AP on the held-out images, in [0, 1].
    choices: the architecture, as `SearchSpace.decode` takes it.
  """

  search_seed: int
  trial: int
  architecture_hash: str
  reward: float
  choices: tuple[int, ...]

  @property
  def spec(self) -> PyramidSpec:
    return SearchSpace().decode(self.choices)


def read_table(path: Path) -> list[Recorded]:
  """Reads a table of trained architectures.

  Raises:
    UserError: the file is missing, or a line is wrong.
  """
  if not path.is_file():
    raise UserError(f"There is no table {str(path)!r}; write one with record_architectures.")
  rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
  if tuple(rows.fieldnames or ()) != COLUMNS:
    raise UserError(f"{path} must begin with the line {','.join(COLUMNS)!r}.")
  table: list[Recorded] = []
  lines: dict[str, int] = {}
  for row in rows:
    where = f"{path}, line {rows.line_num}"
    try:
      recorded = Recorded(
        int(row["search_seed"]),
        int(row["trial"]),
        row["architecture_hash"],
        float(row["reward"]),
        tuple(int(choice) for choice in row["choices"].split()),
      )
      computed = canonical_hash(recorded.spec)
    except (TypeError, ValueError, AttributeError) as error:
      raise UserError(f"{where}: {error}. Remove the line, or correct it.") from error
    if not math.isfinite(recorded.reward):
      raise UserError(f"{where}: the reward {row['reward']} is not finite. Remove the line.")
    if computed != recorded.architecture_hash:
      raise UserError(
        f"{where}: the choices are those of architecture {computed}, not of "
        f"{recorded.architecture_hash}. Remove the line, or correct it."
      )
    if computed in lines:
      raise UserError(f"{where}: the same architecture is already in line {lines[computed]}.")
    lines[computed] = rows.line_num
    table.append(recorded)
  return table


def table_text(table: Sequence[Recorded]) -> str:
  """Returns a table as CSV text; `read_table` reads it back."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(COLUMNS)
  for recorded in table:
    reward, choices = f"{recorded.reward:.6f}", " ".join(map(str, recorded.choices))
    writer.writerow(
      (recorded.search_seed, recorded.trial, recorded.architecture_hash, reward, choices)
    )
  return text.getvalue()


def features(spec: PyramidSpec) -> dict[str, float]:
  """Returns a pyramid's features for the surrogate; equal for specs that compute the same.

  For each output: its op, its place in the building order and the levels it reads. For each pair of
  output and input of the pyramid: the number of cells on the shortest path, the number of paths,
  and, of the coarsest level on a path, the finest over all paths.
  """
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


class Surrogate:
  """Predicts rewards of architectures that were not trained."""

  def __init__(self, table: Sequence[Recorded]):
    self._model = _model().fit(_matrix([r.spec for r in table]), [r.reward for r in table])

  def __call__(self, specs: Sequence[PyramidSpec]) -> np.ndarray:
    """Returns the predicted rewards, float64 [B]."""
    return self._model.predict(_matrix(specs))


@dataclasses.dataclass(frozen=True)
class Fit:
  """How well a surrogate predicts architectures that it has not seen.

  Attributes:
    r2: coefficient of determination.
    spearman: Spearman's rank correlation.
    kendall: Kendall's tau-b.
    residual: root mean square error. It holds the noise of the trainings and the error of the
      surrogate, so it is an upper bound of the noise.
  """

  r2: float
  spearman: float
  kendall: float
  residual: float


def cross_validate(table: Sequence[Recorded], num_folds: int = 10, seed: int = 0) -> Fit:
  """Returns the fit of a surrogate by k-fold cross-validation."""
  from scipy.stats import kendalltau, spearmanr
  from sklearn.model_selection import KFold, cross_val_predict

  rewards = np.array([recorded.reward for recorded in table])
  folds = KFold(num_folds, shuffle=True, random_state=seed)
  predicted = cross_val_predict(
    _model(), _matrix([recorded.spec for recorded in table]), rewards, cv=folds
  )
  residual = float(np.sqrt(np.mean((rewards - predicted) ** 2)))
  return Fit(
    r2=1 - residual**2 / float(rewards.var()),
    spearman=float(spearmanr(predicted, rewards).statistic),
    kendall=float(kendalltau(predicted, rewards).statistic),
    residual=residual,
  )


def _model():
  from sklearn.ensemble import GradientBoostingRegressor

  return GradientBoostingRegressor(
    max_depth=2, n_estimators=150, learning_rate=0.05, subsample=0.7, random_state=0
  )


def _matrix(specs: Sequence[PyramidSpec]) -> np.ndarray:
  return np.array([list(features(spec).values()) for spec in specs])
