"""Evaluates the trials of a search, one after the other, until it is stopped.

    nasfpn worker --store postgresql://user@host/name
    nasfpn worker --search_dir SEARCH

The first form is for any machine that reaches the database and has the data at the recipe's path;
the second is for the machine of the search. A search starts workers on its own machine by itself.
It may be stopped and started again while other workers continue.
"""

import functools
import os
import secrets
import socket
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa
from absl import flags

from official_nasfpn.configuration import Stored
from official_nasfpn.disk import write_text
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program
from official_nasfpn.installation import use_onednn
from official_nasfpn.search import storage
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.recipe import SearchRecipe, read_recipe
from official_nasfpn.search.store.address import parse_server
from official_nasfpn.search.store.trial_store import TrialStore
from official_nasfpn.search.workers import early_stopping
from official_nasfpn.search.workers.trial_worker import run_worker

_STORE = flags.DEFINE_string(
  "store",
  None,
  "The database of the search, postgresql://user@host/name; the password is in PGPASSWORD. With "
  "--search_dir: the database that the directory names, if it asks for a password.",
)
_SEARCH_DIR = flags.DEFINE_string(
  "search_dir", None, "The directory of the search, instead of --store."
)
_WORK_DIR = flags.DEFINE_string(
  "work_dir",
  None,
  "The directory for the trials' files. Default: --search_dir, or a temporary directory.",
)
_WORKER_ID = flags.DEFINE_string(
  "worker_id",
  None,
  "The name of the worker; only one process at a time may use it. Default: a unique name.",
)
_PARENT_PID = flags.DEFINE_integer(
  "parent_pid", None, "Stop when the process with this id is no longer the parent."
)
flags.register_multi_flags_validator(
  ["store", "search_dir"],
  lambda values: values["store"] or values["search_dir"],
  "either --store or --search_dir is needed.",
)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  use_onednn()
  # Workers that share a GPU take the memory that they need, not all of it.
  os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
  if _SEARCH_DIR.value:
    place = storage.store_place(Path(_SEARCH_DIR.value), _STORE.value)
  else:
    place = parse_server(_STORE.value)
  work_dir = _WORK_DIR.value or _SEARCH_DIR.value
  if work_dir:
    code = _work(place, Path(work_dir))
  else:
    with tempfile.TemporaryDirectory(prefix="official_nasfpn-worker-") as temporary:
      code = _work(place, Path(temporary))
  # TensorFlow's threads may delay a normal exit, and everything is written already.
  sys.stdout.flush()
  os._exit(code)


def _work(place: Path | sa.URL, work_dir: Path) -> int:
  recipe = _recipe_of(place)
  config = recipe.search
  _settle_work_dir(work_dir, recipe)
  store = TrialStore(place, config.lease_seconds, config.max_attempts, keeps_connection=False)
  try:
    return run_worker(
      store,
      work_dir,
      proxy_task.make_evaluate(recipe, work_dir),
      worker_id=_WORKER_ID.value or _unique_name(),
      recipe_version=recipe.version,
      trials_per_worker=config.trials_per_worker,
      parent_pid=_PARENT_PID.value,
      is_hopeless=functools.partial(
        early_stopping.is_hopeless,
        quantile=config.early_stopping_quantile,
        min_others=config.early_stopping_min_trials,
      ),
    )
  finally:
    store.close()


def _recipe_of(place: Path | sa.URL) -> SearchRecipe:
  store = TrialStore(place)
  try:
    return read_recipe([Stored(store.recipe(), "The recipe in the trial store")])
  finally:
    store.close()


def _settle_work_dir(work_dir: Path, recipe: SearchRecipe) -> None:
  """Writes the recipe to the directory for trials, unless that holds another search."""
  path = storage.recipe_path(work_dir)
  if not path.is_file():
    write_text(path, recipe.to_gin())
  elif read_recipe([storage.stored_recipe(work_dir)]).version != recipe.version:
    raise UserError(f"{work_dir} holds the files of another search; choose another --work_dir.")


def _unique_name() -> str:
  return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


if __name__ == "__main__":
  run_program(main)
