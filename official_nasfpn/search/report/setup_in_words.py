"""What a search trains and rewards, in words."""

import math
from collections.abc import Iterator, Sequence

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.search.objectives import OBJECTIVES
from official_nasfpn.search.recipe import SearchRecipe


def reward_in_words(recipe: SearchRecipe) -> str:
  """Returns what the reward of a trial is, as a sentence."""
  definition = (
    "The reward of a trial is the AP (as COCO counts it, from 0 to 1) of its briefly trained "
    "detector on the dataset's part holdout: images of the training set that no trial trains on"
  )
  reward = recipe.reward
  objectives = [OBJECTIVES[name].label for name in recipe.search.objectives]
  if len(objectives) > 1:
    return (
      f"{definition}. The search aims at the front of {', '.join(objectives[:-1])} and "
      f"{objectives[-1]}: at what no other architecture beats in all of them."
    )
  if reward.cost == "none":
    return f"{definition}."
  unit = {"latency": "ms"}.get(reward.cost, "multiply-adds")
  return (
    f"{definition}, times (cost / {reward.target:,} {unit}) to the power of "
    f"{reward.exponent_within} for what costs at most that, and of {reward.exponent_beyond} for "
    "what costs more."
  )


def facts(recipe: SearchRecipe) -> Iterator[tuple[str, str]]:
  """Yields name and text of what a reader must know to judge a search."""
  detector, training = recipe.experiment.detector, recipe.experiment.training
  if recipe.experiment.input.data_dir:
    yield "dataset", recipe.experiment.input.data_dir
  width = f" x {detector.backbone_width:g}" if detector.backbone_width != 1 else ""
  repeats = _any_of(recipe.space.num_repeats or (detector.num_repeats,))
  filters = _any_of(recipe.space.num_filters or (detector.num_filters,))
  yield "detector", f"{detector.backbone}{width}, {repeats} @ {filters}"
  yield "image", f"{' x '.join(map(str, detector.image_size))} pixels"
  if recipe.proxy.mode == "shared":
    yield "a trial", f"{recipe.proxy.epochs:g} epochs from weights that all trials share"
  else:
    yield "a trial", f"{training.epochs:g} epochs in batches of {training.batch_size}"
  yield "algorithm", recipe.search.algorithm_name
  yield "seed", str(recipe.search.seed)


def _any_of(numbers: Sequence[int]) -> str:
  *first, last = map(str, numbers)
  return f"{', '.join(first)} or {last}" if first else last


def largest_entropy(space: SearchSpace) -> float:
  """Returns the mean entropy of a decision, in nats, when every valid choice is equally likely.

  The number of valid choices of a decision does not depend on the choices before it.
  """
  return math.log(space.size) / len(space.decisions)
