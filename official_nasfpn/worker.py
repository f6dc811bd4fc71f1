"""Evaluates the trials of a search, one after the other, until it is stopped.

A search on one machine starts its own workers; this program is what it starts.
"""

import functools
import os
import sys
from pathlib import Path

from absl import flags

from official_nasfpn import configuration
from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.search import storage
from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.workers import early_stopping
from official_nasfpn.search.workers.trial_worker import run_worker

_SEARCH_DIR = flags.DEFINE_string(
  "search_dir", None, "The directory of the search to work for.", required=True
)
_WORKER_ID = flags.DEFINE_string(
  "worker_id", "worker-0", "The worker's name; one process at a time may use it."
)
_PARENT_PID = flags.DEFINE_integer(
  "parent_pid", None, "Stop when this process is not the parent any more."
)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  search_dir = Path(_SEARCH_DIR.value)
  configuration.parse([storage.recipe_path(search_dir)])
  config = configuration.from_bindings(SearchConfig)
  code = run_worker(
    search_dir,
    proxy_task.make_evaluate(search_dir),
    worker_id=_WORKER_ID.value,
    lease_seconds=config.lease_seconds,
    max_attempts=config.max_attempts,
    trials_per_worker=config.trials_per_worker,
    parent_pid=_PARENT_PID.value,
    is_hopeless=functools.partial(
      early_stopping.is_hopeless,
      quantile=config.early_stopping_quantile,
      min_others=config.early_stopping_min_trials,
    ),
  )
  # TensorFlow's threads may hold up an orderly exit, and everything is written.
  sys.stdout.flush()
  os._exit(code)


if __name__ == "__main__":
  run_program(main)
