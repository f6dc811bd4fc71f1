r"""Compares the plain and the shared proxy: trials per hour, and how well each predicts a target.

    python -m benchmarks.cheap_proxy --gin_file gin/bccd_search.gin --data_dir DATA \
        --minutes 5 --trainings CHECK/trainings.jsonl --target_gin_param "Training.epochs = 30"

Each mode trains random architectures for --minutes in a process of its own, like a worker: the
import of TensorFlow, the making of shared weights and the first trial's tracing count; the imports
of this file, a few seconds before, do not. With --trainings, the file of `nasfpn proxy_check`, it
adds rank correlations to the target, over the architectures that both modes and the target have
trained. If the checks took rewards from a table, give it here, too, with --rewards. Nothing else
should run on the machine at the same time.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.proxy_check.architectures import read_rewards
from official_nasfpn.search.proxy_check.rank_correlation import kendall, spearman
from official_nasfpn.search.proxy_check.trainings import (
  TrainingRecipe,
  TrainingsFile,
  training_recipes,
)
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.workers.evaluation import NullProgress
from official_nasfpn.training.experiment import load_experiment

_GIN_FILE = flags.DEFINE_multi_string("gin_file", None, "The search's recipe.", required=True)
_GIN_PARAM = flags.DEFINE_multi_string("gin_param", [], "A single binding.")
_TARGET_GIN_PARAM = flags.DEFINE_multi_string("target_gin_param", [], "A binding of the target.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Made by prepare_data.", required=True)
_MINUTES = flags.DEFINE_float("minutes", 5.0, "Wall time of each mode.", lower_bound=0)
_TRAININGS = flags.DEFINE_string("trainings", None, "Of proxy checks in both modes.")
_REWARDS = flags.DEFINE_string(
  "rewards", None, "Table of trials of the plain proxy with its first seed, as a check takes it."
)
_WORK_AS = flags.DEFINE_enum("work_as", None, ["plain", "shared"], "Used by the benchmark itself.")

_MODES = ("plain", "shared")


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  if _WORK_AS.value:
    _work(_WORK_AS.value)
    return
  if _MINUTES.value:
    for mode in _MODES:
      subprocess.run(
        [sys.executable, "-m", "benchmarks.cheap_proxy", *sys.argv[1:], f"--work_as={mode}"],
        check=True,
      )
  if _TRAININGS.value:
    _print_correlations(Path(_TRAININGS.value))


def _recipes(mode: str) -> tuple[TrainingRecipe, TrainingRecipe]:
  """Returns how the proxy of a mode trains, and how the target does."""
  params = [*_GIN_PARAM.value, f"Input.data_dir = {_DATA_DIR.value!r}"]
  return training_recipes(
    read_recipe(_GIN_FILE.value, [*params, f"Proxy.mode = {mode!r}"]),
    load_experiment(_GIN_FILE.value, [*params, *_TARGET_GIN_PARAM.value]),
  )


def _work(mode: str) -> None:
  """Trains for --minutes, with the import of TensorFlow; prints the number of trials."""
  start, cpu_start = time.monotonic(), time.process_time()
  recipe, _ = _recipes(mode)
  rng = random.Random(0)
  ends = []
  with tempfile.TemporaryDirectory() as folder:
    directory = Path(folder)
    evaluate = proxy_task.evaluation_by(recipe.search, recipe.dataset, directory / "warm_state")
    while time.monotonic() - start < 60 * _MINUTES.value:
      evaluate(recipe.search.space.sample(rng), directory, NullProgress())
      ends.append((time.monotonic() - start, time.process_time() - cpu_start))
  wall, cpu = ends[-1]
  # The first trial alone makes what all share; every later one does the same work.
  later_wall, later_cpu = ((ends[-1][i] - ends[0][i]) / max(len(ends) - 1, 1) for i in (0, 1))
  print(
    f"{mode}: {len(ends)} trials in {wall:.0f} s wall, {cpu:.0f} s of processors: "
    f"{3600 * len(ends) / wall:.0f} trials an hour, {3600 * len(ends) / cpu:.0f} a processor hour. "
    f"The first took {ends[0][0]:.1f} s wall, {ends[0][1]:.1f} s of processors; each later one "
    f"{later_wall:.1f} and {later_cpu:.1f}.",
    flush=True,
  )


def _print_correlations(path: Path) -> None:
  plain, target_recipe = _recipes("plain")
  shared, _ = _recipes("shared")
  space = plain.search.space
  results = TrainingsFile(path, space).read()
  of_recipe = {}
  for name, recipe in {"plain": plain, "shared": shared, "target": target_recipe}.items():
    # The first seed only: a search trains an architecture once.
    of_recipe[name] = {
      training.choices: result.ap
      for training, result in results.items()
      if (training.recipe, training.seed) == (recipe.digest, recipe.seed)
    }
  if _REWARDS.value:
    of_recipe["plain"] |= read_rewards(Path(_REWARDS.value), space)
  both = sorted(set.intersection(*(set(found) for found in of_recipe.values())))
  print(f"{len(both)} architectures with a target and a reward of both modes, first seed:")
  target = [of_recipe["target"][choices] for choices in both]
  for mode in _MODES:
    rewards = [of_recipe[mode][choices] for choices in both]
    print(f"  {mode}: Spearman {spearman(rewards, target).as_text()}")
    print(f"  {' ' * len(mode)}  Kendall {kendall(rewards, target).as_text()}")


if __name__ == "__main__":
  run_program(main)
