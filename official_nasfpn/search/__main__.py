"""Searches for a feature pyramid: `nasfpn search --gin_file R --search_dir D`.

The same command continues a search that was interrupted, and shows the result of one that is
finished; `--search_dir D --status` shows at any time what has been found.
"""

import os
import sys
from pathlib import Path

from absl import flags

from official_nasfpn import settings_list
from official_nasfpn.configuration import Stored
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program
from official_nasfpn.search import storage
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.search import Search, dry_run, measured_plan
from official_nasfpn.search.workers.launchers import LAUNCHERS, LauncherConfig
from official_nasfpn.search.workers.stop_signals import exit_code, terminated_like_ctrl_c

_GIN_FILE = flags.DEFINE_multi_string(
  "gin_file", [], "A recipe; may be given several times. Default: that of --search_dir."
)
_GIN_PARAM = flags.DEFINE_multi_string(
  "gin_param", [], "A single binding, such as Search.num_trials=24; may be given several times."
)
_BACKBONE_WEIGHTS = flags.DEFINE_string(
  "backbone_weights",
  None,
  "What the backbone of every trial starts from: a file of weights, a checkpoint, a run folder, an "
  "export, or `imagenet`. Sets Training.backbone_weights; `nasfpn weights` lists what can be had.",
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
  list(LAUNCHERS),
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
flags.register_multi_flags_validator(
  ["search_dir", "status"],
  lambda values: values["search_dir"] or not values["status"],
  "--search_dir is needed with --status.",
)
flags.register_multi_flags_validator(
  ["status", "dry_run", "plan"],
  lambda values: sum(values.values()) < 2,
  "--status, --dry_run and --plan exclude each other.",
)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  if _LIST_SETTINGS.value:
    print(settings_list.as_text((*settings_list.SEARCH, *settings_list.TRAINING)))
    return
  if _STATUS.value:
    print(Search(_SEARCH_DIR.value, store=_STORE.value).table(_TOP_K.value))
    return
  recipe = read_recipe(_gin_files(), _gin_params())
  if _DRY_RUN.value:
    print(f"{dry_run(recipe)}\nA dry run: nothing was trained and nothing written.")
    return
  if _PLAN.value:
    num_workers = _NUM_WORKERS.value or 1
    # What is on other machines cannot be measured here.
    num_measuring = num_workers if _LAUNCHER.value == "local" else 1
    try:
      with terminated_like_ctrl_c():
        print(measured_plan(recipe, num_workers, num_measuring).as_text())
    except KeyboardInterrupt as stop:
      print("\nStopped; nothing was kept.", file=sys.stderr)
      sys.exit(exit_code(stop))
    return
  search = Search(_SEARCH_DIR.value, recipe, _STORE.value)
  # The controller's network is small, and the cores are the workers'.
  os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
  try:
    with terminated_like_ctrl_c():
      search.run(_launcher())
  except KeyboardInterrupt as stop:
    print(
      "\nStopped. Nothing that was finished is lost: the same command continues.", file=sys.stderr
    )
    sys.exit(exit_code(stop))
  print(search.table(_TOP_K.value))


def _gin_files() -> list[str | Path | Stored]:
  """Returns the recipes to read: those that are given, or that of the search to continue."""
  if _GIN_FILE.value:
    return [*_GIN_FILE.value]
  if _SEARCH_DIR.value is None:
    raise UserError("--gin_file is needed: without --search_dir there is no search to continue.")
  search_dir = Path(_SEARCH_DIR.value)
  if not storage.recipe_path(search_dir).is_file():
    raise UserError(f"--gin_file is needed: {search_dir} holds no search to continue.")
  return [storage.stored_recipe(search_dir)]


def _gin_params() -> list[str]:
  weights = _BACKBONE_WEIGHTS.value
  return [*_GIN_PARAM.value, *([f"Training.backbone_weights = {weights!r}"] if weights else [])]


def _launcher() -> LauncherConfig:
  return LauncherConfig(
    _LAUNCHER.value,
    _NUM_WORKERS.value,
    _RAY_ADDRESS.value,
    _WORKER_CPUS.value,
    _WORKER_GPUS.value,
    tuple(_WORKER_RESOURCE.value),
  )


if __name__ == "__main__":
  run_program(main)
