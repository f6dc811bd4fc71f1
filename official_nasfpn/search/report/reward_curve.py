"""The reward curve of a search (paper, Figure 5)."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from official_nasfpn.search.store.trial_store import DONE, Trial

# A mean over a tenth of a long search, or over a few trials of a short one, shows a trend.
_SMOOTHING_SHARE = 0.1
_SMOOTHING_TRIALS = 5


@dataclasses.dataclass(frozen=True)
class RewardCurve:
  """What Figure 5 shows; R trials have a reward, N are sampled.

  Attributes:
    numbers: of the trials with a reward, [R].
    rewards: theirs, [R].
    window: how many rewards the mean is over.
    means: over the last `window` rewards, over fewer at the beginning, [R].
    bests: the greatest reward so far, [R].
    unique: different architectures among the first 1, 2, ... trials, [N].
    trained: rewards among them that a training of their own gave, [N].
  """

  numbers: np.ndarray
  rewards: np.ndarray
  window: int
  means: np.ndarray
  bests: np.ndarray
  unique: np.ndarray
  trained: np.ndarray


def reward_curve(trials: Sequence[Trial]) -> RewardCurve:
  """Returns the curves of a search.

  Args:
    trials: of one search, in order. Those without a reward count as sampled and show no reward.
  """
  rewarded = [trial for trial in trials if trial.reward is not None]
  rewards = np.array([trial.reward for trial in rewarded])
  window = max(round(len(rewards) * _SMOOTHING_SHARE), _SMOOTHING_TRIALS)
  seen: set[str] = set()
  return RewardCurve(
    numbers=np.array([trial.number for trial in rewarded]),
    rewards=rewards,
    window=window,
    means=_trailing_mean(rewards, window),
    bests=np.maximum.accumulate(rewards),
    unique=np.array([seen.add(trial.architecture_hash) or len(seen) for trial in trials]),
    trained=np.cumsum([trial.state == DONE for trial in trials]),
  )


def draw_reward_curve(trials: Sequence[Trial], path: Path, title: str | None = None) -> None:
  """Draws rewards over trials, and unique and trained over sampled architectures.

  The second panel is left out where all are unique and trained: it would be one line.

  Args:
    trials: of one search, in order.
    path: of the image; its ending says which format.
    title: of the figure.
  """
  figure_of_rewards(trials, title).savefig(path, dpi=120)


def figure_of_rewards(trials: Sequence[Trial], title: str | None = None) -> Figure:
  """Returns what `draw_reward_curve` draws."""
  curve = reward_curve(trials)
  num_trained = int(curve.trained[-1]) if trials else 0
  shows_counts = num_trained < len(trials)
  figure = Figure(figsize=(11 if shows_counts else 6.5, 4.2), layout="constrained")
  reward_axes, *others = figure.subplots(1, 2 if shows_counts else 1, squeeze=False)[0]
  if title:
    figure.suptitle(title)
  if len(curve.rewards):
    reward_axes.plot(curve.numbers, curve.rewards, ".", color="0.6", label="trial")
    reward_axes.plot(curve.numbers, curve.means, label=f"mean of the last {curve.window}")
    reward_axes.step(curve.numbers, curve.bests, where="post", label="best so far")
  # From 0, on which differences are as small as they are.
  reward_axes.set_ylim(0, 1.05 * curve.rewards.max(initial=0) or 1)
  reward_axes.set_ylabel("reward (proxy AP)")
  for count_axes in others:
    sampled = np.arange(1, len(trials) + 1)
    count_axes.plot(sampled, sampled, "--", color="0.6", label="sampled")
    if curve.unique[-1] < len(trials):
      count_axes.plot(sampled, curve.unique, label="unique")
    count_axes.plot(sampled, curve.trained, label="trained")
    count_axes.set_ylabel("architectures")
    count_axes.yaxis.set_major_locator(MaxNLocator(integer=True))
  for axes in (reward_axes, *others):
    axes.grid(alpha=0.3)
    axes.set_xlabel("trial")
    axes.set_xlim(0, len(trials) + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.lines:
      axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)
  return figure


def _trailing_mean(values: np.ndarray, window: int) -> np.ndarray:
  """Returns at each place the mean of the last `window` values, of fewer at the beginning."""
  sums = np.cumsum(np.concatenate([[0.0], values]))
  ends = np.arange(1, len(values) + 1)
  starts = np.maximum(ends - window, 0)
  return (sums[ends] - sums[starts]) / (ends - starts)
