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

  Equal scores at the border between the halves are told apart by lot: `kept` and `best_of_20` are
  means over all lots.
  """

  spearman: float
  low: float
  high: float
  among_the_best: float
  kept: float
  best_of_20: float


def in_better_half(scores: np.ndarray) -> np.ndarray:
  """Returns each one's chance to be in the half with the higher scores: 1, 0, or by lot between."""
  half = len(scores) // 2
  border = np.sort(scores)[-half]
  above, tied = scores > border, scores == border
  return above + tied * (half - above.sum()) / tied.sum()


def expected_best(aps: np.ndarray, count: int, chances: np.ndarray | None = None) -> float:
  """Returns the mean of the greatest AP over all ways to draw different architectures.

  Args:
    aps: AP of all.
    count: how many are drawn.
    chances: of each to be among those that are drawn from, as `in_better_half` returns them; None
      to draw from all.
  """
  order = np.argsort(aps)
  chances = np.ones(len(aps)) if chances is None else chances[order]
  is_tied = (chances > 0) & (chances < 1)
  num_tied, places = int(is_tied.sum()), round(chances[is_tied].sum())
  certain, tied = np.cumsum(chances == 1).tolist(), np.cumsum(is_tied).tolist()
  # Draws up to each AP: k of them tied ones, which with others of these fill the places.
  ways = [
    sum(
      math.comb(below, count - k) * math.comb(tied_below, k) * math.comb(num_tied - k, places - k)
      for k in range(min(count, places) + 1)
    )
    for below, tied_below in zip(certain, tied, strict=True)
  ]
  shares = np.diff([way / ways[-1] for way in ways], prepend=0)
  return float(shares @ aps[order])


def worth_of(scores: np.ndarray, aps: np.ndarray) -> Worth:
  """Returns what scores say about the AP of as many architectures."""
  rng = np.random.default_rng(0)
  resampled = []
  for _ in range(_NUM_RESAMPLED):
    chosen = rng.integers(len(aps), size=len(aps))
    resampled.append(stats.spearmanr(scores[chosen], aps[chosen]).statistic)
  low, high = np.nanquantile(resampled, (0.025, 0.975))
  by_ap, chances = np.argsort(-aps, kind="stable"), in_better_half(scores)
  best_quarter, best_tenth = by_ap[: len(aps) // 4], by_ap[: len(aps) // 10]
  return Worth(
    float(stats.spearmanr(scores, aps).statistic),
    float(low),
    float(high),
    float(stats.spearmanr(scores[best_quarter], aps[best_quarter]).statistic),
    float(chances[best_tenth].mean()),
    expected_best(aps, 20, chances),
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
