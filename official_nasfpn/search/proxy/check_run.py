"""Does the trainings of a proxy check in processes of their own."""

import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from official_nasfpn.architecture import canonical_hash
from official_nasfpn.errors import UserError
from official_nasfpn.progress import progress_bar
from official_nasfpn.search.proxy.check_trainings import Recipe, Result, Training, TrainingsFile
from official_nasfpn.search.workers.evaluation import NullProgress, TrialFailed

# TensorFlow keeps about 100 MB of every plain training; a process ends before that matters.
_TRAININGS_PER_PROCESS = 8
_POLL_SECONDS = 0.2


def train_missing(
  wanted: Sequence[Training],
  done: Sequence[Training],
  recipes: Sequence[Recipe],
  trainings_file: Path,
  output_dir: Path,
  num_workers: int,
) -> None:
  """Does the trainings that are not done yet, in order, and adds each to the file.

  Args:
    wanted: all trainings of the check.
    done: those that are done.
    recipes: that the trainings are of.
    trainings_file: is added to.
    output_dir: where trainings leave their logs and evaluations, and shared weights are kept.
    num_workers: processes that train at a time.

  Raises:
    UserError: a training failed for another reason than that its loss diverged.
  """
  missing = [training for training in wanted if training not in set(done)]
  recipe_of = {recipe.digest: recipe for recipe in recipes}
  chunks = _chunks(missing, recipe_of)
  log = output_dir / "trainings.log"
  # Not forked: TensorFlow's threads would be missing in the child.
  context = multiprocessing.get_context("spawn")
  os.environ |= _threads(num_workers)
  running: list[multiprocessing.Process] = []
  file = TrainingsFile(trainings_file, recipes[0].space)
  with progress_bar(len(wanted), "train", "training", initial=len(wanted) - len(missing)) as bar:
    try:
      while chunks or running:
        while chunks and len(running) < num_workers:
          chunk = chunks.pop(0)
          recipe = recipe_of[chunk[0].recipe].with_seed(chunk[0].seed)
          process = context.Process(
            target=_train_chunk, args=(recipe, chunk, trainings_file, output_dir, log)
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


def _chunks(missing: Sequence[Training], recipe_of: dict[str, Recipe]) -> list[list[Training]]:
  """Returns the trainings in groups, each for one process: of one recipe and one seed."""
  groups: list[list[Training]] = []
  for training in missing:
    is_shared = recipe_of[training.recipe].proxy.mode == "shared"
    for group in groups:
      same = (group[0].recipe, group[0].seed) == (training.recipe, training.seed)
      if same and (is_shared or len(group) < _TRAININGS_PER_PROCESS):
        group.append(training)
        break
    else:
      groups.append([training])
  return groups


def _threads(num_workers: int) -> dict[str, str]:
  threads = str(max(len(os.sched_getaffinity(0)) // num_workers, 1))
  return {
    "TF_NUM_INTRAOP_THREADS": os.environ.get("TF_NUM_INTRAOP_THREADS", threads),
    "TF_NUM_INTEROP_THREADS": os.environ.get("TF_NUM_INTEROP_THREADS", threads),
  }


def _train_chunk(
  recipe: Recipe,
  chunk: Sequence[Training],
  trainings_file: Path,
  output_dir: Path,
  log: Path,
) -> None:
  """What a child process does."""
  threading.Thread(target=_end_with_parent, daemon=True).start()
  # TensorFlow's C++ side writes to the descriptors, not to sys.stderr.
  descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
  os.dup2(descriptor, 1)
  os.dup2(descriptor, 2)
  from official_nasfpn.search.proxy.proxy_task import evaluation_by

  file = TrainingsFile(trainings_file, recipe.space)
  seed = chunk[0].seed
  warm_dir = output_dir / "warm_state" / f"{recipe.digest}_seed_{seed}"
  evaluate = evaluation_by(recipe.proxy, recipe.space, recipe.experiment, recipe.dataset, warm_dir)
  for training in chunk:
    spec = recipe.space.decode(training.choices)
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
  multiprocessing.parent_process().join()
  os._exit(1)


def _failure(code: int, log: Path) -> str:
  how = f"signal {-code}" if code < 0 else f"exit code {code}"
  lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
  shown = "\n".join(f"  {line}" for line in lines)
  return (
    f"A training ended early ({how}). What was finished is kept, and the same command goes on. The "
    f"end of {log}:\n{shown}"
  )
