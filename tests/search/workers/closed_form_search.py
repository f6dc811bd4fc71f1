"""A search with closed-form rewards, in a process that tests can kill."""

import argparse
import dataclasses
import shlex
import signal
import sys
from pathlib import Path

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.algorithms.evolution import Evolution
from official_nasfpn.search.algorithms.ppo import PPO
from official_nasfpn.search.algorithms.random_search import RandomSearch
from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.loop import begun_store, run_search
from official_nasfpn.search.proxy.config import ProxyConfig
from official_nasfpn.search.proxy.reward import RewardConfig
from official_nasfpn.search.recipe import SearchRecipe
from official_nasfpn.search.workers.launchers import LauncherConfig, launcher_maker
from official_nasfpn.search.workers.stop_signals import exit_code, terminated_like_ctrl_c
from official_nasfpn.training.experiment import load_experiment

WORKER = Path(__file__).with_name("closed_form_worker.py")


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("search_dir", type=Path)
  parser.add_argument("--algorithm", default="random")
  parser.add_argument("--num_trials", type=int, default=24)
  parser.add_argument("--trials_per_update", type=int, default=6)
  parser.add_argument("--trials_in_flight", type=int, default=0)
  parser.add_argument("--confirm_top", type=int, default=0)
  parser.add_argument("--launcher", default="local")
  parser.add_argument("--num_workers", type=int)
  parser.add_argument("--ray_address")
  parser.add_argument("--worker_gpus", type=float)
  parser.add_argument("--lease_seconds", type=float, default=30.0)
  parser.add_argument("--max_attempts", type=int, default=3)
  parser.add_argument("--store")
  parser.add_argument("--worker", default="", help="Further arguments of the worker.")
  arguments = parser.parse_args()
  algorithms = {
    "ppo": PPO(learning_rate=0.01, hidden_units=8),
    "evolution": Evolution(),
    "random": RandomSearch(),
  }
  config = SearchConfig(
    algorithm=algorithms[arguments.algorithm],
    num_trials=arguments.num_trials,
    trials_per_update=arguments.trials_per_update,
    trials_in_flight=arguments.trials_in_flight,
    confirm_top=arguments.confirm_top,
    lease_seconds=arguments.lease_seconds,
    max_attempts=arguments.max_attempts,
  )
  space = SearchSpace(min_level=3, max_level=4, num_intermediate_cells=0)
  search_dir = arguments.search_dir
  launcher_flags = LauncherConfig(
    launcher=arguments.launcher,
    num_workers=arguments.num_workers or (2 if arguments.launcher == "local" else None),
    ray_address=arguments.ray_address,
    worker_gpus=arguments.worker_gpus,
  )
  worker_arguments = [
    *(f"--search_dir={search_dir}", f"--lease_seconds={arguments.lease_seconds}"),
    *shlex.split(arguments.worker),
  ]
  make_launcher = launcher_maker(launcher_flags, search_dir, worker_arguments, [str(WORKER)])
  # Without the number of trials: a test may continue with fewer, which the program refuses.
  recipe = SearchRecipe(
    load_experiment(),
    ProxyConfig(),
    RewardConfig(),
    dataclasses.replace(config, num_trials=1),
    space,
  )
  with (
    storage.exclusive(search_dir),
    storage.search_disk_errors(search_dir),
    begun_store(search_dir, recipe, arguments.store) as store,
  ):
    run_search(config, space, search_dir, store, make_launcher)


if __name__ == "__main__":
  # If the tests run as a background job of a shell, they ignore Ctrl-C, and so would this process.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    with terminated_like_ctrl_c():
      main()
  except UserError as error:
    sys.exit(f"error: {error}")
  except KeyboardInterrupt as stop:
    sys.exit(exit_code(stop))
