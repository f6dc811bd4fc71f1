"""The settings of an architecture search, as recipes bind them (`Search.num_trials = 24`)."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, SkipValidation

from official_nasfpn.configuration import configurable, configured_name, settings
from official_nasfpn.search.algorithms.algorithm import AlgorithmSettings
from official_nasfpn.search.algorithms.algorithms import ALGORITHMS, Algorithm
from official_nasfpn.search.algorithms.ppo import PPO

# Settings of algorithms were settings of the search once.
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
  """What is searched with, and for how long.

  Attributes:
    algorithm: `@PPO()`, the paper's controller; `@Evolution()`, regularised evolution (Real et al.
      2019); or `@RandomSearch()`, uniform sampling of the search space. Each has settings of its
      own, such as `PPO.learning_rate`.
    num_trials: architectures to sample. May be raised later to continue a finished search.
    trials_per_update: architectures sampled together, evaluated in parallel and learnt from
      together; 20 in NASNet (Zoph et al. 2018, A.3).
    trials_in_flight: architectures that may be proposed and not finished at a time; 0 stands for
      `trials_per_update`: then the controller has learnt from everything when it proposes, one seed
      fixes the whole search, and a pool of more workers waits. With more of them the pool stays
      busy: whichever `trials_per_update` trials finish next are learnt from, and what is proposed
      is somewhat older, as in the paper's search on 100 TPUs.
    seed: of everything that is drawn.
    max_attempts: a trial whose worker dies is tried again until so many workers have died of it.
    lease_seconds: a worker that gives no sign of life for so long is held to be dead.
    trials_per_worker: a worker process is replaced by a fresh one after so many trials, which
      bounds what leaks in a long search; 0 keeps it to the end.
    early_stopping_quantile: a trial stops when at one of `early_stopping_shares` its AP is below
      this quantile of what others had there: 0.5 is the median rule, 0 stops none.
    early_stopping_shares: of a trial's training, in (0, 1), at which it is evaluated and compared.
    early_stopping_min_trials: that others have been there, before any is stopped.
  """

  algorithm: SkipValidation[Algorithm] = PPO()
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

  def __post_init__(self) -> None:
    if isinstance(self.algorithm, type) or not isinstance(self.algorithm, AlgorithmSettings):
      known = [f"@{cls.__name__}()" for cls in ALGORITHMS]
      value = f"@{self.algorithm.__name__}" if callable(self.algorithm) else repr(self.algorithm)
      raise ValueError(
        f"algorithm = {value} is no search algorithm: write {', '.join(known[:-1])} or "
        f"{known[-1]}, without quotation marks"
      )
    if 0 < self.trials_in_flight < self.trials_per_update:
      raise ValueError(
        f"trials_in_flight = {self.trials_in_flight} is less than trials_per_update = "
        f"{self.trials_per_update}, so that no update would ever be complete"
      )

  @property
  def algorithm_name(self) -> str:
    """The name of the algorithm in recipes, such as `PPO`."""
    return configured_name(type(self.algorithm))

  @property
  def max_in_flight(self) -> int:
    """Trials that may be proposed and not finished at a time."""
    return self.trials_in_flight or self.trials_per_update
