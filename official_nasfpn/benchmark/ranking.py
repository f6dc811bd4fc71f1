"""Ranks algorithms by their searches, and says so in a table."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

from official_nasfpn.benchmark.baselines import RANDOM
from official_nasfpn.benchmark.simulated_search import Progress


@dataclasses.dataclass(frozen=True)
class Row:
  """One algorithm of a ranking; over seeds.

  Attributes:
    rank: by the median reward, from 1; equal ones share a rank.
    algorithm: its name.
    median: true reward of the architecture that the search returns, median.
    lowest: the lowest of these rewards.
    highest: the highest of these rewards.
    trials_to_random: trained architectures until one as good as the median of random search is
      returned, median; None if half of the searches never got there.
    trials_to_best: the same for the best baseline.
    hours: of virtual time until the end, median.
    p: of a two-sided Mann-Whitney test against random search; None for random search itself.
  """

  rank: int
  algorithm: str
  median: float
  lowest: float
  highest: float
  trials_to_random: float | None
  trials_to_best: float | None
  hours: float
  p: float | None


def rank(searches: Mapping[str, Sequence[Progress]], baselines: Sequence[str]) -> list[Row]:
  """Returns the rows of a ranking, the best algorithm first.

  Args:
    searches: by algorithm, one for each seed; random search among them.
    baselines: which of them are baselines.
  """
  medians = {name: statistics.median(_ends(each)) for name, each in searches.items()}
  best = max(medians[name] for name in baselines)
  rows = [
    Row(
      rank=1 + sum(other > medians[name] for other in medians.values()),
      algorithm=name,
      median=medians[name],
      lowest=min(_ends(each)),
      highest=max(_ends(each)),
      trials_to_random=_median_trials(each, medians[RANDOM]),
      trials_to_best=_median_trials(each, best),
      hours=statistics.median(search.hours[-1] for search in each),
      p=None if name == RANDOM else p_value(each, searches[RANDOM]),
    )
    for name, each in searches.items()
  ]
  return sorted(rows, key=lambda row: row.rank)


def p_value(searches: Sequence[Progress], others: Sequence[Progress]) -> float:
  """Returns the p-value of a two-sided Mann-Whitney U test (1947) of the final results."""
  from scipy.stats import mannwhitneyu

  return float(mannwhitneyu(_ends(searches), _ends(others)).pvalue)


def as_table(rows: Sequence[Row]) -> str:
  """Returns a ranking as a Markdown table whose columns are aligned."""
  cells = [
    ["rank", "algorithm", "reward", "range", "to random's", "to the best's", "hours", "p"],
    *(
      [
        str(row.rank),
        row.algorithm,
        f"{row.median:.4f}",
        f"{row.lowest:.4f} to {row.highest:.4f}",
        _trials(row.trials_to_random),
        _trials(row.trials_to_best),
        f"{row.hours:.1f}",
        "" if row.p is None else f"{row.p:.2g}",
      ]
      for row in rows
    ),
  ]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = [
    "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
    for line in cells
  ]
  lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
  return "\n".join(lines)


def _ends(searches: Sequence[Progress]) -> list[float]:
  return [search.returned[-1] for search in searches]


def _median_trials(searches: Sequence[Progress], reward: float) -> float | None:
  trials = (search.trials_to(reward) for search in searches)
  median = statistics.median(math.inf if number is None else number for number in trials)
  return None if math.isinf(median) else median


def _trials(number: float | None) -> str:
  return "never" if number is None else f"{number:.0f}"
