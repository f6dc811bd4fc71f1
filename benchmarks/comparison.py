"""Compares search algorithms at equal numbers of trained architectures: algorithms, table, figure.

`official_nasfpn/benchmark/simulated_search.py` runs them, and says how a search is judged.
"""

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.benchmark.baselines import RANDOM
from official_nasfpn.benchmark.figure import draw_rewards
from official_nasfpn.benchmark.ranking import p_value
from official_nasfpn.benchmark.simulated_search import Run
from official_nasfpn.errors import UserError
from official_nasfpn.search.algorithms.evolution import Evolution
from official_nasfpn.search.algorithms.ppo import PPO
from official_nasfpn.search.algorithms.random_search import RandomSearch
from official_nasfpn.search.recipe import read_recipe


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
    draw_rewards(axes, runs)
    axes.set_title(title)
  for axes in all_axes[-columns:]:
    axes.set_xlabel("trained architectures")
  for axes in all_axes[::columns]:
    axes.set_ylabel("reward of the returned architecture")
  all_axes[0].legend(loc="lower right")
  figure.savefig(path, dpi=110)


def _mean(values) -> float:
  return statistics.mean(values)
