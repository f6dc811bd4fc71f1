"""One search on given rewards: what it returns, and when, on a pool of workers in virtual time.

An architecture that equals an earlier one is not trained again: the algorithm learns from the known
reward, at no cost. Rewards have the noise of a training. A search is judged by the true reward of
the architecture that it would return, the one with the best noisy reward.
"""

import dataclasses
import heapq
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from official_nasfpn.architecture import PyramidSpec, SearchSpace, canonical_hash
from official_nasfpn.search.algorithms.algorithm import Outcome, Proposal

# A search ends when it has sampled this many times the architectures that it may train.
MAX_SAMPLED = 2


@dataclasses.dataclass(frozen=True)
class Progress:
  """How a search got on, for each number of trained architectures.

  Attributes:
    returned: the true reward of the architecture that the search would return.
    hours: when the last of them was trained, in hours of virtual time.
  """

  returned: tuple[float, ...]
  hours: tuple[float, ...]

  @property
  def num_trained(self) -> int:
    return len(self.returned)

  def trials_to(self, reward: float) -> int | None:
    """Returns after how many trained architectures one with this reward is first returned."""
    return next((n for n, found in enumerate(self.returned, 1) if found >= reward), None)


@dataclasses.dataclass(frozen=True)
class Run(Progress):
  """One search.

  Attributes:
    best: the best true reward of all trained architectures.
    sampled: true rewards of all proposals in order, repeated ones included.
  """

  best: float
  sampled: tuple[float, ...]

  def late_mean(self) -> float:
    """Returns the mean true reward of the last tenth of the proposals."""
    return statistics.mean(self.sampled[-max(1, len(self.sampled) // 10) :])


class Searcher(Protocol):
  """What a search needs of a `SearchAlgorithm`: its state is not asked for."""

  def propose(self, update: int, count: int) -> list[Proposal]: ...

  def learn(self, update: int, outcomes: Sequence[Outcome]) -> object: ...


def search(
  algorithm: Searcher,
  space: SearchSpace,
  reward: Callable[[Sequence[PyramidSpec]], Iterable[float]],
  *,
  num_trained: int,
  trials_per_update: int,
  seed: int,
  noise: float = 0.0,
  delay: int = 0,
  num_workers: int | None = None,
  trial_seconds: Callable[[PyramidSpec], float] = lambda spec: 3600.0,
  on_trained: Callable[[int], object] = lambda number: None,
) -> Run:
  """Runs one search.

  As in `search/loop.py`, an update is proposed while there is room for it, and each update learns
  from the trials that finish first. With no more workers than trials per update there is room only
  once all are finished; with more, there is so much that no worker waits.

  Args:
    algorithm: a new algorithm.
    space: the search space.
    reward: function from architectures to their true rewards.
    num_trained: architectures to train; fewer if the algorithm proposes nothing new.
    trials_per_update: proposals of one update.
    seed: seed of the noise.
    noise: standard deviation of the noise of a reward.
    delay: number of updates by which finished rewards are held back.
    num_workers: workers of the pool; default: `trials_per_update`.
    trial_seconds: function from an architecture to the seconds of its trial.
    on_trained: called after each update with the number of architectures that it adds.
  """
  num_workers = num_workers or trials_per_update
  max_in_flight = trials_per_update + (num_workers if num_workers > trials_per_update else 0)
  rng = np.random.default_rng([seed, 1])
  true: dict[str, float] = {}
  noisy: dict[str, float] = {}
  finish: dict[str, float] = {}
  sampled: list[str] = []
  # When each worker is free, and the trials that are not finished, in order of time.
  workers = [0.0] * num_workers
  running: list[tuple[float, int, Outcome]] = []
  finished: list[tuple[int, Outcome]] = []
  waiting: list[list[Outcome]] = []
  now, proposed, learnt = 0.0, 0, 0
  while True:
    is_open = len(true) < num_trained and len(sampled) < MAX_SAMPLED * num_trained
    if is_open and len(running) + trials_per_update <= max_in_flight:
      proposed += 1
      proposals = algorithm.propose(proposed, trials_per_update)
      specs = [space.decode(proposal.choices) for proposal in proposals]
      keys = [canonical_hash(spec) for spec in specs]
      new = {key: spec for key, spec in zip(keys, specs, strict=True) if key not in true}
      if new:
        on_trained(min(len(new), num_trained - len(true)))
        true.update(zip(new, map(float, reward(list(new.values()))), strict=True))
        noisy.update({key: true[key] + noise * float(rng.standard_normal()) for key in new})
      for key, spec in new.items():
        finish[key] = max(now, heapq.heappop(workers)) + trial_seconds(spec)
        heapq.heappush(workers, finish[key])
      for proposal, key in zip(proposals, keys, strict=True):
        trial = (max(now, finish[key]), len(sampled), Outcome(proposal, noisy[key]))
        heapq.heappush(running, trial)
        sampled.append(key)
    elif running:
      now, number, outcome = heapq.heappop(running)
      finished.append((number, outcome))
      if len(finished) >= trials_per_update or (not is_open and not running):
        waiting.append([outcome for _, outcome in sorted(finished, key=lambda trial: trial[0])])
        finished = []
      if len(waiting) > delay:
        learnt += 1
        algorithm.learn(learnt, waiting.pop(0))
    else:
      break
  # In the order in which their rewards came.
  trained = sorted(true, key=lambda key: finish[key])[:num_trained]
  best = ""
  returned = []
  for key in trained:
    best = max(best, key, key=lambda key: noisy.get(key, float("-inf")))
    returned.append(true[best])
  return Run(
    tuple(returned),
    tuple(finish[key] / 3600 for key in trained),
    max(true[key] for key in trained),
    tuple(true[key] for key in sampled),
  )
