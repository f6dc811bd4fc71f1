"""The settings of an architecture search, as recipes bind them (`Search.num_trials = 24`)."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from official_nasfpn.configuration import configurable, settings


@configurable("Search")
@settings
class SearchConfig:
  """What is searched with, and for how long.

  Attributes:
    algorithm: `ppo`, the paper's controller; `evolution`, regularised evolution (Real et al. 2019);
      or `random`, uniform sampling of the search space.
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
    learning_rate: of Adam (NASNet A.2).
    clip_ratio: PPO's epsilon (Schulman et al. 2017, equation 7 and table 3).
    epochs_per_update: gradient steps on one batch of trials. No NAS paper states its number; with
      the paper's learning rate, 10 keep the ratio within the clip range and learn about twice as
      fast as 4 (closed-form rewards on the paper's space).
    entropy_weight: of the entropy bonus (NASNet A.2).
    baseline_decay: the share of the old value that the moving average of rewards keeps at each
      trial (NASNet A.2).
    scale_advantages: divides the distance of a reward from the baseline by its moving root mean
      square, so that `entropy_weight` means the same for rewards of any size. NASNet does not.
    replay_best: so many of the best architectures so far are learnt from again at every update. The
      policy gradient of NASNet moves towards what is good on average; a search wants the best one.
    objective: of PPO. `decoupled` (Hilton et al. 2021) limits the step from the policy at the time
      of learning and weighs what an older policy has sampled, which matters when rewards arrive
      many updates late; `clipped` (Schulman et al. 2017) measures both from the policy that has
      sampled. They are the same where an update is learnt from before the next one is sampled.
    max_importance_weight: of a choice that is likelier now than when it was sampled (`decoupled`).
    hidden_units: of the controller's LSTM (NASNet A.2).
    cell: `lstm`, or `layer_norm_lstm` from tensorflow-addons.
    population_size: members of the population of `evolution`; 100 in the paper, of a search of
      20,000 trials.
    tournament_size: members of which the best becomes a parent; a quarter of the population there.
  """

  algorithm: Literal["ppo", "evolution", "random"] = "ppo"
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
  learning_rate: PositiveFloat = 0.00035
  clip_ratio: PositiveFloat = 0.2
  epochs_per_update: PositiveInt = 10
  entropy_weight: NonNegativeFloat = 0.00001
  baseline_decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
  scale_advantages: bool = False
  replay_best: NonNegativeInt = 0
  objective: Literal["decoupled", "clipped"] = "decoupled"
  max_importance_weight: PositiveFloat = 1.0
  hidden_units: PositiveInt = 100
  cell: Literal["lstm", "layer_norm_lstm"] = "lstm"
  population_size: PositiveInt = 40
  tournament_size: PositiveInt = 10

  def __post_init__(self):
    if 0 < self.trials_in_flight < self.trials_per_update:
      raise ValueError(
        f"trials_in_flight = {self.trials_in_flight} is less than trials_per_update = "
        f"{self.trials_per_update}, so that no update would ever be complete"
      )

  @property
  def max_in_flight(self) -> int:
    """Trials that may be proposed and not finished at a time."""
    return self.trials_in_flight or self.trials_per_update
