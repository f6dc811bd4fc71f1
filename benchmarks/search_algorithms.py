"""PPO, regularised evolution and random search at equal numbers of trained architectures.

The rewards follow from the architecture in closed form, with a known optimum, so that many seeds
take minutes:

    python -m benchmarks.search_algorithms --num_seeds 10 --num_trained 500 --figure search.png

An architecture that equals an earlier one is not trained again: its reward is learnt from, and it
costs nothing.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from absl import flags

from official_nasfpn.architecture import PyramidSpec, SearchSpace, canonical_hash
from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.progress import progress_bar

_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 10, "Searches of each algorithm.", lower_bound=2)
_NUM_TRAINED = flags.DEFINE_integer(
  "num_trained", 500, "Architectures that each search trains.", lower_bound=20
)
_TRIALS_PER_UPDATE = flags.DEFINE_integer("trials_per_update", 10, "Of every algorithm.")
_LEARNING_RATE = flags.DEFINE_multi_float(
  "learning_rate", [0.00035, 0.005], "Of PPO; NASNet's is 0.00035, for 20,000 trials."
)
_FIGURE = flags.DEFINE_string("figure", None, "Also draw it, into this image.")

# A search that only repeats itself has ended.
_MAX_REPEATS = 50


@dataclass(frozen=True)
class Run:
  """One search.

  Attributes:
    rewards: of the trained architectures, in order.
    num_sampled: architectures proposed.
  """

  rewards: tuple[float, ...]
  num_sampled: int

  def best_so_far(self) -> list[float]:
    best, bests = 0.0, []
    for reward in self.rewards:
      best = max(best, reward)
      bests.append(best)
    return bests

  def late_mean(self) -> float:
    """Returns the mean reward of the last tenth."""
    return statistics.mean(self.rewards[-len(self.rewards) // 10 :])


def closed_form_reward(spec: PyramidSpec) -> float:
  """Returns a reward in 0..1 in which choices depend on one another; its optimum is 1.

  A cell is worth its share if it pools, and half of that again if its inputs are of neighbouring
  levels, one of them its own: as in FPN and PANet.
  """
  levels = [*range(spec.min_level, spec.max_level + 1)]
  worth = 0.0
  for cell in spec.cells:
    of_inputs = [levels[index] for index in cell.inputs]
    near = cell.level in of_inputs and abs(of_inputs[0] - of_inputs[1]) <= 1
    worth += 0.5 * (cell.op == "global_pool") + 0.5 * near
    levels.append(cell.level)
  return worth / len(spec.cells)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  space = SearchSpace()
  algorithms = _algorithms(space)
  runs: dict[str, list[Run]] = {name: [] for name in algorithms}
  with progress_bar(len(algorithms) * _NUM_SEEDS.value, "search", "run") as bar:
    for seed in range(_NUM_SEEDS.value):
      for name, make in algorithms.items():
        runs[name].append(_search(make(seed), space))
        bar.update()
  print("| algorithm | best | standard deviation | mean of the last tenth | sampled |")
  print("|---|---|---|---|---|")
  for name, of_seeds in runs.items():
    bests = [max(run.rewards) for run in of_seeds]
    late = statistics.mean(run.late_mean() for run in of_seeds)
    sampled = statistics.mean(run.num_sampled for run in of_seeds)
    print(
      f"| {name} | {statistics.mean(bests):.3f} | {statistics.stdev(bests):.3f} | {late:.3f} | "
      f"{sampled:.0f} |"
    )
  if _FIGURE.value:
    _draw(runs, Path(_FIGURE.value))


def _algorithms(space: SearchSpace) -> dict[str, Callable]:
  """Returns functions that make an algorithm with a seed."""
  from official_nasfpn.search.algorithms.making import make_algorithm
  from official_nasfpn.search.config import SearchConfig

  def maker(**settings) -> Callable:
    return lambda seed: make_algorithm(SearchConfig(seed=seed, **settings), space)

  ppo = {
    f"PPO, learning rate {rate:g}": maker(algorithm="ppo", learning_rate=rate)
    for rate in _LEARNING_RATE.value
  }
  return {
    **ppo,
    "evolution": maker(algorithm="evolution"),
    "random search": maker(algorithm="random"),
  }


def _search(algorithm, space: SearchSpace) -> Run:
  from official_nasfpn.search.algorithms.algorithm import Outcome

  known: dict[str, float] = {}
  rewards: list[float] = []
  update = num_sampled = num_repeats = 0
  while len(rewards) < _NUM_TRAINED.value and num_repeats < _MAX_REPEATS:
    update += 1
    before = len(rewards)
    outcomes = []
    for proposal in algorithm.propose(update, _TRIALS_PER_UPDATE.value):
      spec = space.decode(proposal.choices)
      key = canonical_hash(spec)
      if key not in known:
        known[key] = closed_form_reward(spec)
        rewards.append(known[key])
      outcomes.append(Outcome(proposal, known[key]))
    num_sampled += len(outcomes)
    num_repeats = num_repeats + 1 if len(rewards) == before else 0
    algorithm.learn(update, outcomes)
  return Run(tuple(rewards[: _NUM_TRAINED.value]), num_sampled)


def _draw(runs: dict[str, Sequence[Run]], path: Path) -> None:
  """Draws the best so far over trained architectures: the mean over seeds, and all of them."""
  import numpy as np
  from matplotlib.figure import Figure

  figure = Figure(figsize=(8, 5), layout="constrained")
  axes = figure.subplots()
  for name, of_seeds in runs.items():
    length = min(len(run.rewards) for run in of_seeds)
    bests = np.array([run.best_so_far()[:length] for run in of_seeds])
    trained = np.arange(1, length + 1)
    (line,) = axes.plot(trained, bests.mean(axis=0), label=name)
    axes.fill_between(trained, bests.min(0), bests.max(0), color=line.get_color(), alpha=0.15)
  axes.set_xlabel("trained architectures")
  axes.set_ylabel(f"best reward so far, mean and range of {_NUM_SEEDS.value} seeds")
  axes.grid(alpha=0.3)
  axes.legend(loc="lower right")
  figure.savefig(path, dpi=120)


if __name__ == "__main__":
  run_program(main)
