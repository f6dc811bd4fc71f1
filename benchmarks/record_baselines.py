"""Makes what the benchmark of search algorithms is shipped with, from its table.

    python -m benchmarks.record_baselines --num_seeds 20

Fits the surrogate to `official_nasfpn/benchmark/trials.csv` and writes `surrogate.json` if the
table has changed; then runs the baselines and writes `baselines.jsonl`. The same command goes on
where it was interrupted. PPO takes a quarter to half a minute of a core for each search.
"""

import dataclasses
import json

from absl import flags

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.benchmark.baselines import BASELINES, RECORDED, Conditions, recorded_searches
from official_nasfpn.benchmark.simulated_search import search
from official_nasfpn.benchmark.surrogate import (
  SURROGATE,
  recorded_surrogate,
  surrogate_text,
  table_sum,
)
from official_nasfpn.benchmark.table import read_table
from official_nasfpn.benchmark.trial_time import trial_time
from official_nasfpn.disk import write_text
from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.progress import progress_bar

_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 20, "Searches with each baseline.", lower_bound=2)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  table = read_table()
  if not SURROGATE.is_file() or json.loads(SURROGATE.read_text())["table"] != table_sum(table):
    write_text(SURROGATE, surrogate_text(table))
  conditions, space, surrogate = Conditions(), SearchSpace(), recorded_surrogate()
  known = recorded_searches()
  # Seeds in the outer loop: every algorithm has a first search before any has a second.
  missing = [
    (name, seed)
    for seed in range(_NUM_SEEDS.value)
    for name in BASELINES
    if known.find(name, seed, conditions) is None
  ]
  seconds = trial_time(table)
  with progress_bar(len(missing) * conditions.num_trained, "baselines", "trial") as bar:
    for name, seed in missing:
      run = search(
        BASELINES[name]().make(space, seed),
        space,
        surrogate,
        **dataclasses.asdict(conditions),
        seed=seed,
        trial_seconds=seconds,
        on_trained=bar.update,
      )
      known.add(name, seed, run)
      write_text(RECORDED, known.as_text())


if __name__ == "__main__":
  run_program(main)
