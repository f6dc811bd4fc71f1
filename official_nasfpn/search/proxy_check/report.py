"""The report of a proxy check: correlations, noise, a table and a scatter plot."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from official_nasfpn.architecture import CATALOG, SearchSpace, canonical_hash, pyramid_name
from official_nasfpn.disk import write_text
from official_nasfpn.search.proxy_check.noise import Noise, noise_of
from official_nasfpn.search.proxy_check.rank_correlation import Correlation, kendall, spearman
from official_nasfpn.search.proxy_check.trainings import Result, Training, TrainingRecipe


@dataclasses.dataclass(frozen=True)
class Row:
  """One architecture of a check.

  Attributes:
    name: its canonical hash, followed by its name if it is in the catalogue.
    choices: the architecture, as `SearchSpace.decode` takes it.
    rewards: AP on the proxy, one for each seed that was trained, the first seed first.
    target: AP on the target.
  """

  name: str
  choices: tuple[int, ...]
  rewards: tuple[float, ...]
  target: float


@dataclasses.dataclass(frozen=True)
class CheckReport:
  """What a check found.

  Attributes:
    mode: `Proxy.mode`.
    rows: the architectures, the best target first.
    spearman: rank correlation between the reward with the first seed, as a search would have it,
      and the target; None if there is none.
    kendall: the same by Kendall's tau-b.
    spearman_of_means: rank correlation between the mean reward over all seeds and the target; None
      if some architectures lack seeds, or there is one seed.
    noise: the noise of the proxy; None if fewer than two architectures have all seeds, or there is
      one seed.
    seconds: mean wall time of a training by role, where it is known.
    warnings: what a person should know, as sentences.
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
    """Returns the report as text."""
    lines = [f"{'architecture':<27}  target  proxy by seed"]
    for row in self.rows:
      rewards = " ".join(f"{reward:.3f}" for reward in row.rewards)
      lines.append(f"{row.name:<27}   {row.target:.3f}  {rewards}")
    lines.append(f"{len(self.rows)} architectures, proxy mode {self.mode}")
    if self.spearman and self.kendall:
      lines.append(f"one reward to the target: Spearman {self.spearman.as_text()}")
      lines.append(f"                          Kendall {self.kendall.as_text()}")
    if self.spearman_of_means:
      lines.append(f"mean over seeds to the target: Spearman {self.spearman_of_means.as_text()}")
    if self.noise:
      noise = self.noise
      lines.append(
        f"noise, {noise.num_architectures} architectures with {noise.num_seeds} seeds: SD within "
        f"an architecture {noise.within:.4f}, between architectures {noise.between:.4f}, between "
        f"seeds {noise.seed:.4f}; reliability {noise.reliability:.2f}"
      )
    for role, seconds in self.seconds.items():
      lines.append(f"mean time of a training on the {role}: {seconds:.1f} s")
    return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def make_report(
  architectures: Sequence[tuple[int, ...]],
  proxy: TrainingRecipe,
  target: TrainingRecipe,
  num_seeds: int,
  results: Mapping[Training, Result],
) -> CheckReport:
  """Makes the report of a check from its finished trainings.

  Args:
    architectures: choices of each architecture of the check.
    proxy: how the proxy trains.
    target: how the target trains.
    num_seeds: number of seeds of the proxy, counted up from its first.
    results: results of all trainings that the check wants; others are left out.
  """
  seconds: dict[str, list[float]] = {"proxy": [], "target": []}

  def find(recipe: TrainingRecipe, choices: tuple[int, ...], seed: int) -> Result | None:
    result = results.get(Training(recipe.digest, choices, seed))
    if result and result.seconds:
      seconds[recipe.role].append(result.seconds)
    return result

  rows = []
  for choices in architectures:
    found = [find(proxy, choices, proxy.seed + index) for index in range(num_seeds)]
    reached = find(target, choices, target.seed)
    assert reached is not None
    rewards = tuple(result.ap for result in found if result is not None)
    rows.append(Row(_name(proxy.search.space, choices), choices, rewards, reached.ap))
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
      "the proxy's noise is larger than the differences between architectures: the standard "
      f"deviation between trainings of one architecture is {noise.within:.4f}, between "
      f"architectures {noise.between:.4f} (reliability {noise.reliability:.2f}, below 0.5). A "
      "controller would mostly learn from noise: train trials longer, hold out more images, or try "
      "another Proxy.mode"
    )
  if correlations and correlations[0].low <= 0:
    warnings.append(
      "the interval of the rank correlation contains 0: these trainings do not show that the proxy "
      "predicts the target; compare more architectures, or train the proxy longer"
    )
  return CheckReport(
    mode=proxy.search.proxy.mode,
    rows=tuple(rows),
    spearman=correlations[0] if correlations else None,
    kendall=correlations[1] if correlations else None,
    spearman_of_means=of_means[0] if of_means else None,
    noise=noise,
    seconds={role: float(np.mean(values)) for role, values in seconds.items() if values},
    warnings=tuple(warnings),
  )


def write_report(report: CheckReport, output_dir: Path) -> None:
  """Writes `summary.json` and `proxy_check.png` into a folder."""
  write_text(output_dir / "summary.json", report.to_json())
  draw_scatter(report, output_dir / "proxy_check.png")


def draw_scatter(report: CheckReport, path: Path) -> None:
  """Draws a scatter plot of target over mean reward, with error bars over seeds.

  Args:
    report: the report.
    path: the file to write; its suffix chooses the format.
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
    (~named, "from the search space", "C0"),
    (named, "from the catalogue", "C3"),
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
  """Returns Spearman's and Kendall's correlations; None if there are too few different values."""
  try:
    return spearman(first, second), kendall(first, second)
  except ValueError:
    return None


def _name(space: SearchSpace, choices: tuple[int, ...]) -> str:
  spec = space.decode(choices)
  digest, name = canonical_hash(spec), pyramid_name(spec)
  known = name if name in CATALOG else ""
  return " ".join(part for part in (digest, known, spec.size_name) if part)
