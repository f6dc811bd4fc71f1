"""Compares search algorithms at equal numbers of trained architectures: runs, table, test, figure.

An architecture that equals an earlier one is not trained again: the algorithm learns from the known
reward, at no cost. Rewards have the noise of a training. A search is judged by the true reward of
the architecture that it would return, the one with the best noisy reward.
"""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from official_nasfpn.architecture import PyramidSpec, SearchSpace, canonical_hash
from official_nasfpn.errors import UserError
from official_nasfpn.search.algorithms.algorithm import Outcome, SearchAlgorithm
from official_nasfpn.search.algorithms.evolution import Evolution
from official_nasfpn.search.algorithms.ppo import PPO
from official_nasfpn.search.algorithms.random_search import RandomSearch
from official_nasfpn.search.recipe import read_recipe

RANDOM = "random search"

# A search ends when it has sampled this many times the architectures that it may train.
_MAX_SAMPLED = 2


@dataclasses.dataclass(frozen=True)
class Run:
  """One search.

  Attributes:
    returned: for each number of trained architectures, the true reward of the one that the search
      would return.
    best: the best true reward of all trained architectures.
    sampled: true rewards of all proposals in order, repeated ones included.
  """

  returned: tuple[float, ...]
  best: float
  sampled: tuple[float, ...]

  @property
  def num_trained(self) -> int:
    return len(self.returned)

  def late_mean(self) -> float:
    """Returns the mean true reward of the last tenth of the proposals."""
    return statistics.mean(self.sampled[-max(1, len(self.sampled) // 10) :])


def search(
  algorithm: SearchAlgorithm,
  space: SearchSpace,
  reward: Callable[[Sequence[PyramidSpec]], Sequence[float]],
  *,
  num_trained: int,
  trials_per_update: int,
  seed: int,
  noise: float = 0.0,
  delay: int = 0,
) -> Run:
  """Runs one search.

  Args:
    algorithm: a new algorithm.
    space: the search space.
    reward: function from architectures to their true rewards.
    num_trained: architectures to train; fewer if the algorithm proposes nothing new.
    trials_per_update: proposals of one update.
    seed: seed of the noise.
    noise: standard deviation of the noise of a reward.
    delay: number of updates by which rewards arrive late.
  """
  rng = np.random.default_rng([seed, 1])
  true: dict[str, float] = {}
  noisy: dict[str, float] = {}
  sampled: list[str] = []
  waiting: list[tuple[int, list[Outcome]]] = []
  update = 0
  while len(true) < num_trained and len(sampled) < _MAX_SAMPLED * num_trained:
    update += 1
    proposals = algorithm.propose(update, trials_per_update)
    specs = [space.decode(proposal.choices) for proposal in proposals]
    keys = [canonical_hash(spec) for spec in specs]
    new = {key: spec for key, spec in zip(keys, specs, strict=True) if key not in true}
    if new:
      true.update(zip(new, map(float, reward(list(new.values()))), strict=True))
      noisy.update({key: true[key] + noise * float(rng.standard_normal()) for key in new})
    sampled += keys
    waiting.append(
      (update, [Outcome(p, noisy[key]) for p, key in zip(proposals, keys, strict=True)])
    )
    if len(waiting) > delay:
      algorithm.learn(*waiting.pop(0))
  trained = list(true)[:num_trained]
  best = ""
  returned = []
  for key in trained:
    best = max(best, key, key=lambda key: noisy.get(key, float("-inf")))
    returned.append(true[best])
  return Run(
    tuple(returned), max(true[key] for key in trained), tuple(true[key] for key in sampled)
  )


def baselines(space: SearchSpace) -> dict[str, Callable]:
  """Returns, by name, functions from a seed to evolution and to random search."""
  return {
    "evolution": functools.partial(Evolution().make, space),
    RANDOM: functools.partial(RandomSearch().make, space),
  }


def ppo_of_recipes(
  named_recipes: Sequence[str], space: SearchSpace, gin_params: Sequence[str] = ()
) -> dict[str, Callable]:
  """Returns, by name, functions from a seed to PPO.

  Args:
    named_recipes: `NAME=RECIPE`, where the recipe has the settings of PPO.
    space: the search space.
    gin_params: bindings on top of every recipe.

  Raises:
    UserError: a recipe is missing or wrong.
  """
  makers = {}
  for named in named_recipes:
    name, equals, recipe = named.rpartition("=")
    if not equals:
      raise UserError(f"--ppo {named!r} has no =; write NAME=RECIPE.")
    algorithm = read_recipe([recipe], gin_params).search.algorithm
    if not isinstance(algorithm, PPO):
      raise UserError(f"--ppo {named!r}: the recipe has another algorithm than PPO.")
    makers[name] = functools.partial(algorithm.make, space)
  return makers


def table(runs: Mapping[str, Sequence[Run]]) -> str:
  """Returns a Markdown table of all algorithms, with p-values against random search if it has runs.

  Args:
    runs: for each algorithm its runs, one for each seed.
  """
  rows = [
    "| algorithm | returned | sd | lowest | best | late mean | sampled | trained | p |",
    "|---|---|---|---|---|---|---|---|---|",
  ]
  for name, of_seeds in runs.items():
    returned = [run.returned[-1] for run in of_seeds]
    tested = RANDOM in runs and name != RANDOM
    p = f"{p_value(of_seeds, runs[RANDOM]):.2g}" if tested else ""
    rows.append(
      f"| {name} | {statistics.mean(returned):.3f} | {statistics.stdev(returned):.3f} "
      f"| {min(returned):.3f} | {_mean(run.best for run in of_seeds):.3f} "
      f"| {_mean(run.late_mean() for run in of_seeds):.3f} "
      f"| {_mean(len(run.sampled) for run in of_seeds):.0f} "
      f"| {_mean(run.num_trained for run in of_seeds):.0f} | {p} |"
    )
  return "\n".join(rows)


def p_value(runs: Sequence[Run], others: Sequence[Run]) -> float:
  """Returns the p-value of a two-sided Mann-Whitney U test (1947) of the final results."""
  from scipy.stats import mannwhitneyu

  return float(
    mannwhitneyu([r.returned[-1] for r in runs], [r.returned[-1] for r in others]).pvalue
  )


def draw(panels: Mapping[str, Mapping[str, Sequence[Run]]], path: Path) -> None:
  """Draws the true reward of the returned architecture over trained architectures.

  Lines are means over seeds, areas their range.

  Args:
    panels: for each title the runs of each algorithm.
    path: the image file to write.
  """
  from matplotlib.figure import Figure

  columns = 2 if len(panels) == 4 else min(len(panels), 3)
  rows = -(-len(panels) // columns)
  figure = Figure(figsize=(5.5 * columns, 4 * rows), layout="constrained")
  all_axes = figure.subplots(rows, columns, squeeze=False, sharex=True).flatten()
  for axes, (title, runs) in zip(all_axes, panels.items(), strict=False):
    # The axis starts above the first few, whose low rewards would hide the differences later.
    lowest = min(run.returned[len(run.returned) // 20] for each in runs.values() for run in each)
    for name, of_seeds in runs.items():
      # A search that ended early would return the same from then on.
      length = max(run.num_trained for run in of_seeds)
      returned = np.array(
        [run.returned + run.returned[-1:] * (length - run.num_trained) for run in of_seeds]
      )
      trained = np.arange(1, length + 1)
      (line,) = axes.plot(trained, returned.mean(axis=0), label=name)
      axes.fill_between(
        trained, returned.min(0), returned.max(0), color=line.get_color(), alpha=0.1
      )
    axes.set_ylim(bottom=lowest)
    axes.set_title(title)
    axes.grid(alpha=0.3)
  for axes in all_axes[-columns:]:
    axes.set_xlabel("trained architectures")
  for axes in all_axes[::columns]:
    axes.set_ylabel("reward of the returned architecture")
  all_axes[0].legend(loc="lower right")
  figure.savefig(path, dpi=110)


def _mean(values) -> float:
  return statistics.mean(values)
