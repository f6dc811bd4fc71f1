"""The reward curve of a search (paper, Figure 5)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from official_nasfpn.search.store.trial_store import Trial

# A mean over a tenth of a long search, or over a few trials of a short one, shows a trend.
_SMOOTHING_SHARE = 0.1
_SMOOTHING_TRIALS = 5


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
    window = max(round(len(rewards) * _SMOOTHING_SHARE), _SMOOTHING_TRIALS)
    reward_axes.plot(numbers, rewards, ".", color="0.6", label="trial")
    reward_axes.plot(numbers, _trailing_mean(rewards, window), label=f"mean of the last {window}")
    reward_axes.step(numbers, np.maximum.accumulate(rewards), where="post", label="best so far")
    reward_axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)
  reward_axes.set_xlabel("trial")
  reward_axes.set_ylabel("reward (proxy AP)")

  seen: set[str] = set()
  unique = [seen.add(trial.architecture_hash) or len(seen) for trial in trials]
  sampled = np.arange(1, len(trials) + 1)
  unique_axes.plot(sampled, sampled, "--", color="0.6", label="sampled")
  unique_axes.plot(sampled, unique, label="unique")
  unique_axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
  unique_axes.set_xlabel("trial")
  unique_axes.set_ylabel("architectures")

  for axes in (reward_axes, unique_axes):
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
  unique_axes.yaxis.set_major_locator(MaxNLocator(integer=True))
  figure.savefig(path, dpi=120)


def _trailing_mean(values: np.ndarray, window: int) -> np.ndarray:
  """Returns at each place the mean of the last `window` values, of fewer at the beginning."""
  sums = np.cumsum(np.concatenate([[0.0], values]))
  ends = np.arange(1, len(values) + 1)
  starts = np.maximum(ends - window, 0)
  return (sums[ends] - sums[starts]) / (ends - starts)
