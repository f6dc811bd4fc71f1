"""How well one ranking tells another one, and how much of a reward is noise."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats


@dataclasses.dataclass(frozen=True)
class Correlation:
  """A rank correlation with its confidence interval.

  Attributes:
    value: in [-1, 1].
    low: lower end of the interval.
    high: upper end of it.
    num_pairs: architectures that it is of.
  """

  value: float
  low: float
  high: float
  num_pairs: int

  def as_text(self) -> str:
    return f"{self.value:.2f} (95 % interval {self.low:.2f} to {self.high:.2f})"


@dataclasses.dataclass(frozen=True)
class Noise:
  """What the variance of rewards is made of.

  Attributes:
    within: standard deviation of one architecture's rewards over seeds, apart from what a seed adds
      to all architectures alike: that changes no ranking.
    between: standard deviation of architectures, apart from the noise of the means it is seen in.
    seed: standard deviation of what a seed adds to all architectures alike.
    reliability: between^2 / (between^2 + within^2), the share of a single reward's variance that is
      the architecture's: the correlation to expect between rewards of two seeds.
    num_architectures: that it is of.
    num_seeds: rewards of each.
  """

  within: float
  between: float
  seed: float
  reliability: float
  num_architectures: int
  num_seeds: int

  @property
  def drowns_differences(self) -> bool:
    """Whether a seed moves a reward by more than architectures differ: within above between.

    The controller learns from the difference between a trial's reward and those of others, so more
    than half of what it then learns from is noise: a reliability below a half.
    """
    return self.within > self.between


def spearman(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Correlation:
  """Returns Spearman's rank correlation; see `_bootstrapped` for the interval."""
  return _bootstrapped(lambda x, y: stats.spearmanr(x, y).statistic, first, second, seed)


def kendall(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Correlation:
  """Returns Kendall's tau-b; see `_bootstrapped` for the interval."""
  return _bootstrapped(lambda x, y: stats.kendalltau(x, y).statistic, first, second, seed)


def noise_of(rewards: np.ndarray) -> Noise:
  """Splits the variance of rewards by a two-way layout without replication.

  The reliability is ICC(3,1) of Shrout and Fleiss (1979): seeds are their judges.

  Args:
    rewards: [architectures, seeds], at least two of each.

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
  # An estimate of a variance may come out below zero: then there is none to be seen.
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


def _bootstrapped(
  statistic: Callable[[np.ndarray, np.ndarray], float],
  first: Sequence[float],
  second: Sequence[float],
  seed: int,
  num_resamples: int = 2000,
) -> Correlation:
  """Returns a statistic with its 95 % interval by the percentile bootstrap over pairs (Efron 1979).

  Args:
    statistic: of two arrays.
    first: values.
    second: their partners.
    seed: of the resampling.
    num_resamples: how often to resample.

  Raises:
    ValueError: there are fewer than three pairs, or all values of a side are equal.
  """
  x, y = np.asarray(first, float), np.asarray(second, float)
  if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
    raise ValueError("a rank correlation needs three pairs, and values that differ")
  rng = np.random.default_rng(seed)
  values = []
  while len(values) < num_resamples:
    chosen = rng.integers(len(x), size=len(x))
    # Of few pairs a resample may hold one alone, which has no correlation.
    if np.ptp(x[chosen]) > 0 and np.ptp(y[chosen]) > 0:
      values.append(statistic(x[chosen], y[chosen]))
  low, high = np.percentile(values, [2.5, 97.5])
  return Correlation(float(statistic(x, y)), float(low), float(high), len(x))
