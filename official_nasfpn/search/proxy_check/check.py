"""Checks whether a search's proxy tells good architectures from bad ones.

recipe = read_recipe(["gin/bccd_search.gin"], ["Input.data_dir = 'data/mine'"])
longer = ["Input.data_dir = 'data/mine'", "Training.epochs = 30"]
report = check_proxy(recipe, load_experiment(["gin/bccd_search.gin"], longer), "runs/check")
print(report.as_text())
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from official_nasfpn.disk import FileLock, disk_errors
from official_nasfpn.errors import UserError
from official_nasfpn.progress import say
from official_nasfpn.search.proxy_check.architectures import choose_architectures, read_rewards
from official_nasfpn.search.proxy_check.processes import train_missing
from official_nasfpn.search.proxy_check.report import CheckReport, make_report, write_report
from official_nasfpn.search.proxy_check.trainings import (
  Result,
  Training,
  TrainingsFile,
  training_recipes,
  wanted_trainings,
)
from official_nasfpn.search.recipe import SearchRecipe
from official_nasfpn.training.experiment import Experiment


def check_proxy(
  recipe: SearchRecipe,
  target: Experiment,
  output_dir: str | Path,
  *,
  num_architectures: int = 20,
  num_seeds: int = 3,
  num_repeated: int | None = None,
  rewards: str | Path | None = None,
  trainings: str | Path | None = None,
  num_workers: int = 1,
) -> CheckReport:
  """Trains architectures on the proxy and on a longer target, and compares the two rankings.

  Trains in processes that `multiprocessing` spawns, which import the caller's script again: call
  this only where its `__name__` is `"__main__"`. The same call continues a check that was
  interrupted; `num_architectures` and `num_seeds` may then be larger.

  Args:
    recipe: the recipe of the search. Its algorithm and what it rewards do not matter: the check
      compares AP.
    target: what a training of the target is. Architecture and classes are filled in.
    output_dir: gets `summary.json`, `proxy_check.png`, logs and finished trainings.
    num_architectures: architectures to compare, at least 3: those of the catalogue that lie in the
      search space, then random ones.
    num_seeds: how often the proxy trains an architecture, each time with another seed. One seed
      tells nothing about the noise.
    num_repeated: how many architectures get all seeds, at least 2; the others get one. They are
      spread evenly over all. Default: every architecture.
    rewards: a CSV file of trials with the columns `reward` and `choices`, from a search with this
      recipe in plain mode and with its first seed. The architectures are then taken from it, spread
      over their rewards. In plain mode the rewards are taken, too, and not measured again, unless
      the recipe weighs them by a cost or stops trials early: a warning then says so.
    trainings: the file of finished trainings. Several checks may share one: a training with the
      same recipe, architecture and seed is not done twice. Default: `trainings.jsonl` in
      `output_dir`.
    num_workers: trainings at a time; they share the cores of this machine.

  Returns:
    The correlations, the noise, and the rewards and target AP of each architecture.

  Raises:
    UserError: an argument, the data or the table of trials is wrong, target and proxy are the same,
      a training failed, or another check adds to the same file of trainings. A training whose loss
      diverges does not fail: its AP counts as 0.
  """
  for name, value, least in (
    ("num_architectures", num_architectures, 3),
    ("num_seeds", num_seeds, 1),
    ("num_repeated", num_repeated, 2),
    ("num_workers", num_workers, 1),
  ):
    if value is not None and value < least:
      raise UserError(f"{name} is {value}; it must be at least {least}.")
  of_proxy, of_target = training_recipes(recipe, target)
  if of_proxy.digest == of_target.digest:
    raise UserError(
      "The target is the proxy itself. Give it a longer training, such as Training.epochs = 30 "
      "(--target_gin_param)."
    )
  recorded = read_rewards(Path(rewards), recipe.space) if rewards else {}
  architectures = choose_architectures(recipe.space, num_architectures, of_proxy.seed, recorded)
  count = min(num_repeated or len(architectures), len(architectures))
  repeated = [architectures[index * len(architectures) // count] for index in range(count)]
  wanted = wanted_trainings(of_proxy, of_target, architectures, repeated, num_seeds)
  why_not = _why_no_ap(recipe) if recorded else None
  if why_not:
    say(f"warning: {why_not}")
  known = {
    Training(of_proxy.digest, choices, of_proxy.seed): Result(reward)
    for choices, reward in recorded.items()
    if recipe.proxy.mode == "plain" and not why_not
  }

  output_dir = Path(output_dir)
  with disk_errors(output_dir, "Finished trainings are kept: make room and repeat the command."):
    output_dir.mkdir(parents=True, exist_ok=True)
    path = Path(trainings or output_dir / "trainings.jsonl")
    file = TrainingsFile(path, recipe.space)
    with _exclusive(path):
      file.mend()
      done = [*file.read(), *known]
      train_missing(wanted, done, (of_proxy, of_target), file, output_dir, num_workers)
      results = {**file.read(), **known}
    report = make_report(architectures, of_proxy, of_target, num_seeds, results)
    if why_not:
      report = dataclasses.replace(report, warnings=(*report.warnings, why_not))
    write_report(report, output_dir)
  return report


def _why_no_ap(recipe: SearchRecipe) -> str | None:
  """Returns what the rewards of a recipe's trials are instead of the AP of whole trainings."""
  if recipe.reward.cost != "none":
    what = f"are weighed by the cost, as Reward.cost = {recipe.reward.cost!r} says"
  elif recipe.search.early_stopping_quantile:
    what = (
      "may be of trials that stopped early, as Search.early_stopping_quantile = "
      f"{recipe.search.early_stopping_quantile:g} says"
    )
  else:
    return None
  return (
    f"the recorded rewards {what}, and not the AP of whole trainings: they choose the "
    "architectures, and the proxy trains all of them again"
  )


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
  """Keeps other checks away from a file of trainings."""
  lock = FileLock(path.with_name(f".{path.name}.lock"))
  if not lock.acquire():
    raise UserError(f"Another check, process {lock.holder()}, is adding to {path}.")
  try:
    yield
  finally:
    lock.release()
