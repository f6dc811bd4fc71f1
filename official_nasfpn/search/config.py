"""The settings of an architecture search, as recipes bind them (`Search.num_trials = 24`)."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, SkipValidation

from official_nasfpn.architecture import PyramidSpec, SearchSpace, architecture_by_name
from official_nasfpn.configuration import configurable, configured_name, settings
from official_nasfpn.errors import UserError
from official_nasfpn.search.algorithms.algorithm import AlgorithmSettings
from official_nasfpn.search.algorithms.algorithms import ALGORITHMS, Algorithm
from official_nasfpn.search.algorithms.ppo import PPO

# In earlier versions, settings of algorithms were settings of the search.
MOVED = {
  **{
    name: f"PPO.{name}"
    for name in (
      "learning_rate",
      "clip_ratio",
      "epochs_per_update",
      "entropy_weight",
      "baseline_decay",
      "scale_advantages",
      "replay_best",
      "objective",
      "max_importance_weight",
      "hidden_units",
      "cell",
    )
  },
  "population_size": "Evolution.population_size",
  "tournament_size": "Evolution.tournament_size",
}


@configurable("Search", moved=MOVED)
@settings
class SearchConfig:
  """The algorithm, the length and the workers of a search.

  Attributes:
    algorithm: `@PPO()`, the paper's controller; `@Evolution()`, regularised evolution (Real et al.
      2019); or `@RandomSearch()`, uniform sampling of the search space. Each has settings of its
      own, such as `PPO.learning_rate`.
    objectives: what the search aims at. With `('AP',)` it is the reward alone. With several, such
      as `('AP', 'latency')`, it is their front: the architectures that no other beats in all of
      them; `multiply_adds`, `parameters` and `file_size` are the others. The cost is that of the
      whole detector for one image, and `Latency.runtime` says where it is measured.
    begin_with: names of catalogued pyramids, such as `('nas_fpn',)`, that are the first trials. The
      search learns from them as from its own, and finds nothing worse than the best of them; PPO
      takes them as drawn uniformly, as its controller nearly does at the start. In a search space
      with sizes each is tried at every size: what scaling by hand gives.
    num_trials: number of architectures to sample. It may be raised later to continue a finished
      search.
    trials_per_update: number of architectures that are sampled together, evaluated in parallel and
      learnt from together; 20 in NASNet (Zoph et al. 2018, A.3).
    trials_in_flight: largest number of trials that are proposed and not finished; 0 means
      `trials_per_update`. With 0 the controller learns from every trial before it proposes the next
      update, so one seed fixes the whole search, but workers beyond `trials_per_update` wait. A
      larger number keeps a large pool busy: the controller learns from the next `trials_per_update`
      trials that finish, so the policy that proposed them is somewhat older, as in the paper's
      search on 100 TPUs.
    seed: seeds all random draws of the search.
    max_attempts: a trial fails when this many workers have died while they ran it; until then it is
      tried again. A worker that is stopped by SIGTERM or Ctrl-C does not count. If the number is
      raised when a search is continued, trials that had failed so are tried again.
    lease_seconds: seconds without a heartbeat after which a worker is considered dead.
    trials_per_worker: number of trials after which a worker process is replaced by a fresh one,
      which bounds memory leaks in a long search; 0 keeps the process to the end.
    early_stopping_quantile: a trial stops if its AP at one of `early_stopping_shares` is below this
      quantile of the other trials' AP at the same share. 0.5 is the median rule, 0 stops no trial.
    early_stopping_shares: shares of a trial's training, in (0, 1), at which it is evaluated and
      compared.
    early_stopping_min_trials: number of other trials that must have reached a share before any
      trial is stopped there.
    confirm_top: number of architectures with the greatest rewards that are trained again at the end
      of the search, because the greatest of many noisy rewards is partly luck. Their mean over all
      seeds then decides which is the best. 0 confirms none. It may be changed when a search is
      continued.
    confirm_seeds: number of further trainings of each of them, with `Training.seed` + 1, + 2 and so
      on. From 2 on, they measure the noise of a reward too. On the shared proxy the seed is that of
      the pyramid and of the images' order; backbone and heads stay those that all trials share.
  """

  algorithm: SkipValidation[Algorithm] = PPO()
  objectives: tuple[Literal["AP", "latency", "multiply_adds", "parameters", "file_size"], ...] = (
    "AP",
  )
  begin_with: tuple[str, ...] = ()
  num_trials: PositiveInt = 100
  trials_per_update: PositiveInt = 20
  trials_in_flight: NonNegativeInt = 0
  seed: NonNegativeInt = 0
  max_attempts: PositiveInt = 3
  lease_seconds: PositiveFloat = 120.0
  trials_per_worker: NonNegativeInt = 0
  early_stopping_quantile: Annotated[float, Field(ge=0, lt=1)] = 0.0
  early_stopping_shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.34, 0.67)
  early_stopping_min_trials: PositiveInt = 10
  confirm_top: NonNegativeInt = 0
  confirm_seeds: NonNegativeInt = 2

  def __post_init__(self) -> None:
    if isinstance(self.algorithm, type) or not isinstance(self.algorithm, AlgorithmSettings):
      known = [f"@{cls.__name__}()" for cls in ALGORITHMS]
      value = f"@{self.algorithm.__name__}" if callable(self.algorithm) else repr(self.algorithm)
      raise ValueError(
        f"algorithm = {value} is no search algorithm: write {', '.join(known[:-1])} or "
        f"{known[-1]}, without quotation marks"
      )
    self._check_objectives()
    if 0 < self.trials_in_flight < self.trials_per_update:
      raise ValueError(
        f"trials_in_flight = {self.trials_in_flight} is less than trials_per_update = "
        f"{self.trials_per_update}, so no update would ever be complete"
      )
    if self.confirm_top and not self.confirm_seeds:
      raise ValueError(
        f"confirm_top = {self.confirm_top} with confirm_seeds = 0 would train nothing again: set "
        "confirm_seeds to 1 or more, or confirm_top to 0"
      )

  def _check_objectives(self) -> None:
    given = f"objectives = {self.objectives!r}"
    if "AP" not in self.objectives:
      raise ValueError(
        f"{given} has no 'AP': without it nothing would speak against the cheapest pyramid. Add it"
      )
    if len({*self.objectives}) < len(self.objectives):
      raise ValueError(f"{given} names one of them twice. Leave it out")
    if len(self.objectives) == 1:
      return
    if self.confirm_top:
      raise ValueError(
        f"{given} with confirm_top = {self.confirm_top}: only the greatest rewards are confirmed, "
        "not a front; set confirm_top to 0"
      )
    if not getattr(self.algorithm, "takes_objectives", False):
      raise ValueError(
        f"{given}, but @{self.algorithm_name}() learns from one reward alone: write "
        "Search.algorithm = @Evolution(), which keeps the front of its population, or @PPO()"
      )
    if self.early_stopping_quantile:
      raise ValueError(
        f"{given}, but early_stopping_quantile = {self.early_stopping_quantile:g} would stop "
        "trials of low AP, which are the cheap end of the front. Leave one of the two out"
      )

  @property
  def algorithm_name(self) -> str:
    """Name of the algorithm in recipes, such as `PPO`."""
    return configured_name(type(self.algorithm))

  @property
  def max_in_flight(self) -> int:
    """Largest number of trials that are proposed and not finished."""
    return self.trials_in_flight or self.trials_per_update


def first_architectures(config: SearchConfig, space: SearchSpace) -> list[PyramidSpec]:
  """Returns the pyramids that a search begins with.

  Args:
    config: names them, `begin_with`.
    space: the search space, which must hold them.

  Raises:
    UserError: there is no such pyramid, or it is not in the space.
  """
  specs = []
  for name in config.begin_with:
    spec = architecture_by_name(name)
    try:
      if not isinstance(spec, PyramidSpec):
        raise ValueError("it is drawn by hand and has no cells")
      sized = space.at_every_size(spec)
      space.encode(sized[0])
    except ValueError as error:
      raise UserError(
        f"Search.begin_with has {name!r}, which cannot be a trial: {error}. Leave it out, or "
        "change the SearchSpace."
      ) from error
    specs += sized
  return specs
