r"""Adds the trained architectures of a search to a table.

    python -m benchmarks.record_architectures --search_dir SEARCH \
        --table official_nasfpn/benchmark/trials.csv

The search has the recipe gin/bccd_search.gin; it may be running. Architectures that are already in
the table are skipped, so the command may be repeated. Learning curves come from the evaluations of
early stopping, which these settings make without stopping anything:

    --gin_param "Search.early_stopping_quantile = 0.5" \
    --gin_param "Search.early_stopping_min_trials = 1000000" \
    --gin_param "Search.early_stopping_shares = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)"
"""

from pathlib import Path

from absl import flags

from official_nasfpn.architecture import SearchSpace, canonical_hash
from official_nasfpn.benchmark.table import Recorded, read_table, table_text
from official_nasfpn.disk import disk_errors, write_text
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program
from official_nasfpn.search import storage
from official_nasfpn.search.proxy.config import ProxyConfig
from official_nasfpn.search.proxy.reward import RewardConfig
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.report.found import read_reward_curves, read_trials
from official_nasfpn.search.store.trial_store import DONE

_SEARCH_DIR = flags.DEFINE_string("search_dir", None, "The search's directory.", required=True)
_TABLE = flags.DEFINE_string("table", None, "A CSV file; created if need be.", required=True)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  path = Path(_TABLE.value)
  table = read_table(path) if path.exists() else []
  known = {recorded.architecture_hash for recorded in table}
  new = [
    r for r in trained_architectures(Path(_SEARCH_DIR.value)) if r.architecture_hash not in known
  ]
  with disk_errors(path, "The table is unchanged."):
    write_text(path, table_text([*table, *new]))
  print(f"{len(new)} new architectures, {len(table) + len(new)} in {path}.")


def trained_architectures(search_dir: Path) -> list[Recorded]:
  """Returns the architectures of a search that were trained to the end, each once.

  Raises:
    UserError: there is no search, or it has another search space or reward than the table.
  """
  trials = read_trials(search_dir)
  recipe = read_recipe([storage.stored_recipe(search_dir)])
  if recipe.space != SearchSpace():
    raise UserError(f"{search_dir} does not search the paper's space, the only one in the table.")
  if (recipe.proxy, recipe.reward) != (ProxyConfig(), RewardConfig()):
    raise UserError(f"{search_dir} rewards something else than the AP of plain trainings.")
  curves = read_reward_curves(search_dir)
  return [
    Recorded(
      recipe.search.seed,
      trial.number,
      canonical_hash(SearchSpace().decode(trial.choices)),
      trial.reward,
      trial.choices,
      (*curves[trial.number], (1.0, trial.reward)) if trial.number in curves else None,
      trial.seconds,
    )
    for trial in trials
    if trial.state == DONE and trial.metrics.get("stopped_at") is None
  ]


if __name__ == "__main__":
  run_program(main)
