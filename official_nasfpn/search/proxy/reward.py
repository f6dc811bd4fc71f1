"""The reward of a trial, from the AP and the cost of its detector.

The paper rewards the AP alone. With a cost the reward is that of MnasNet (Tan et al. 2019, section
3.1, equations 2 and 3): AP x (cost / target)^w.
"""

from typing import Literal

from pydantic import PositiveFloat

from official_nasfpn.configuration import configurable, settings


@configurable("Reward")
@settings
class RewardConfig:
  """What a trial is rewarded for: AP x (cost / target)^w, or the AP alone.

  Attributes:
    cost: `none` rewards the AP alone; `multiply_adds` and `latency` weigh it by the cost of the
      whole detector for one image.
    target: the cost to aim at, in multiply-adds, or in milliseconds on a worker's machine.
    exponent_within: w of detectors that cost at most the target.
    exponent_beyond: w of the others. In MnasNet both are -0.07: 5 % more accuracy is worth twice
      the latency. With 0 and -1 the target is a limit (Figure 3 there). MnasFPN has -0.3.
  """

  cost: Literal["none", "multiply_adds", "latency"] = "none"
  target: PositiveFloat | None = None
  exponent_within: float = -0.07
  exponent_beyond: float = -0.07

  def __post_init__(self):
    if (self.cost == "none") != (self.target is None):
      raise ValueError(
        f"cost = {self.cost!r} and target = {self.target}: a cost needs a target, in multiply-adds "
        "or milliseconds, and a target a cost; leave both out to reward the AP alone"
      )
    if max(self.exponent_within, self.exponent_beyond) > 0:
      raise ValueError("the exponents are at most 0: a positive one would reward a higher cost")


def reward_of(ap: float, cost: float | None, config: RewardConfig) -> float:
  """Returns the reward of a detector.

  Args:
    ap: AP on held-out images, in [0, 1].
    cost: cost of one image, in the unit of `config.target`; None if only the AP is rewarded.
    config: settings of the reward.
  """
  if config.target is None:
    return ap
  relative = cost / config.target
  return ap * relative ** (config.exponent_within if relative <= 1 else config.exponent_beyond)
