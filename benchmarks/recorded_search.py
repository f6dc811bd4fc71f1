"""Compares PPO, regularised evolution and random search on architectures that were really trained.

    python -m benchmarks.recorded_search --num_seeds 10 --figure docs/recorded_search.png

Rewards come from a surrogate that is fitted to the table of trained architectures (see
`official_nasfpn/benchmark/`); its accuracy in cross-validation is printed. Noise of a training is
added: none, the standard deviation over seeds that `nasfpn proxy_check` measured, and the error of
the surrogate. `nasfpn benchmark` ranks another algorithm beside these.
"""

from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import comparison
from official_nasfpn.architecture import SearchSpace
from official_nasfpn.benchmark.baselines import MEASURED_NOISE
from official_nasfpn.benchmark.simulated_search import Run, search
from official_nasfpn.benchmark.surrogate import cross_validate, fit_surrogate
from official_nasfpn.benchmark.table import TABLE, read_table
from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.progress import progress_bar

_TABLE = flags.DEFINE_string("table", str(TABLE), "Trained architectures.")
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
_NOISE = flags.DEFINE_multi_float(
  "noise", [0.0, MEASURED_NOISE, 0.029], "Standard deviations of the noise of a reward."
)
_FIGURE = flags.DEFINE_string("figure", None, "Image file for the curves.")


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  table = read_table(Path(_TABLE.value))
  rewards = np.array([recorded.reward for recorded in table])
  fit = cross_validate(table)
  print(
    f"{len(table)} architectures, rewards {rewards.min():.3f} to {rewards.max():.3f}, mean "
    f"{rewards.mean():.3f}, standard deviation {rewards.std():.3f}.\n"
    f"Surrogate, 10-fold cross-validation: {fit.as_text()}.",
    flush=True,
  )
  space = SearchSpace()
  surrogate = fit_surrogate(table)
  algorithms = {
    **comparison.ppo_of_recipes(_PPO.value, space),
    **comparison.baselines(space),
  }
  panels: dict[str, dict[str, list[Run]]] = {}
  total = len(_NOISE.value) * len(algorithms) * _NUM_SEEDS.value
  with progress_bar(total, "search", "run") as bar:
    for noise in _NOISE.value:
      runs: dict[str, list[Run]] = {}
      for name, make in algorithms.items():
        for seed in range(_NUM_SEEDS.value):
          run = search(
            make(seed),
            space,
            surrogate,
            num_trained=_NUM_TRAINED.value,
            trials_per_update=_TRIALS_PER_UPDATE.value,
            seed=seed,
            noise=noise,
          )
          runs.setdefault(name, []).append(run)
          bar.update()
      title = f"surrogate, noise {noise:.3f}" if noise else "surrogate, no noise"
      panels[title] = runs
      print(f"\n{title}\n\n{comparison.table(runs)}", flush=True)
  if _FIGURE.value:
    comparison.draw(panels, Path(_FIGURE.value))


if __name__ == "__main__":
  run_program(main)
