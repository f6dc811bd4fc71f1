r"""Checks whether a search's proxy tells good architectures from bad ones.

    nasfpn proxy_check --gin_file gin/bccd_search.gin \
        --target_gin_param "Training.epochs = 30" --data_dir DATA --output_dir CHECK

Trains architectures on the proxy, with several seeds, and on a longer target; prints how well the
proxy's ranking tells the target's, and how much of a reward is noise. The same command goes on
where an interrupted one stopped; --num_architectures and --num_seeds may be raised.
"""

import dataclasses
from pathlib import Path

from absl import flags

from official_nasfpn.disk import FileLock, disk_errors
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.proxy.check_architectures import choose_architectures, read_rewards
from official_nasfpn.search.proxy.check_report import make_report, write_report
from official_nasfpn.search.proxy.check_run import train_missing
from official_nasfpn.search.proxy.check_trainings import (
  Recipe,
  Result,
  Training,
  TrainingsFile,
  wanted_trainings,
)
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.training.experiment import load_experiment, open_dataset

_GIN_FILE = flags.DEFINE_multi_string(
  "gin_file", None, "The search's recipe; may be given several times.", required=True
)
_GIN_PARAM = flags.DEFINE_multi_string(
  "gin_param", [], "A single binding, such as Proxy.mode='shared'; may be given several times."
)
_TARGET_GIN_FILE = flags.DEFINE_multi_string(
  "target_gin_file", [], "What the target has on top of the search's recipe."
)
_TARGET_GIN_PARAM = flags.DEFINE_multi_string(
  "target_gin_param", [], "A single binding of the target, such as Training.epochs=30."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Made by prepare_data; sets Input.data_dir.")
_OUTPUT_DIR = flags.DEFINE_string(
  "output_dir", None, "Where figures, logs and finished trainings are kept.", required=True
)
_NUM_ARCHITECTURES = flags.DEFINE_integer(
  "num_architectures",
  20,
  "Those of the catalogue that lie in the search space, then random ones of it.",
  lower_bound=3,
)
_NUM_SEEDS = flags.DEFINE_integer(
  "num_seeds", 3, "Trainings of an architecture on the proxy: its noise.", lower_bound=1
)
_NUM_REPEATED = flags.DEFINE_integer(
  "num_repeated",
  None,
  "Architectures that get all seeds, spread over them; the others get one. Default: all.",
  lower_bound=2,
)
_REWARDS = flags.DEFINE_string(
  "rewards",
  None,
  "Table of trials (CSV with columns reward and choices) of this recipe, trained in plain mode and "
  "with its first seed. Architectures are then taken from there, spread over their rewards, and in "
  "plain mode the rewards too.",
)
_TRAININGS = flags.DEFINE_string(
  "trainings",
  None,
  "File of finished trainings, to be shared with other checks: what one of them has trained by the "
  "same recipe is not trained again. Default: trainings.jsonl in --output_dir.",
)
_NUM_WORKERS = flags.DEFINE_integer(
  "num_workers", 1, "Trainings at a time, which share this machine's cores.", lower_bound=1
)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  proxy, target = _recipes()
  if proxy.digest == target.digest:
    raise UserError(
      "The target is the proxy itself. Say what it has more of, such as --target_gin_param "
      '"Training.epochs = 30".'
    )
  recorded = read_rewards(Path(_REWARDS.value), proxy.space) if _REWARDS.value else {}
  architectures = choose_architectures(
    proxy.space, _NUM_ARCHITECTURES.value, proxy.experiment.training.seed, recorded
  )
  count = min(_NUM_REPEATED.value or len(architectures), len(architectures))
  repeated = [architectures[index * len(architectures) // count] for index in range(count)]
  wanted = wanted_trainings(proxy, target, architectures, repeated, _NUM_SEEDS.value)
  first = proxy.experiment.training.seed
  rewards = recorded if proxy.proxy.mode == "plain" else {}
  known = {
    Training(proxy.digest, choices, first): Result(reward) for choices, reward in rewards.items()
  }

  output_dir = Path(_OUTPUT_DIR.value)
  advice = "What was finished is kept: make room, and the same command goes on."
  with disk_errors(output_dir, advice):
    output_dir.mkdir(parents=True, exist_ok=True)
    trainings_path = Path(_TRAININGS.value or output_dir / "trainings.jsonl")
    lock = FileLock(trainings_path.with_name(f".{trainings_path.name}.lock"))
    if not lock.acquire():
      raise UserError(f"Another check, process {lock.holder()}, is adding to {trainings_path}.")
    file = TrainingsFile(trainings_path, proxy.space)
    file.mend()
    train_missing(
      wanted,
      [*file.read(), *known],
      (proxy, target),
      trainings_path,
      output_dir,
      _NUM_WORKERS.value,
    )
    results = {**file.read(), **known}
    lock.release()
    report = make_report(architectures, proxy, target, _NUM_SEEDS.value, results)
    write_report(report, output_dir)
  print(report.as_text())


def _recipes() -> tuple[Recipe, Recipe]:
  """Returns the recipes of proxy and target."""
  params = [*_GIN_PARAM.value]
  if _DATA_DIR.value:
    params.append(f"Input.data_dir = {str(Path(_DATA_DIR.value).resolve())!r}")
  recipe = read_recipe(_GIN_FILE.value, params)
  experiment, dataset = proxy_task.open_on_holdout(recipe.experiment)
  proxy = Recipe("proxy", experiment, dataset, recipe.proxy, recipe.space)
  target_experiment, _ = open_dataset(
    load_experiment(
      [*_GIN_FILE.value, *_TARGET_GIN_FILE.value], [*params, *_TARGET_GIN_PARAM.value]
    )
  )
  plain = dataclasses.replace(proxy.proxy, mode="plain")
  return proxy, Recipe("target", target_experiment, dataset, plain, recipe.space)


if __name__ == "__main__":
  run_program(main)
