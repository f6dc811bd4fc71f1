"""The settings of PPO, the paper's algorithm, which `ppo_search` implements."""

import contextlib
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.configuration import configurable, settings
from official_nasfpn.search.algorithms.addons import require_addons
from official_nasfpn.search.algorithms.algorithm import SearchAlgorithm


@configurable("PPO")
@settings
class PPO:
  """A recurrent controller, trained by proximal policy optimization, as in the paper.

  With several `Search.objectives` every update learns from another trade-off between them, drawn at
  random, and advantages are relative to the update's own mean.

  Attributes:
    learning_rate: learning rate of Adam (NASNet A.2).
    clip_ratio: PPO's epsilon (Schulman et al. 2017, equation 7 and table 3).
    epochs_per_update: number of gradient steps on one batch of trials. No NAS paper states it. With
      the paper's learning rate, 10 steps keep the ratio within the clip range and learn about twice
      as fast as 4 (closed-form rewards on the paper's space).
    entropy_weight: weight of the entropy bonus (NASNet A.2).
    baseline_decay: decay of the moving average of rewards at each trial (NASNet A.2).
    scale_advantages: whether the distance of a reward from the baseline is divided by its moving
      root mean square, so that `entropy_weight` means the same for rewards of any size. NASNet does
      not do this.
    replay_best: number of the best architectures so far that every update learns from again. The
      policy gradient of NASNet improves the average reward; a search wants the best architecture.
    objective: `decoupled` (Hilton et al. 2021) limits a step relative to the policy at the time of
      learning, and weights choices that an older policy sampled; this matters if rewards arrive
      many updates late. `clipped` (Schulman et al. 2017) limits it relative to the policy that
      sampled. Both are the same if each update is learnt from before the next one is sampled.
    max_importance_weight: largest weight of a choice that is likelier now than when it was sampled
      (`decoupled` only).
    hidden_units: size of the hidden state of the controller's LSTM (NASNet A.2).
    cell: `lstm`, or `layer_norm_lstm` from tensorflow-addons.
  """

  takes_objectives: ClassVar[bool] = True

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

  def check(self) -> None:
    if self.cell == "layer_norm_lstm":
      require_addons()

  def make(self, space: SearchSpace, seed: int) -> SearchAlgorithm:
    # Importing TensorFlow takes seconds and hundreds of megabytes.
    import tensorflow as tf

    from official_nasfpn.search.algorithms.ppo_search import PPOSearch

    # The GPUs belong to the workers, and TensorFlow would take all of their memory.
    with contextlib.suppress(RuntimeError):  # This process already uses them.
      for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    # The network is too small for a GPU to help.
    with tf.device("CPU"):
      return PPOSearch(space, self, seed)
