"""Searched pyramids beside known ones: AP by group, gains with intervals, worth of a reward."""

import dataclasses
import json
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path

from scipy import stats

BASELINES = {"FPN": "fpn", "NAS-FPN": "nas_fpn"}
NOT_CHOSEN = "random, not chosen"


@dataclasses.dataclass(frozen=True)
class Candidate:
  """An architecture that is trained at full length.

  Attributes:
    group: an algorithm, a baseline, or `NOT_CHOSEN`.
    search: seed of the search that it comes from; None for baselines.
    rank: its place in that search, from 1; 0 if it was not chosen.
    name: the name of its folder.
    architecture: gin text, or a name of the catalogue.
    reward: its reward in the search; None for baselines.
  """

  group: str
  search: int | None
  rank: int
  name: str
  architecture: str
  reward: float | None = None


@dataclasses.dataclass(frozen=True)
class Gain:
  """AP of a group over that of a baseline.

  Attributes:
    mean: mean of the differences.
    low: lower end of their 95 % interval.
    high: upper end.
  """

  mean: float
  low: float
  high: float


# The AP of each training of an architecture, by seed.
Found = dict[Candidate, tuple[float, ...]]


def to_json(found: Found) -> str:
  """Returns all candidates with their AP, one by one; `from_json` reads it."""
  rows = [dataclasses.asdict(candidate) | {"AP": aps} for candidate, aps in found.items()]
  return json.dumps(rows, indent=1) + "\n"


def from_json(text: str) -> Found:
  """Returns what `to_json` has written.

  Raises:
    ValueError, KeyError, TypeError: the text is something else.
  """
  rows = [dict(row) for row in json.loads(text)]
  aps = [tuple(row.pop("AP")) for row in rows]
  return {Candidate(**row): ap for row, ap in zip(rows, aps, strict=True)}


def groups_of(found: Found) -> dict[str, list[float]]:
  """Returns the independent values of each group.

  Those of an algorithm are its searches, each the mean of its best architecture's trainings; those
  of a baseline are its trainings; those of what was not chosen, the architectures.
  """
  return {
    group: [statistics.mean(aps) for aps in each] if group not in BASELINES else [*each[0]]
    for group, each in _trainings(found).items()
  }


def _trainings(found: Found) -> dict[str, list[tuple[float, ...]]]:
  """Returns the AP by seed of each architecture that stands for its group."""
  trainings: dict[str, list[tuple[float, ...]]] = {}
  for candidate, aps in found.items():
    if aps and candidate.rank < 2:
      trainings.setdefault(candidate.group, []).append(aps)
  return trainings


def gain(trainings: Sequence[Sequence[float]], baseline: Sequence[float]) -> Gain | None:
  """Returns how much a group is above a baseline, in trainings of the same seed.

  Such a pair has the same initial backbone, the same order of images and the same augmentation. The
  mean difference varies with the searches and with the seeds of the trainings. Its variance is
  taken for the sum of both, each from means over the other; what belongs to neither counts twice,
  which is on the safe side. Degrees of freedom are Satterthwaite's. Where the pairs are of one
  seed, the interval is Welch's, of means that are not paired.

  Args:
    trainings: AP by seed of each architecture.
    baseline: AP by seed.

  Returns:
    None where there are too few trainings for an interval.
  """
  num_seeds = min(len(baseline), *(len(aps) for aps in trainings))
  if num_seeds < 2:
    return _unpaired_gain([statistics.mean(aps) for aps in trainings], baseline)
  rows = [
    [ap - base for ap, base in zip(aps[:num_seeds], baseline[:num_seeds], strict=True)]
    for aps in trainings
  ]
  by_search = [statistics.mean(row) for row in rows]
  by_seed = [statistics.mean(column) for column in zip(*rows, strict=True)]
  parts = [
    (statistics.variance(means) / len(means), len(means) - 1)
    for means in (by_search, by_seed)
    if len(means) > 1
  ]
  variance = sum(part for part, _ in parts)
  mean = statistics.mean(by_seed)
  if not variance:
    return Gain(mean, mean, mean)
  freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
  half = float(stats.t.ppf(0.975, freedom)) * variance**0.5
  return Gain(mean, mean - half, mean + half)


def _unpaired_gain(values: Sequence[float], baseline: Sequence[float]) -> Gain | None:
  if min(len(values), len(baseline)) < 2:
    return None
  with warnings.catch_warnings():
    # Searches that have found the same architecture have the same value.
    warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
    interval = stats.ttest_ind(values, baseline, equal_var=False).confidence_interval(0.95)
  difference = statistics.mean(values) - statistics.mean(baseline)
  return Gain(difference, float(interval.low), float(interval.high))


def table(found: Found) -> str:
  """Returns AP by group, gains over the baselines, and what a reward is worth, as Markdown."""
  groups = groups_of(found)
  trainings = _trainings(found)
  lines = [
    "| pyramid | AP | values | over FPN | over NAS-FPN | all finalists |",
    "|---|---|---|---|---|---|",
  ]
  for name, values in groups.items():
    over = []
    for baseline in BASELINES:
      is_possible = name != baseline and baseline in groups
      g = gain(trainings[name], groups[baseline]) if is_possible else None
      over.append(f"{g.mean:+.3f} ({g.low:+.3f} to {g.high:+.3f})" if g else "")
    firsts = [aps[0] for c, aps in found.items() if c.group == name and c.rank and aps]
    is_chosen = name not in BASELINES and name != NOT_CHOSEN
    best = f"{statistics.mean(firsts):.3f}" if is_chosen and firsts else ""
    each = " ".join(f"{value:.3f}" for value in values)
    lines.append(
      f"| {name} | {statistics.mean(values):.3f} | {each} | {' | '.join(over)} | {best} |"
    )
  pairs = {c.name: (c.reward, aps[0]) for c, aps in found.items() if c.reward is not None and aps}
  if len(pairs) > 2:
    rewards, aps = zip(*pairs.values(), strict=True)
    tau = stats.kendalltau(rewards, aps)
    lines.append(
      f"\nReward and AP of {len(pairs)} architectures: Kendall's tau {tau.statistic:.2f} "
      f"(p = {tau.pvalue:.2g})."
    )
  return "\n".join(lines)


def draw(found: Found, path: Path) -> None:
  """Draws every training as a dot, the independent values of a group and their mean as lines."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(8, 4.5), layout="constrained")
  axes = figure.subplots()
  groups = groups_of(found)
  for place, (name, values) in enumerate(groups.items()):
    dots = [ap for c, aps in found.items() if c.group == name and c.rank < 2 for ap in aps]
    axes.plot([place] * len(dots), dots, "o", color="C0", alpha=0.35, markersize=5)
    axes.hlines(values, place - 0.15, place + 0.15, color="C0", linewidth=1)
    axes.hlines([statistics.mean(values)], place - 0.3, place + 0.3, color="C1", linewidth=2.5)
  axes.set_xticks(range(len(groups)), [name.replace(", ", ",\n") for name in groups])
  axes.set_ylabel("AP on the test images")
  axes.grid(axis="y", alpha=0.3)
  figure.savefig(path, dpi=120)
