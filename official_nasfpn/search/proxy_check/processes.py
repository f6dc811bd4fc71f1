"""Does the trainings of a proxy check, each in a process apart from the caller's."""

import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from multiprocessing.context import SpawnProcess
from pathlib import Path

from official_nasfpn.architecture import canonical_hash
from official_nasfpn.disk import end_of_log
from official_nasfpn.errors import UserError
from official_nasfpn.installation import use_onednn
from official_nasfpn.progress import progress_bar
from official_nasfpn.search.proxy.proxy_task import evaluation_by
from official_nasfpn.search.proxy_check.trainings import (
  Result,
  Training,
  TrainingRecipe,
  TrainingsFile,
)
from official_nasfpn.search.workers.evaluation import NullProgress, TrialFailed

# TensorFlow keeps about 100 MB of every plain training; a process ends before that matters.
_TRAININGS_PER_PROCESS = 8
_POLL_SECONDS = 0.2


def train_missing(
  wanted: Sequence[Training],
  done: Sequence[Training],
  recipes: Sequence[TrainingRecipe],
  file: TrainingsFile,
  output_dir: Path,
  num_workers: int,
) -> None:
  """Does the trainings that are not done yet, in order, and adds each to the file.

  Args:
    wanted: all trainings of the check.
    done: finished trainings.
    recipes: the recipes of all trainings.
    file: finished trainings are added to it.
    output_dir: gets logs, evaluations and shared weights.
    num_workers: number of processes that train at the same time.

  Raises:
    UserError: a training failed, and not because its loss diverged.
  """
  missing = [training for training in wanted if training not in set(done)]
  recipe_of = {recipe.digest: recipe for recipe in recipes}
  groups = _groups(missing, recipe_of)
  log = output_dir / "trainings.log"
  # Not forked: TensorFlow's threads would be missing in the child.
  context = multiprocessing.get_context("spawn")
  num_threads = max(len(os.sched_getaffinity(0)) // num_workers, 1)
  running: list[SpawnProcess] = []
  with progress_bar(len(wanted), "train", "training", initial=len(wanted) - len(missing)) as bar:
    try:
      while groups or running:
        while groups and len(running) < num_workers:
          group = groups.pop(0)
          recipe = recipe_of[group[0].recipe].with_seed(group[0].seed)
          process = context.Process(
            target=_train_group, args=(recipe, group, file, output_dir, log, num_threads)
          )
          process.start()
          running.append(process)
        time.sleep(_POLL_SECONDS)
        finished = {*done, *file.read()}
        bar.update(sum(training in finished for training in wanted) - bar.n)
        for process in [process for process in running if not process.is_alive()]:
          process.join()
          running.remove(process)
          if process.exitcode:
            raise UserError(_failure(process.exitcode, log))
    finally:
      for process in running:
        process.kill()
        process.join()


def _groups(
  missing: Sequence[Training], recipe_of: dict[str, TrainingRecipe]
) -> list[list[Training]]:
  """Returns the trainings in groups, one for each process: of one recipe and one seed."""
  groups: list[list[Training]] = []
  for training in missing:
    is_shared = recipe_of[training.recipe].search.proxy.mode == "shared"
    for group in groups:
      same = (group[0].recipe, group[0].seed) == (training.recipe, training.seed)
      if same and (is_shared or len(group) < _TRAININGS_PER_PROCESS):
        group.append(training)
        break
    else:
      groups.append([training])
  return groups


def _train_group(
  recipe: TrainingRecipe,
  group: Sequence[Training],
  file: TrainingsFile,
  output_dir: Path,
  log: Path,
  num_threads: int,
) -> None:
  """Does a group of trainings, in a child process; TensorFlow is imported here alone."""
  threading.Thread(target=_end_with_parent, daemon=True).start()
  for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(name, str(num_threads))
  use_onednn()
  # TensorFlow's C++ side writes to the descriptors, not to sys.stderr.
  descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
  os.dup2(descriptor, 1)
  os.dup2(descriptor, 2)

  seed = recipe.seed
  warm_dir = output_dir / "warm_state" / f"{recipe.digest}_seed_{seed}"
  evaluate = evaluation_by(recipe.search, recipe.dataset, warm_dir)
  for training in group:
    spec = recipe.search.space.decode(training.choices)
    directory = output_dir / "trainings" / recipe.role / f"{canonical_hash(spec)}_seed_{seed}"
    directory.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    try:
      ap = evaluate(spec, directory, NullProgress()).reward
    except TrialFailed as error:
      if not error.diverged:
        raise
      ap = 0.0
    file.add(training, Result(ap, time.monotonic() - start))
  # TensorFlow's threads may hold up an orderly exit, and everything is written.
  os._exit(0)


def _end_with_parent() -> None:
  parent = multiprocessing.parent_process()
  assert parent is not None
  parent.join()
  os._exit(1)


def _failure(code: int, log: Path) -> str:
  how = f"signal {-code}" if code < 0 else f"exit code {code}"
  return (
    f"A training ended early ({how}). Finished trainings are kept; the same command continues the "
    f"check. {end_of_log(log)}"
  )
