"""Searches for a feature pyramid: `nasfpn search --gin_file R --search_dir D`.

The same command continues a search that was interrupted, and shows the result of one that is
finished; `--search_dir D --status` shows at any time what has been found.
"""

import dataclasses
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from official_nasfpn import configuration, settings_list
from official_nasfpn.architecture import SearchSpace
from official_nasfpn.configuration import Stored
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program
from official_nasfpn.search import storage
from official_nasfpn.search.algorithms.making import check_algorithm
from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.loop import begun_store, run_search
from official_nasfpn.search.planning import plan_of
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.recipe import settle_recipe
from official_nasfpn.search.report.events import EventLog
from official_nasfpn.search.report.found import read_trials
from official_nasfpn.search.report.results import results_table, write_results
from official_nasfpn.search.store.address import parse_server, without_password
from official_nasfpn.search.store.trial_store import TrialStore
from official_nasfpn.search.workers.local_launcher import LocalLauncher
from official_nasfpn.search.workers.making import (
  LAUNCHERS,
  LauncherFlags,
  MakeLauncher,
  launcher_maker,
  worker_flags,
)

_GIN_FILE = flags.DEFINE_multi_string(
  "gin_file", [], "A recipe; may be given several times. Default: that of --search_dir."
)
_GIN_PARAM = flags.DEFINE_multi_string(
  "gin_param", [], "A single binding, such as Search.num_trials=24; may be given several times."
)
_SEARCH_DIR = flags.DEFINE_string("search_dir", None, "Where everything of this search is kept.")
_STORE = flags.DEFINE_string(
  "store",
  None,
  "Where the trials are, when workers on other machines are to evaluate them: an empty database, "
  "postgresql://user@host/name; the password is in PGPASSWORD. Default: a file in --search_dir. To "
  "continue or to read such a search, it is needed only if the server asks for a password: "
  "PGPASSWORD goes to no address that stands in a search directory alone.",
)
_LAUNCHER = flags.DEFINE_enum(
  "launcher",
  "local",
  LAUNCHERS,
  "What keeps workers running: this machine; a Ray cluster; or nothing, when a batch system or a "
  "person starts `nasfpn worker` wherever it is to run.",
)
_NUM_WORKERS = flags.DEFINE_integer(
  "num_workers",
  None,
  "Worker processes. Default: one on this machine; on a cluster, as many as fit.",
  lower_bound=1,
)
_RAY_ADDRESS = flags.DEFINE_string(
  "ray_address",
  None,
  "HOST:PORT of a running Ray cluster. Default: RAY_ADDRESS, or the cluster of this machine.",
)
_WORKER_CPUS = flags.DEFINE_float(
  "worker_cpus", None, "CPUs of the cluster that one worker takes. Default: 1.", lower_bound=0.1
)
_WORKER_GPUS = flags.DEFINE_float(
  "worker_gpus", None, "GPUs, or the part of one, that one worker takes.", lower_bound=0.0
)
_WORKER_RESOURCE = flags.DEFINE_multi_string(
  "worker_resource",
  [],
  "Any other resource of the cluster that one worker takes, as NAME=AMOUNT, such as TPU=1.",
)

_TOP_K = flags.DEFINE_integer("top_k", 3, "Architectures in the table.", lower_bound=1)
_STATUS = flags.DEFINE_bool(
  "status", False, "Print what has been found so far, while the search runs or when it has ended."
)
_DRY_RUN = flags.DEFINE_bool(
  "dry_run",
  False,
  "Check recipe and data, print how many trials there would be and what one would do and cost, and "
  "write nothing. Needs no --search_dir.",
)
_PLAN = flags.DEFINE_bool(
  "plan",
  False,
  "Train two architectures on each worker, on this machine, print what the whole search will cost "
  "on --num_workers, and keep nothing. Needs no --search_dir.",
)
_LIST_SETTINGS = flags.DEFINE_bool(
  "list_settings", False, "Print every setting of a recipe, and do nothing else."
)
flags.register_multi_flags_validator(
  ["search_dir", "dry_run", "plan", "list_settings"],
  lambda values: any(values.values()),
  "--search_dir is needed, unless with --dry_run or --plan.",
)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  if _LIST_SETTINGS.value:
    print(settings_list.as_text((*settings_list.SEARCH, *settings_list.TRAINING)))
    return
  search_dir = Path(_SEARCH_DIR.value) if _SEARCH_DIR.value else None
  if _STATUS.value:
    print(results_table(read_trials(search_dir, _STORE.value), search_dir, _TOP_K.value))
    return
  proxy_recipe, config, space = _read_recipe(_gin_files(search_dir), _GIN_PARAM.value)
  if _DRY_RUN.value:
    _print_plan(proxy_recipe, config, space)
    return
  if _PLAN.value:
    _print_measured_plan(proxy_recipe, config, space)
    return
  recipe = _as_text(proxy_recipe, config, space)
  check_algorithm(config)
  store_url = without_password(parse_server(_STORE.value)) if _STORE.value else None
  make_launcher = _launcher_maker(search_dir)

  def reread(stored: Stored) -> str:
    return _as_text(*_read_recipe([stored]))

  # The controller's network is small, and the cores are the workers'.
  os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
  try:
    with storage.exclusive(search_dir):
      settle_recipe(recipe, search_dir, reread)
      storage.settle_store(search_dir, store_url)
      events = EventLog(search_dir / "events")

      def write_events(store: TrialStore) -> None:
        with storage.search_disk_errors(search_dir):
          events.write(store.trials(), store.metrics())

      def reread_text(text: str) -> str:
        return reread(Stored(text, "The recipe in the trial store"))

      with begun_store(search_dir, config, recipe, reread_text, _STORE.value) as store:
        run_search(
          config,
          space,
          search_dir,
          store,
          make_launcher,
          on_update=lambda update, metrics: write_events(store),
        )
        # A process that was killed may have learnt the last update without leaving its point.
        write_events(store)
        trials = store.trials()
      write_results(trials, search_dir)
  except KeyboardInterrupt:
    print(
      "\nStopped. Nothing that was finished is lost: the same command continues.", file=sys.stderr
    )
    sys.exit(130)
  print(results_table(trials, search_dir, _TOP_K.value))


def _gin_files(search_dir: Path | None) -> list[str | Path | Stored]:
  """Returns the recipes to read: those that are given, or that of the search to continue."""
  if _GIN_FILE.value:
    return [*_GIN_FILE.value]
  if search_dir is None:
    raise UserError("--gin_file is needed: without --search_dir there is no search to continue.")
  if not storage.recipe_path(search_dir).is_file():
    raise UserError(f"--gin_file is needed: {search_dir} holds no search to continue.")
  return [storage.stored_recipe(search_dir)]


def _read_recipe(
  gin_files: Sequence[str | Path | Stored], gin_params: Sequence[str] = ()
) -> tuple[str, SearchConfig, SearchSpace]:
  """Returns the resolved recipe of the proxy task and the settings of the search itself."""
  proxy_recipe = proxy_task.resolved_recipe(gin_files, gin_params)
  config = configuration.from_bindings(SearchConfig)
  space = configuration.from_bindings(SearchSpace)
  return proxy_recipe, config, space


def _as_text(proxy_recipe: str, config: SearchConfig, space: SearchSpace) -> str:
  return f"{configuration.to_gin(config, space)}\n{proxy_recipe}"


def _launcher_maker(search_dir: Path) -> MakeLauncher:
  launcher_flags = LauncherFlags(
    _LAUNCHER.value,
    _NUM_WORKERS.value,
    _RAY_ADDRESS.value,
    _WORKER_CPUS.value,
    _WORKER_GPUS.value,
    tuple(_WORKER_RESOURCE.value),
  )
  found_by = worker_flags(_LAUNCHER.value, search_dir, _STORE.value)
  return launcher_maker(launcher_flags, search_dir, found_by)


def _print_plan(proxy_recipe: str, config: SearchConfig, space: SearchSpace) -> None:
  spec = space.sample(random.Random(config.seed))
  print(
    f"{config.num_trials:,} trials of {space.size_unordered:.2e} architectures, each like this:"
  )
  print(proxy_task.plan_of_a_trial(proxy_recipe, spec))
  print("A dry run: nothing was trained and nothing written.")


def _print_measured_plan(proxy_recipe: str, config: SearchConfig, space: SearchSpace) -> None:
  num_workers = _NUM_WORKERS.value or 1
  # What is on other machines cannot be measured here.
  num_measuring = num_workers if _LAUNCHER.value == "local" else 1
  measured = dataclasses.replace(
    config,
    algorithm="random",
    num_trials=2 * num_measuring,
    trials_per_update=2 * num_measuring,
    trials_in_flight=0,
    trials_per_worker=0,
    early_stopping_quantile=0.0,
  )
  with tempfile.TemporaryDirectory() as folder:
    search_dir = Path(folder) / "plan"
    recipe = _as_text(proxy_recipe, measured, space)
    worker = (sys.executable, "-m", "official_nasfpn.worker", f"--search_dir={search_dir}")
    with storage.exclusive(search_dir):
      settle_recipe(recipe, search_dir)
      with begun_store(search_dir, measured, recipe) as store:
        run_search(
          measured,
          space,
          search_dir,
          store,
          lambda store: LocalLauncher(store, search_dir, worker, num_measuring),
        )
        trials = store.trials()
  print(plan_of(trials, config, num_workers).as_text())


if __name__ == "__main__":
  run_program(main)
