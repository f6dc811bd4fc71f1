"""What a proxy check found: figures, a table for people, and a drawing."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from official_nasfpn.architecture import SearchSpace, canonical_hash, pyramid_name
from official_nasfpn.disk import write_text
from official_nasfpn.search.proxy.check_trainings import Recipe, Result, Training
from official_nasfpn.search.proxy.rank_correlation import (
  Correlation,
  Noise,
  kendall,
  noise_of,
  spearman,
)


@dataclasses.dataclass(frozen=True)
class Row:
  """One architecture of a check.

  Attributes:
    name: its canonical hash, and its name where the catalogue has it.
    choices: as `SearchSpace.decode` takes it.
    rewards: the proxy's, one for each seed that there is, the first seed first.
    target: AP of the target.
  """

  name: str
  choices: tuple[int, ...]
  rewards: tuple[float, ...]
  target: float


@dataclasses.dataclass(frozen=True)
class CheckReport:
  """What a check found.

  Attributes:
    mode: of the proxy.
    rows: the architectures, the best target first.
    spearman: of one reward, the first seed's as a search would have it, to the target.
    kendall: the same.
    spearman_of_means: of an architecture's mean reward over all seeds, to the target; None where
      not all architectures have all seeds, or there is one seed.
    noise: of the proxy; None without two architectures with all seeds, or with one seed.
    seconds: mean wall time of a training, by role, where it is known.
    warnings: sentences for people.
  """

  mode: str
  rows: tuple[Row, ...]
  spearman: Correlation | None
  kendall: Correlation | None
  spearman_of_means: Correlation | None
  noise: Noise | None
  seconds: Mapping[str, float]
  warnings: tuple[str, ...]

  def to_json(self) -> str:
    """Returns all fields as indented JSON."""
    return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

  def as_text(self) -> str:
    """Returns the figures as lines for a person to read."""
    lines = [f"{'architecture':<27}  target  proxy by seed"]
    for row in self.rows:
      rewards = " ".join(f"{reward:.3f}" for reward in row.rewards)
      lines.append(f"{row.name:<27}   {row.target:.3f}  {rewards}")
    lines.append(f"{len(self.rows)} architectures, proxy mode {self.mode}")
    if self.spearman:
      lines.append(f"one reward to the target: Spearman {self.spearman.as_text()}")
      lines.append(f"                          Kendall {self.kendall.as_text()}")
    if self.spearman_of_means:
      lines.append(f"mean over seeds to the target: Spearman {self.spearman_of_means.as_text()}")
    if self.noise:
      noise = self.noise
      lines.append(
        f"noise, {noise.num_architectures} architectures with {noise.num_seeds} seeds: SD within "
        f"an architecture {noise.within:.4f}, between architectures {noise.between:.4f}, of a seed "
        f"on all alike {noise.seed:.4f}; reliability {noise.reliability:.2f}"
      )
    for role, seconds in self.seconds.items():
      lines.append(f"a training of the {role} took {seconds:.1f} s in the mean")
    return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def make_report(
  architectures: Sequence[tuple[int, ...]],
  proxy: Recipe,
  target: Recipe,
  num_seeds: int,
  results: Mapping[Training, Result],
) -> CheckReport:
  """Returns what finished trainings say.

  Args:
    architectures: of the check, as choices.
    proxy: recipe of the proxy.
    target: recipe of the target.
    num_seeds: seeds of the proxy, from `Training.seed` on.
    results: of all trainings that the check wants, others besides.
  """
  first = proxy.experiment.training.seed
  used: dict[str, list[float]] = {"proxy": [], "target": []}

  def find(recipe: Recipe, choices: tuple[int, ...], seed: int) -> float | None:
    result = results.get(Training(recipe.digest, choices, seed))
    if result is None:
      return None
    if result.seconds:
      used[recipe.role].append(result.seconds)
    return result.ap

  rows = []
  for choices in architectures:
    rewards = [find(proxy, choices, first + index) for index in range(num_seeds)]
    rows.append(
      Row(
        _name(proxy.space, choices),
        choices,
        tuple(reward for reward in rewards if reward is not None),
        find(target, choices, target.experiment.training.seed),
      )
    )
  rows.sort(key=lambda row: -row.target)
  complete = [row for row in rows if len(row.rewards) == num_seeds]
  targets = [row.target for row in rows]
  singles = [row.rewards[0] for row in rows]
  warnings = []
  correlations = _correlations(singles, targets)
  if correlations is None:
    warnings.append(
      "no rank correlation: it needs three architectures whose rewards and targets differ"
    )
  of_means = None
  if num_seeds > 1 and len(complete) == len(rows):
    of_means = _correlations([float(np.mean(row.rewards)) for row in rows], targets)
  noise = None
  if num_seeds > 1 and len(complete) > 1:
    noise = noise_of(np.array([row.rewards for row in complete]))
  if noise and noise.drowns_differences:
    warnings.append(
      f"the proxy's noise is larger than the differences that it is to show: two trainings of one "
      f"architecture differ by a standard deviation of {noise.within:.4f}, architectures by "
      f"{noise.between:.4f} (reliability {noise.reliability:.2f}, below 0.5). A controller would "
      "learn more noise than architecture: train trials longer, hold out more images, or take "
      "another Proxy.mode"
    )
  if correlations and correlations[0].low <= 0:
    warnings.append(
      "a rank correlation of 0 lies within the interval: these trainings do not show that the "
      "proxy means anything; take more architectures, or a longer proxy"
    )
  return CheckReport(
    mode=proxy.proxy.mode,
    rows=tuple(rows),
    spearman=correlations[0] if correlations else None,
    kendall=correlations[1] if correlations else None,
    spearman_of_means=of_means[0] if of_means else None,
    noise=noise,
    seconds={role: float(np.mean(values)) for role, values in used.items() if values},
    warnings=tuple(warnings),
  )


def write_report(report: CheckReport, output_dir: Path) -> None:
  """Writes `summary.json` and `proxy_check.png`."""
  write_text(output_dir / "summary.json", report.to_json())
  draw_scatter(report, output_dir / "proxy_check.png")


def draw_scatter(report: CheckReport, path: Path) -> None:
  """Draws every architecture's target over its reward, with the spread over seeds.

  Args:
    report: of a check.
    path: of the image; its ending says which format.
  """
  figure = Figure(figsize=(6.4, 5.0), layout="constrained")
  axes = figure.subplots()
  means = np.array([np.mean(row.rewards) for row in report.rows])
  spreads = np.array(
    [np.std(row.rewards, ddof=1) if len(row.rewards) > 1 else 0.0 for row in report.rows]
  )
  targets = np.array([row.target for row in report.rows])
  named = np.array([" " in row.name for row in report.rows])
  for chosen, label, color in (
    (~named, "drawn from the space", "C0"),
    (named, "of the catalogue", "C3"),
  ):
    if chosen.any():
      axes.errorbar(
        means[chosen],
        targets[chosen],
        xerr=np.where(spreads[chosen] > 0, spreads[chosen], np.nan),
        fmt="o",
        markersize=5,
        elinewidth=1,
        capsize=2,
        color=color,
        label=label,
      )
  num_seeds = max(len(row.rewards) for row in report.rows)
  axes.set_xlabel(
    f"reward of the {report.mode} proxy (AP on held-out images)"
    + (f"\nmean and standard deviation over up to {num_seeds} seeds" if num_seeds > 1 else "")
  )
  axes.set_ylabel("AP of the target")
  title = [f"{len(report.rows)} architectures"]
  if report.spearman:
    correlation = report.spearman
    title.append(
      f"Spearman {correlation.value:.2f} [{correlation.low:.2f}, {correlation.high:.2f}]"
    )
  if report.noise:
    title.append(f"reliability {report.noise.reliability:.2f}")
  axes.set_title(", ".join(title), fontsize=10)
  axes.grid(alpha=0.3)
  axes.legend(loc="best", fontsize=8)
  figure.savefig(path, dpi=120)


def _correlations(
  first: Sequence[float], second: Sequence[float]
) -> tuple[Correlation, Correlation] | None:
  """Returns both rank correlations; None where there can be none."""
  try:
    return spearman(first, second), kendall(first, second)
  except ValueError:
    return None


def _name(space: SearchSpace, choices: tuple[int, ...]) -> str:
  spec = space.decode(choices)
  digest, name = canonical_hash(spec), pyramid_name(spec)
  return digest if name == digest else f"{digest} {name}"
