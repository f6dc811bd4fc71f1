"""The settings of an architecture search, as recipes bind them (`Search.num_trials = 24`)."""

import dataclasses

from official_nasfpn.configuration import configurable

ALGORITHMS = ("ppo", "random")
CELLS = ("lstm", "layer_norm_lstm")


@configurable("Search")
@dataclasses.dataclass(frozen=True)
class SearchConfig:
  """What is searched with, and for how long.

  Attributes:
    algorithm: `ppo`, the paper's controller, or `random`, uniform sampling of the search space.
    num_trials: architectures to sample. May be raised later to continue a finished search.
    trials_per_update: architectures sampled together, evaluated in parallel and learnt from
      together; 20 in NASNet (Zoph et al. 2018, A.3).
    seed: of everything that is drawn.
    max_attempts: a trial whose worker dies is tried again until so many workers have died of it.
    lease_seconds: a worker that gives no sign of life for so long is held to be dead.
    trials_per_worker: a worker process is replaced by a fresh one after so many trials, which
      bounds what leaks in a long search; 0 keeps it to the end.
    learning_rate: of Adam (NASNet A.2).
    clip_ratio: PPO's epsilon (Schulman et al. 2017, equation 7 and table 3).
    epochs_per_update: gradient steps on one batch of trials. No NAS paper states its number; with
      the paper's learning rate, 10 keep the ratio within the clip range and learn about twice as
      fast as 4 (closed-form rewards on the paper's space).
    entropy_weight: of the entropy bonus (NASNet A.2).
    baseline_decay: the share of the old value that the moving average of rewards keeps at each
      trial (NASNet A.2).
    hidden_units: of the controller's LSTM (NASNet A.2).
    cell: `lstm`, or `layer_norm_lstm` from tensorflow-addons.
  """

  algorithm: str = "ppo"
  num_trials: int = 100
  trials_per_update: int = 20
  seed: int = 0
  max_attempts: int = 3
  lease_seconds: float = 120.0
  trials_per_worker: int = 0
  learning_rate: float = 0.00035
  clip_ratio: float = 0.2
  epochs_per_update: int = 10
  entropy_weight: float = 0.00001
  baseline_decay: float = 0.95
  hidden_units: int = 100
  cell: str = "lstm"

  def __post_init__(self):
    if self.algorithm not in ALGORITHMS:
      raise ValueError(f"algorithm must be one of {ALGORITHMS}, not {self.algorithm!r}.")
    if self.cell not in CELLS:
      raise ValueError(f"cell must be one of {CELLS}, not {self.cell!r}.")
    for name in ("num_trials", "trials_per_update", "max_attempts", "epochs_per_update"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
    for name in ("lease_seconds", "learning_rate", "clip_ratio", "hidden_units"):
      if getattr(self, name) <= 0:
        raise ValueError(f"{name} must be positive, not {getattr(self, name)}.")
    for name in ("seed", "trials_per_worker", "entropy_weight"):
      if getattr(self, name) < 0:
        raise ValueError(f"{name} must not be negative, not {getattr(self, name)}.")
    if not 0 <= self.baseline_decay < 1:
      raise ValueError(f"baseline_decay must be in [0, 1), not {self.baseline_decay}.")
