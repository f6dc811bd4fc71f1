"""Evaluates the trials of a search, one after the other, until it is stopped.

    nasfpn worker --store postgresql://user@host/name
    nasfpn worker --search_dir SEARCH

The first form is for any machine that reaches the database and has the data at the recipe's path;
the second is for the machine of the search. A search starts workers on its own machine by itself.
It may be stopped and started again while other workers continue.

SIGTERM and Ctrl-C stop a worker within 10 s: its trial is handed back, and the exit code is 143 or
130. A worker that is started before its search waits for it.
"""

import functools
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa
from absl import flags

from official_nasfpn.configuration import Stored
from official_nasfpn.disk import write_text
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program
from official_nasfpn.progress import duration
from official_nasfpn.search import storage
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.recipe import SearchRecipe, read_recipe
from official_nasfpn.search.store.address import parse_server
from official_nasfpn.search.store.schema import NoSearchYet
from official_nasfpn.search.store.trial_store import TrialStore
from official_nasfpn.search.workers import early_stopping
from official_nasfpn.search.workers.stop_signals import StopSignals
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
  "The directory for the trials' files, and for the shared weights of Proxy.mode = 'shared'. "
  "Default: --search_dir, or a temporary directory.",
)
_WORKER_ID = flags.DEFINE_string(
  "worker_id",
  None,
  "The name of the worker; only one process at a time may use it. Default: a unique name.",
)
_PARENT_PID = flags.DEFINE_integer(
  "parent_pid", None, "Stop when the process with this id is no longer the parent."
)
_WAIT_SECONDS = flags.DEFINE_float(
  "wait_seconds",
  600.0,
  "How long to wait for a search that has not begun yet; 0 to end at once.",
  lower_bound=0.0,
)
# Between two looks for a search that has not begun.
_LOOK_SECONDS = 2.0
_OWN_SHARED_WEIGHTS = (
  "Proxy.mode = 'shared' without --work_dir: this worker and each that replaces it train the "
  "shared weights anew, in a temporary directory, and other processors get other weights. Give "
  "--work_dir a directory that stays, if possible on a disk that all workers see."
)
flags.register_multi_flags_validator(
  ["store", "search_dir"],
  lambda values: values["store"] or values["search_dir"],
  "either --store or --search_dir is needed.",
)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  # Workers that share a GPU take the memory that they need, not all of it.
  os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
  work_dir = _WORK_DIR.value or _SEARCH_DIR.value
  with StopSignals() as stop_signals:
    if work_dir:
      code = _work(Path(work_dir), False, stop_signals)
    else:
      temporary = tempfile.mkdtemp(prefix="official_nasfpn-worker-")
      stop_signals.before_exit(lambda: shutil.rmtree(temporary, ignore_errors=True))
      try:
        code = _work(Path(temporary), True, stop_signals)
      finally:
        shutil.rmtree(temporary, ignore_errors=True)
  # TensorFlow's threads may delay a normal exit, and everything is written already.
  sys.stdout.flush()
  os._exit(code)


def _work(work_dir: Path, is_temporary: bool, stop_signals: StopSignals) -> int:
  place, recipe = _wait_for_search()
  config = recipe.search
  proxy_task.settle_onednn(recipe)
  if recipe.proxy.mode == "shared" and is_temporary:
    print(_OWN_SHARED_WEIGHTS, flush=True)
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
      stop_signals=stop_signals,
    )
  finally:
    store.close()


def _wait_for_search() -> tuple[Path | sa.URL, SearchRecipe]:
  """Returns where the search is and its recipe; waits for one that has not begun yet.

  Raises:
    UserError: it has not begun in `--wait_seconds`, or cannot be read.
  """
  deadline = time.monotonic() + _WAIT_SECONDS.value
  has_told = False
  while True:
    try:
      place = _place()
      return place, _recipe_of(place)
    except NoSearchYet as error:
      left = deadline - time.monotonic()
      if left <= 0:
        waited = f" This worker waited for {duration(_WAIT_SECONDS.value)}." if has_told else ""
        raise UserError(f"{error}{waited}") from error
      if not has_told:
        print(f"{error} Waiting for it for up to {duration(_WAIT_SECONDS.value)}.", flush=True)
        has_told = True
      # Hundreds of workers may wait for a server.
      time.sleep(min(left, _LOOK_SECONDS))


def _place() -> Path | sa.URL:
  if _SEARCH_DIR.value:
    return storage.store_place(Path(_SEARCH_DIR.value), _STORE.value)
  return parse_server(_STORE.value)


def _recipe_of(place: Path | sa.URL) -> SearchRecipe:
  store = TrialStore(place, keeps_connection=False, reads_only=True)
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
