"""Compares PPO, regularised evolution and random search on rewards whose optimum is known.

    python -m benchmarks.search_algorithms --num_seeds 10 --figure docs/search_algorithms.png

There are two rewards in closed form, each without and with noise. PPO takes its settings from
recipes:

    python -m benchmarks.search_algorithms --ppo NAME=RECIPE --gin_param "PPO.replay_best = 0"

With `--delay` rewards arrive that many updates late, as with a pool of many workers.
"""

from collections.abc import Callable
from pathlib import Path

from absl import flags

from benchmarks import comparison
from benchmarks.closed_form_rewards import deceptive, smooth, standard_deviation
from official_nasfpn.architecture import SearchSpace
from official_nasfpn.benchmark.simulated_search import Run, search
from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.progress import progress_bar

_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 10, "Searches with each algorithm.", lower_bound=2)
_NUM_TRAINED = flags.DEFINE_integer(
  "num_trained", 300, "Architectures that each search trains.", lower_bound=20
)
_TRIALS_PER_UPDATE = flags.DEFINE_integer("trials_per_update", 10, "Trials per update.")
_PPO = flags.DEFINE_multi_string(
  "ppo",
  ["PPO, the paper's=gin/paper/proxy_search.gin", "PPO, small=gin/bccd_search.gin"],
  "NAME=RECIPE; PPO takes its settings from the recipe.",
)
_REWARD = flags.DEFINE_multi_enum(
  "reward", ["smooth", "deceptive"], ["smooth", "deceptive"], "Which rewards."
)
_NOISE = flags.DEFINE_multi_float(
  "noise", [0.0, 0.4], "Noise, in standard deviations of the reward over random architectures."
)
_DELAY = flags.DEFINE_integer("delay", 0, "Updates between sampling and learning.", lower_bound=0)
_GIN_PARAM = flags.DEFINE_multi_string("gin_param", [], "A binding on top of every recipe.")
_BASELINES = flags.DEFINE_bool("baselines", True, "Run evolution and random search too.")
_FIGURE = flags.DEFINE_string("figure", None, "Image file for the curves.")


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  space = SearchSpace()
  rewards = {"smooth": smooth, "deceptive": deceptive}
  algorithms = _algorithms(space)
  panels: dict[str, dict[str, list[Run]]] = {}
  total = len(_REWARD.value) * len(_NOISE.value) * len(algorithms) * _NUM_SEEDS.value
  with progress_bar(total, "search", "run") as bar:
    for reward_name in _REWARD.value:
      reward = rewards[reward_name]
      scale = standard_deviation(reward, space)
      for noise in _NOISE.value:
        runs: dict[str, list[Run]] = {}
        for name, make in algorithms.items():
          for seed in range(_NUM_SEEDS.value):
            run = search(
              make(seed),
              space,
              lambda specs, reward=reward: [reward(spec) for spec in specs],
              num_trained=_NUM_TRAINED.value,
              trials_per_update=_TRIALS_PER_UPDATE.value,
              seed=seed,
              noise=noise * scale,
              delay=_DELAY.value,
            )
            runs.setdefault(name, []).append(run)
            bar.update()
        title = f"{reward_name} reward, {f'noise {noise:g}' if noise else 'no noise'}"
        panels[title] = runs
        print(f"\n{title} (delay {_DELAY.value})\n\n{comparison.table(runs)}", flush=True)
  if _FIGURE.value:
    comparison.draw(panels, Path(_FIGURE.value))


def _algorithms(space: SearchSpace) -> dict[str, Callable]:
  """Returns, by name, functions from a seed to an algorithm."""
  ppo = comparison.ppo_of_recipes(_PPO.value, space, _GIN_PARAM.value)
  return {**ppo, **(comparison.baselines(space) if _BASELINES.value else {})}


if __name__ == "__main__":
  run_program(main)
