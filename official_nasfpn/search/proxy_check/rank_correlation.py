"""How well one ranking predicts another, and how much of a reward is noise."""

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


@dataclasses.dataclass(frozen=True)
class Noise:
  """The components of the variance of rewards.

  Attributes:
    within: standard deviation of one architecture's rewards over seeds. What a seed adds to all
      architectures equally is left out, since it changes no ranking.
    between: standard deviation of the architectures' true rewards: the noise in their measured
      means is subtracted.
    seed: standard deviation of what a seed adds to all architectures equally.
    reliability: between^2 / (between^2 + within^2), the share of a single reward's variance that
      the architecture explains: the correlation to expect between rewards with two seeds.
    num_architectures: number of architectures.
    num_seeds: number of rewards of each architecture.
  """

  within: float
  between: float
  seed: float
  reliability: float
  num_architectures: int
  num_seeds: int

  @property
  def drowns_differences(self) -> bool:
    """Whether rewards differ more between seeds than between architectures.

    The reliability is then below 0.5. The controller learns from differences between rewards, so
    more than half of the variance that it learns from is noise.
    """
    return self.within > self.between


def spearman(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Correlation:
  """Returns Spearman's rank correlation; see `_with_interval` for the interval."""
  return _with_interval(stats.spearmanr, first, second, seed)


def kendall(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Correlation:
  """Returns Kendall's tau-b; see `_with_interval` for the interval."""
  return _with_interval(stats.kendalltau, first, second, seed)


def noise_of(rewards: np.ndarray) -> Noise:
  """Estimates variance components by a two-way analysis of variance without replication.

  The reliability is ICC(3,1) of Shrout and Fleiss (1979), with seeds as judges.

  Args:
    rewards: float [architectures, seeds], at least two of each.

  Raises:
    ValueError: there are fewer.
  """
  num_architectures, num_seeds = rewards.shape
  if min(rewards.shape) < 2:
    raise ValueError(f"noise needs two architectures and two seeds, got {rewards.shape}")
  mean = rewards.mean()
  of_architecture = rewards.mean(axis=1, keepdims=True)
  of_seed = rewards.mean(axis=0, keepdims=True)
  residuals = rewards - of_architecture - of_seed + mean
  square_within = (residuals**2).sum() / ((num_architectures - 1) * (num_seeds - 1))
  square_between = num_seeds * ((of_architecture - mean) ** 2).sum() / (num_architectures - 1)
  square_seed = num_architectures * ((of_seed - mean) ** 2).sum() / (num_seeds - 1)
  # An estimated component may be negative; it then counts as zero.
  between = max(square_between - square_within, 0.0) / num_seeds
  seed = max(square_seed - square_within, 0.0) / num_architectures
  total = between + square_within
  return Noise(
    within=float(np.sqrt(square_within)),
    between=float(np.sqrt(between)),
    seed=float(np.sqrt(seed)),
    reliability=float(between / total) if total > 0 else 0.0,
    num_architectures=num_architectures,
    num_seeds=num_seeds,
  )


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
