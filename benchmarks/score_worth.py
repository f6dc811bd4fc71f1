"""What a score of architectures says about the AP that they are trained to."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import stats

_NUM_RESAMPLED = 2000


@dataclasses.dataclass(frozen=True)
class Worth:
  """What a score says about the AP of trained architectures.

  Attributes:
    spearman: rank correlation over all.
    low: lower end of its 95 % interval, by the bootstrap.
    high: upper end.
    among_the_best: rank correlation among the best quarter by AP.
    kept: share of the best tenth by AP that is left when the worse half by score is skipped.
    best_of_20: expected AP of the best of 20 that are drawn from the better half by score.
  """

  spearman: float
  low: float
  high: float
  among_the_best: float
  kept: float
  best_of_20: float


def expected_best(aps: np.ndarray, count: int) -> float:
  """Returns the mean of the greatest AP over all ways to draw `count` different architectures."""
  ordered = np.sort(aps)
  # The k-th smallest is the greatest of a draw if the others come from the k - 1 below it.
  ways = np.array([math.comb(below, count - 1) for below in range(len(ordered))], float)
  return float((ways * ordered).sum() / ways.sum())


def worth_of(scores: np.ndarray, aps: np.ndarray) -> Worth:
  """Returns what scores say about the AP of as many architectures."""
  rng = np.random.default_rng(0)
  resampled = []
  for _ in range(_NUM_RESAMPLED):
    chosen = rng.integers(len(aps), size=len(aps))
    resampled.append(stats.spearmanr(scores[chosen], aps[chosen]).statistic)
  low, high = np.nanquantile(resampled, (0.025, 0.975))
  by_ap, by_score = np.argsort(-aps, kind="stable"), np.argsort(-scores, kind="stable")
  best_quarter, best_tenth = by_ap[: len(aps) // 4], by_ap[: len(aps) // 10]
  kept = np.isin(best_tenth, by_score[: len(aps) // 2]).mean()
  return Worth(
    float(stats.spearmanr(scores, aps).statistic),
    float(low),
    float(high),
    float(stats.spearmanr(scores[best_quarter], aps[best_quarter]).statistic),
    float(kept),
    expected_best(aps[by_score[: len(aps) // 2]], 20),
  )


def draw(scores: Mapping[str, np.ndarray], aps: np.ndarray, path: Path) -> None:
  """Draws AP over each score's rank, a panel for each."""
  from matplotlib.figure import Figure

  columns = 3
  rows = -(-len(scores) // columns)
  figure = Figure(figsize=(4 * columns, 2.8 * rows), layout="constrained")
  panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
  for axes, (name, values) in zip(panels, scores.items(), strict=False):
    axes.plot(stats.rankdata(values), aps, ".", markersize=4, alpha=0.6)
    axes.set_title(f"{name}: {stats.spearmanr(values, aps).statistic:+.2f}", fontsize=10)
    axes.grid(alpha=0.3)
  for axes in panels[len(scores) :]:
    axes.remove()
  for axes in panels[::columns]:
    axes.set_ylabel("AP")
  figure.supxlabel("rank by score, the highest on the right")
  figure.savefig(path, dpi=100)
