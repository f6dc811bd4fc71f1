"""The reward curve of a search (paper, Figure 5)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from official_nasfpn.search.store import Trial

# A moving average over a tenth of the search shows its trend at any length.
_SMOOTHING_SHARE = 0.1


def draw_reward_curve(trials: Sequence[Trial], path: Path, title: str | None = None) -> None:
  """Draws rewards over trials, and unique over sampled architectures.

  Args:
    trials: of one search, in order. Those without a reward count as sampled and show no reward.
    path: of the image; its ending says which format.
    title: of the figure.
  """
  figure = Figure(figsize=(11, 4.2), layout="constrained")
  reward_axes, unique_axes = figure.subplots(1, 2)
  if title:
    figure.suptitle(title)

  rewarded = [trial for trial in trials if trial.reward is not None]
  numbers = np.array([trial.number for trial in rewarded])
  rewards = np.array([trial.reward for trial in rewarded])
  if len(rewards):
    window = max(round(len(rewards) * _SMOOTHING_SHARE), 1)
    reward_axes.plot(numbers, rewards, ".", color="0.6", label="trial")
    reward_axes.plot(numbers, _trailing_mean(rewards, window), label=f"mean of the last {window}")
    reward_axes.step(numbers, np.maximum.accumulate(rewards), where="post", label="best so far")
    reward_axes.legend(loc="lower right")
  reward_axes.set_xlabel("trial")
  reward_axes.set_ylabel("reward (proxy AP)")

  seen: set[str] = set()
  unique = [seen.add(trial.architecture_hash) or len(seen) for trial in trials]
  sampled = np.arange(1, len(trials) + 1)
  unique_axes.plot(sampled, sampled, "--", color="0.6", label="sampled")
  unique_axes.plot(sampled, unique, label="unique")
  unique_axes.legend(loc="upper left")
  unique_axes.set_xlabel("trial")
  unique_axes.set_ylabel("architectures")

  for axes in (reward_axes, unique_axes):
    axes.grid(alpha=0.3)
  figure.savefig(path, dpi=120)


def _trailing_mean(values: np.ndarray, window: int) -> np.ndarray:
  """Returns at each place the mean of the last `window` values, of fewer at the beginning."""
  sums = np.cumsum(np.concatenate([[0.0], values]))
  ends = np.arange(1, len(values) + 1)
  starts = np.maximum(ends - window, 0)
  return (sums[ends] - sums[starts]) / (ends - starts)
