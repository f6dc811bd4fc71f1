"""How much of a reward is noise."""

import dataclasses

import numpy as np


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
