r"""The plain and the shared proxy in turn: trials per hour, and how well each tells a target.

    python -m benchmarks.cheap_proxy --gin_file gin/bccd_search.gin --data_dir DATA \
        --minutes 5 --trainings CHECK/trainings.jsonl --target_gin_param "Training.epochs = 30"

Each mode trains random architectures for so many minutes in a process of its own, that of a worker:
imports, the shared weights and the first trial's tracing count. With --trainings, the file of
`python -m official_nasfpn.proxy_check`, it adds the rank correlations to the target, of the
architectures that both modes and the target have there; what the checks took from a table of
rewards, --rewards gives again. No other work should run beside it.
"""

import dataclasses
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.proxy.check_architectures import read_rewards
from official_nasfpn.search.proxy.check_trainings import Recipe, TrainingsFile
from official_nasfpn.search.proxy.rank_correlation import kendall, spearman
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.workers.evaluation import NullProgress
from official_nasfpn.training.experiment import load_experiment, open_dataset

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


def _proxy_recipe(mode: str) -> Recipe:
  params = [*_GIN_PARAM.value, f"Input.data_dir = {_DATA_DIR.value!r}", f"Proxy.mode = {mode!r}"]
  recipe = read_recipe(_GIN_FILE.value, params)
  experiment, dataset = proxy_task.open_on_holdout(recipe.experiment)
  return Recipe("proxy", experiment, dataset, recipe.proxy, recipe.space)


def _target_recipe() -> Recipe:
  plain = _proxy_recipe("plain")
  params = [*_GIN_PARAM.value, f"Input.data_dir = {_DATA_DIR.value!r}", *_TARGET_GIN_PARAM.value]
  experiment, _ = open_dataset(load_experiment(_GIN_FILE.value, params))
  return dataclasses.replace(plain, role="target", experiment=experiment)


def _work(mode: str) -> None:
  """Trains for the wall time, from the start of this process, and says how many trials it did."""
  start, cpu_start = time.monotonic(), time.process_time()
  recipe = _proxy_recipe(mode)
  rng = random.Random(0)
  ends = []
  with tempfile.TemporaryDirectory() as folder:
    directory = Path(folder)
    evaluate = proxy_task.evaluation_by(
      recipe.proxy, recipe.space, recipe.experiment, recipe.dataset, directory / "warm_state"
    )
    while time.monotonic() - start < 60 * _MINUTES.value:
      evaluate(recipe.space.sample(rng), directory, NullProgress())
      ends.append((time.monotonic() - start, time.process_time() - cpu_start))
  wall, cpu = ends[-1]
  # After the first trial nothing is made any more that later ones do not make again.
  later_wall, later_cpu = ((ends[-1][i] - ends[0][i]) / max(len(ends) - 1, 1) for i in (0, 1))
  print(
    f"{mode}: {len(ends)} trials in {wall:.0f} s wall, {cpu:.0f} s of processors: "
    f"{3600 * len(ends) / wall:.0f} trials an hour, {3600 * len(ends) / cpu:.0f} a processor hour. "
    f"The first took {ends[0][0]:.1f} s wall, {ends[0][1]:.1f} s of processors; each later one "
    f"{later_wall:.1f} and {later_cpu:.1f}.",
    flush=True,
  )


def _print_correlations(path: Path) -> None:
  recipes = {mode: _proxy_recipe(mode) for mode in _MODES} | {"target": _target_recipe()}
  results = TrainingsFile(path, recipes["plain"].space).read()
  of_recipe = {}
  for name, recipe in recipes.items():
    # The first seed alone, which is what a search would have.
    seed, digest = recipe.experiment.training.seed, recipe.digest
    of_recipe[name] = {
      training.choices: result.ap
      for training, result in results.items()
      if (training.recipe, training.seed) == (digest, seed)
    }
  if _REWARDS.value:
    of_recipe["plain"] |= read_rewards(Path(_REWARDS.value), recipes["plain"].space)
  both = sorted(set.intersection(*(set(found) for found in of_recipe.values())))
  print(f"{len(both)} architectures with a target and a reward of both modes, first seed:")
  target = [of_recipe["target"][choices] for choices in both]
  for mode in _MODES:
    rewards = [of_recipe[mode][choices] for choices in both]
    print(f"  {mode}: Spearman {spearman(rewards, target).as_text()}")
    print(f"  {' ' * len(mode)}  Kendall {kendall(rewards, target).as_text()}")


if __name__ == "__main__":
  run_program(main)
