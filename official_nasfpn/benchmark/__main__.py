r"""Ranks your search algorithm beside random search, evolution and PPO, on recorded architectures.

    nasfpn benchmark --algorithm my_search:MySearch --output_dir runs/ranking
    nasfpn benchmark --algorithm my_search.py:MySearch --num_seeds 5 --num_trained 100

--algorithm takes MODULE:CLASS, where the class holds the settings of your algorithm, each with a
default, and makes the algorithm (`AlgorithmSettings` in official_nasfpn/search/algorithms); or
MODULE:OBJECT, an object of such a class. MODULE is a module that can be imported, also from the
current folder, or a file. It is your code, and it is run. Those of this package are

    official_nasfpn.search.algorithms.random_search:RandomSearch
    official_nasfpn.search.algorithms.evolution:Evolution
    official_nasfpn.search.algorithms.ppo:PPO

Rewards come from a surrogate, so 300 trials take seconds. Searches with the baselines are recorded
for the default numbers; for others they are run. docs/benchmark.md says what the table means.
"""

from absl import flags

from official_nasfpn.benchmark.baselines import BASELINES, Conditions
from official_nasfpn.benchmark.benchmark import rank_algorithms
from official_nasfpn.benchmark.user_algorithm import load_algorithm
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program

_ALGORITHM = flags.DEFINE_multi_string(
  "algorithm", None, "MODULE:CLASS; may be given several times.", required=True
)
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 20, "Searches with each algorithm.", lower_bound=2)
_NUM_TRAINED = flags.DEFINE_integer(
  "num_trained", Conditions.num_trained, "Architectures that each search trains.", lower_bound=20
)
_WORKERS = flags.DEFINE_integer(
  "workers",
  Conditions.num_workers,
  "Workers of the simulated pool. More than --trials_per_update do not wait for one another, and "
  "the algorithm learns from rewards that come late.",
  lower_bound=1,
)
_TRIALS_PER_UPDATE = flags.DEFINE_integer(
  "trials_per_update",
  Conditions.trials_per_update,
  "Architectures that are proposed together.",
  lower_bound=1,
)
_BASELINE = flags.DEFINE_multi_enum(
  "baseline", [*BASELINES], [*BASELINES], "What to rank beside, besides random search."
)
_OUTPUT_DIR = flags.DEFINE_string(
  "output_dir", None, "Gets ranking.json, searches.csv and rewards.png. Default: nothing is kept."
)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  names = _ALGORITHM.value
  short = [name.rpartition(":")[2] for name in names]
  if len(set(names)) < len(names):
    raise UserError("--algorithm names one algorithm twice.")
  # The class's name, unless there are two of that name.
  algorithms = {
    (only if short.count(only) == 1 else name): load_algorithm(name)
    for name, only in zip(names, short, strict=True)
  }
  ranking = rank_algorithms(
    algorithms,
    _OUTPUT_DIR.value,
    num_seeds=_NUM_SEEDS.value,
    num_trained=_NUM_TRAINED.value,
    num_workers=_WORKERS.value,
    trials_per_update=_TRIALS_PER_UPDATE.value,
    baselines=_BASELINE.value,
  )
  print(ranking.as_text())
  if _OUTPUT_DIR.value:
    print(f"\nranking.json, searches.csv and rewards.png are in {_OUTPUT_DIR.value}.")


if __name__ == "__main__":
  run_program(main)
