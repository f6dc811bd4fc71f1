"""A worker that computes rewards from the architecture without training, for tests of launchers.

Arguments beyond the launcher's:
  seconds: duration of one evaluation.
  until: a file that evaluations wait for, if given.
  noise: standard deviation of what architecture and seed add to a reward.
  faults: faults to inject, as `trial:kind` separated by commas; see `_FAULTS`.
"""

import argparse
import hashlib
import os
import random
import signal
import sys
import time
from pathlib import Path

from official_nasfpn import architecture
from official_nasfpn.architecture import PyramidSpec
from official_nasfpn.configuration import Stored
from official_nasfpn.errors import exit_with
from official_nasfpn.search import storage
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.store.trial_store import TrialStore
from official_nasfpn.search.workers.evaluation import (
  Evaluation,
  SearchBroken,
  TrialFailed,
  WorkerBroken,
)
from official_nasfpn.search.workers.stop_signals import STOP_SECONDS, StopSignals
from official_nasfpn.search.workers.trial_worker import run_worker


def closed_form_reward(spec: PyramidSpec) -> float:
  """Returns a reward in [0, 1]: the share of cells that pool and read an input of the pyramid."""
  good = [cell.op == "global_pool" and min(cell.inputs) < spec.num_inputs for cell in spec.cells]
  spread = sum(abs(a - b) for a, b in (cell.inputs for cell in spec.cells)) / 1000
  return sum(good) / len(good) * 0.9 + spread


def noisy_reward(spec: PyramidSpec, seed_offset: int, noise: float) -> float:
  """Returns the closed-form reward with normal noise, which architecture and seed decide."""
  rng = random.Random(f"{architecture.canonical_hash(spec)}/{seed_offset}")
  return closed_form_reward(spec) + rng.gauss(0, noise)


def _diverge():
  raise TrialFailed("the loss became NaN at step 7", diverged=True)


def _crash():
  raise RuntimeError("the graph is too large\nfurther lines")


def _break():
  raise WorkerBroken("The GPU failed while it computed.")


def _break_all():
  raise SearchBroken("What all trials start from diverged.")


def _fill_the_disk():
  with open("/dev/full", "w") as file:
    file.write("x")


_FAULTS = {
  "diverged": _diverge,
  "exception": _crash,
  "memory": lambda: bytearray(1 << 62),
  "disk": _fill_the_disk,
  "broken": _break,
  "all-broken": _break_all,
  "exit": lambda: sys.exit(9),
  "exit-0": lambda: sys.exit(0),
  "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
  # Deep within C, as in TensorFlow: Python runs no handler of a signal.
  "deaf": lambda: hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30),
  "freeze": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--search_dir", type=Path, required=True)
  parser.add_argument("--worker_id", required=True)
  parser.add_argument("--parent_pid", type=int)
  parser.add_argument("--lease_seconds", type=float, default=30.0)
  parser.add_argument("--max_attempts", type=int, default=3)
  parser.add_argument("--trials_per_worker", type=int, default=0)
  parser.add_argument("--seconds", type=float, default=0.0)
  parser.add_argument("--until", type=Path)
  parser.add_argument("--noise", type=float, default=0.0)
  parser.add_argument("--faults", default="")
  parser.add_argument("--stop_seconds", type=float, default=STOP_SECONDS)
  arguments = parser.parse_args()
  faults = dict(fault.split(":") for fault in arguments.faults.split(",") if fault)

  def evaluate(spec, trial_dir, progress, seed_offset=0):
    number = trial_dir.name.lstrip("0")
    # Each evaluation writes a line, so that tests can count them.
    with open(arguments.search_dir / "evaluations.txt", "a") as log:
      log.write(f"{number} {os.getpid()}\n")
    progress.report(0.5)
    time.sleep(arguments.seconds)
    while arguments.until and not arguments.until.exists():
      time.sleep(0.02)
    kind = faults.get(number, "")
    once = kind.startswith("once-")
    if kind and not (once and (trial_dir / "fault").exists()):
      (trial_dir / "fault").touch()
      if kind.removeprefix("once-") == "nan":
        return Evaluation(float("nan"))
      _FAULTS[kind.removeprefix("once-")]()
    return Evaluation(noisy_reward(spec, seed_offset, arguments.noise))

  # The package's worker takes the lease from the recipe; here tests set it for each worker.
  store = TrialStore(
    storage.store_place(arguments.search_dir),
    arguments.lease_seconds,
    arguments.max_attempts,
    keeps_connection=False,
  )
  recipe = read_recipe([Stored(store.recipe(), "the store")])
  with StopSignals(arguments.stop_seconds) as stop_signals:
    try:
      code = run_worker(
        store,
        arguments.search_dir,
        evaluate,
        arguments.worker_id,
        recipe_version=recipe.version,
        trials_per_worker=arguments.trials_per_worker,
        parent_pid=arguments.parent_pid,
        stop_signals=stop_signals,
      )
    except WorkerBroken as error:
      exit_with(error)
  sys.exit(code)


if __name__ == "__main__":
  main()
