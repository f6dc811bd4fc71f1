"""How well one ranking predicts another."""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

_NUM_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Correlation:
  """A rank correlation with its 95 % confidence interval.

  Attributes:
    value: the correlation, in [-1, 1].
    low: the lower end of the interval.
    high: the upper end of the interval.
    num_pairs: the number of architectures.
  """

  value: float
  low: float
  high: float
  num_pairs: int

  def as_text(self) -> str:
    """Returns the value and the interval as text."""
    return f"{self.value:.2f} (95 % interval {self.low:.2f} to {self.high:.2f})"


def spearman(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Correlation:
  """Returns Spearman's rank correlation; see `_with_interval` for the interval."""
  return _with_interval(stats.spearmanr, first, second, seed)


def kendall(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Correlation:
  """Returns Kendall's tau-b; see `_with_interval` for the interval."""
  return _with_interval(stats.kendalltau, first, second, seed)


def _with_interval(
  correlate: Callable[[np.ndarray, np.ndarray], Any],
  first: Sequence[float],
  second: Sequence[float],
  seed: int,
) -> Correlation:
  """Returns a correlation with its 95 % interval by the percentile bootstrap over pairs.

  Args:
    correlate: SciPy's function of two arrays; its result has the `statistic`.
    first: values.
    second: their partners.
    seed: the seed of the resampling.

  Raises:
    ValueError: there are fewer than three pairs, or all values of a side are equal.
  """
  x, y = np.asarray(first, float), np.asarray(second, float)
  if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
    raise ValueError("a rank correlation needs three pairs, and values that differ")

  def resampled(x: np.ndarray, y: np.ndarray) -> float:
    # All values of a resample of few pairs may be equal: it has no correlation, and is left out.
    return correlate(x, y).statistic if np.ptp(x) > 0 and np.ptp(y) > 0 else np.nan

  with warnings.catch_warnings():
    # SciPy warns of NaN, and of its own interval, which is not used.
    warnings.simplefilter("ignore", stats.DegenerateDataWarning)
    distribution = stats.bootstrap(
      (x, y),
      resampled,
      n_resamples=_NUM_RESAMPLES,
      vectorized=False,
      paired=True,
      method="percentile",
      rng=seed,
    ).bootstrap_distribution
  low, high = np.nanpercentile(distribution, [2.5, 97.5])
  return Correlation(float(correlate(x, y).statistic), float(low), float(high), len(x))
