"""What a search trains and rewards, in words; the one place of the report that reads a recipe."""

import dataclasses
import math
from collections.abc import Iterator, Mapping

from official_nasfpn import configuration
from official_nasfpn.architecture import SearchSpace


@dataclasses.dataclass(frozen=True)
class SearchSetup:
  """What the recipe of a search says. What it does not say is None.

  Attributes:
    algorithm: that proposes architectures.
    num_trials: that shall be sampled.
    space: that they are of.
    num_filters: the width of a pyramid.
    image_size: height and width in pixels.
    separable: whether a pyramid's convolutions are separable.
    epochs: of a plain trial.
    proxy_mode: `plain` or `shared`.
    reward: what the reward of a trial is, a sentence.
    facts: what else matters, names and texts.
  """

  algorithm: str
  num_trials: int
  space: SearchSpace
  num_filters: int | None
  image_size: tuple[int, int] | None
  separable: bool
  epochs: float | None
  proxy_mode: str
  reward: str
  facts: tuple[tuple[str, str], ...]


def read_setup(recipe: Mapping[str, object]) -> SearchSetup:
  """Returns what a recipe says.

  Args:
    recipe: its bindings, such as `{"Search.num_trials": 20}`.

  Raises:
    UserError: the search space in it is none.
  """
  space = {
    key.removeprefix("SearchSpace."): value
    for key, value in recipe.items()
    if key.startswith("SearchSpace.")
  }
  return SearchSetup(
    algorithm=str(recipe["Search.algorithm"]),
    num_trials=int(recipe["Search.num_trials"]),
    space=configuration.build(SearchSpace, **space),
    num_filters=recipe.get("Detector.num_filters"),
    image_size=recipe.get("Detector.image_size"),
    separable=bool(recipe.get("Detector.separable_convolutions")),
    epochs=recipe.get("Training.epochs"),
    proxy_mode=str(recipe.get("Proxy.mode", "plain")),
    reward=_reward(recipe),
    facts=tuple(_facts(recipe)),
  )


def largest_entropy(space: SearchSpace) -> float:
  """Returns the mean entropy of a decision, in nats, when every valid choice is equally likely.

  The number of valid choices of a decision does not depend on the choices before it.
  """
  return math.log(space.size) / len(space.decisions)


def _reward(recipe: Mapping[str, object]) -> str:
  definition = (
    "The reward of a trial is the AP (as COCO counts it, from 0 to 1) of its briefly trained "
    "detector on the dataset's part holdout: images of the training set that no trial trains on"
  )
  cost, target = recipe.get("Reward.cost", "none"), recipe.get("Reward.target")
  if cost == "none":
    return f"{definition}."
  unit = {"latency": "ms"}.get(cost, "multiply-adds")
  within, beyond = (recipe.get(f"Reward.exponent_{side}") for side in ("within", "beyond"))
  return (
    f"{definition}, times (cost / {target:,} {unit}) to the power of {within} for what costs at "
    f"most that, and of {beyond} for what costs more."
  )


def _facts(recipe: Mapping[str, object]) -> Iterator[tuple[str, str]]:
  """Yields name and text of what a reader must know to judge a search."""

  def said(*keys: str) -> bool:
    return all(recipe.get(key) is not None for key in keys)

  if said("Input.data_dir"):
    yield "dataset", str(recipe["Input.data_dir"])
  if said("Detector.backbone", "Detector.num_repeats", "Detector.num_filters"):
    width = recipe.get("Detector.backbone_width", 1)
    backbone = f"{recipe['Detector.backbone']}{'' if width == 1 else f' x {width}'}"
    repeats, filters = recipe["Detector.num_repeats"], recipe["Detector.num_filters"]
    yield "detector", f"{backbone}, {repeats} @ {filters}"
  if said("Detector.image_size"):
    yield "image", f"{' x '.join(map(str, recipe['Detector.image_size']))} pixels"
  if recipe.get("Proxy.mode") == "shared":
    yield "a trial", f"{recipe.get('Proxy.epochs'):g} epochs from weights that all trials share"
  elif said("Training.epochs", "Training.batch_size"):
    yield (
      "a trial",
      f"{recipe['Training.epochs']:g} epochs in batches of {recipe['Training.batch_size']}",
    )
  yield "algorithm", str(recipe["Search.algorithm"])
  if said("Search.seed"):
    yield "seed", str(recipe["Search.seed"])
