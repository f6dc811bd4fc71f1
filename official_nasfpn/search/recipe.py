"""The recipe of a search: all of its settings, and which may change when a search is continued."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from official_nasfpn import configuration
from official_nasfpn.architecture import PyramidSpec, SearchSpace
from official_nasfpn.configuration import Stored, stored_bindings, stored_from
from official_nasfpn.errors import UserError
from official_nasfpn.search.config import MOVED, SearchConfig, first_architectures
from official_nasfpn.search.proxy.config import LatencyConfig, ProxyConfig
from official_nasfpn.search.proxy.reward import RewardConfig
from official_nasfpn.training.experiment import Experiment, read_with_experiment

_NUM_TRIALS = "Search.num_trials"
# Settings of how the work is done, not of what is computed.
_FREE = (
  *("Search.lease_seconds", "Search.max_attempts", "Search.trials_per_worker"),
  # A trial is the same, whether it is confirmed later or not.
  *("Search.confirm_top", "Search.confirm_seeds"),
)
# Names of algorithms in stored recipes, from before algorithms had settings of their own.
_FORMER_ALGORITHMS = {"ppo": "@PPO()", "evolution": "@Evolution()", "random": "@RandomSearch()"}
# A reference, so that a recipe which binds only `PPO.learning_rate` changes this algorithm.
_DEFAULTS = Stored("Search.algorithm = @PPO()", "the default")


@dataclasses.dataclass(frozen=True)
class SearchRecipe:
  """All settings of a search.

  Attributes:
    experiment: detector, data and training of a trial; each trial has its own architecture.
    proxy: how a trial is trained.
    reward: how the reward of a trial is computed.
    search: algorithm and number of trials.
    space: search space.
    latency: how latency is measured.
  """

  experiment: Experiment
  proxy: ProxyConfig
  reward: RewardConfig
  search: SearchConfig
  space: SearchSpace
  latency: LatencyConfig = dataclasses.field(default_factory=LatencyConfig)

  def __post_init__(self) -> None:
    if self.proxy.mode == "shared" and self.search.early_stopping_quantile:
      raise UserError(
        "Search.early_stopping_quantile stops trials of Proxy.mode = 'plain'; trials of 'shared' "
        "are too short for it. Leave one of the two out."
      )
    if len(self.search.objectives) > 1 and self.reward.cost != "none":
      raise UserError(
        f"Reward.cost = {self.reward.cost!r} weighs AP and cost in one reward, and "
        f"Search.objectives = {self.search.objectives!r} keeps them apart. Leave one of them out."
      )
    # What is wrong with a name is said now.
    count = len(first_architectures(self.search, self.space))
    if count > self.search.num_trials:
      raise UserError(
        f"Search.begin_with = {self.search.begin_with!r} makes {count} trials, more than "
        f"{_NUM_TRIALS} = {self.search.num_trials}: raise that"
        f"{', or give SearchSpace fewer sizes' if self.space.has_sizes else ''}."
      )

  def to_gin(self) -> str:
    """Returns every setting as gin text; `read_recipe` reads it back."""
    settings = configuration.to_gin(self.search, self.space)
    measuring = configuration.to_gin(self.proxy, self.reward, self.latency)
    return f"{settings}\n{self.experiment.to_gin()}\n{measuring}"

  @property
  def costs(self) -> frozenset[str]:
    """What a trial measures beside its AP, by the names of `objectives.OBJECTIVES`."""
    return frozenset({*self.search.objectives, self.reward.cost} - {"AP", "none"})

  @property
  def times_tensorflow(self) -> bool:
    """Whether workers time single images in TensorFlow, in the processes that train."""
    return "latency" in self.costs and self.latency.runtime == "tensorflow"

  @property
  def version(self) -> str:
    """Version of what the recipe computes, 12 hex digits; settings that may change are left out."""
    counting = [
      f"{key} = {value!r}\n"
      for key, value in sorted(self._bindings().items())
      if key not in (*_FREE, _NUM_TRIALS)
    ]
    return hashlib.sha256("".join(counting).encode()).hexdigest()[:12]

  def differences(self, other: "SearchRecipe") -> dict[str, tuple[object, object]]:
    """Returns the settings that differ from another recipe's: name to (own value, other value)."""
    here, there = self._bindings(), other._bindings()
    return {
      key: (here.get(key), there.get(key))
      for key in sorted(here.keys() | there.keys())
      if here.get(key) != there.get(key)
    }

  def continuing(self, started: "SearchRecipe") -> "SearchRecipe":
    """Returns a copy of the recipe with the numbers that 'auto' was when the search was started."""
    return dataclasses.replace(self, experiment=self.experiment.continuing(started.experiment))

  def with_architecture(self, spec: PyramidSpec) -> "SearchRecipe":
    """Returns a copy of the recipe with another pyramid, that of a trial."""
    return dataclasses.replace(self, experiment=self.experiment.with_architecture(spec))

  def _bindings(self) -> dict[str, object]:
    return stored_bindings(Stored(self.to_gin(), "the recipe"))


def read_recipe(
  gin_files: Sequence[str | Path | Stored] = (), gin_params: Sequence[str] = ()
) -> SearchRecipe:
  """Reads the recipe of a search.

  Args:
    gin_files: recipes, such as `gin/bccd_search.gin`, and stored recipes, also of earlier versions
      in which algorithms had no settings of their own.
    gin_params: single bindings, applied after the files, such as `Search.num_trials = 24`.

  Raises:
    UserError: a file, a name or a value is wrong, or a stored recipe does more than bind values.
  """
  current = [_current_spelling(file) if isinstance(file, Stored) else file for file in gin_files]
  classes = (ProxyConfig, RewardConfig, SearchConfig, SearchSpace, LatencyConfig)
  experiment, settings = read_with_experiment([_DEFAULTS, *current], gin_params, classes)
  return SearchRecipe(experiment, *settings)


def check_continues(there: SearchRecipe, recipe: SearchRecipe, place: str, flag: str) -> None:
  """Checks that a search may be continued with a recipe.

  The number of trials may be raised; settings of workers and of confirmations may change.

  Args:
    there: recipe of the existing search.
    recipe: recipe with which it would be continued.
    place: where the existing search is, for error messages.
    flag: flag that names this place.

  Raises:
    UserError: the recipes are those of two different searches; the message names what differs.
  """
  free = (*_FREE, _NUM_TRIALS) if there.search.num_trials <= recipe.search.num_trials else _FREE
  differing = [
    f"  {key}: {_shown(old)} there, {_shown(new)} now"
    for key, (old, new) in there.differences(recipe).items()
    if key not in free
  ]
  if differing:
    raise UserError(
      f"{place} holds a search with another recipe; choose another {flag}, or "
      f"continue that one ({_NUM_TRIALS} may be raised). What differs:\n" + "\n".join(differing)
    )


def _shown(value: object) -> object:
  return "(none)" if value is None else value


def _current_spelling(stored: Stored) -> Stored:
  """Returns a stored recipe with the current names of its settings."""
  bindings = stored_bindings(stored)
  algorithm = bindings.get("Search.algorithm")
  if algorithm not in _FORMER_ALGORITHMS:
    return stored
  bindings["Search.algorithm"] = _FORMER_ALGORITHMS[algorithm]
  current = {
    MOVED.get(key.removeprefix("Search."), key) if key.startswith("Search.") else key: value
    for key, value in bindings.items()
  }
  return stored_from(current, stored.where)
