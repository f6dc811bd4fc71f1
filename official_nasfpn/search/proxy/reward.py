"""From what a trial's detector finds and costs to its reward.

The paper rewards the AP alone. With a cost the reward is that of MnasNet (Tan et al. 2019, section
3.1, equations 2 and 3): AP x (cost / target)^w.
"""

from typing import Literal

from pydantic import PositiveFloat

from official_nasfpn.configuration import configurable, settings


@configurable("Reward")
@settings
class RewardConfig:
  """What a trial is rewarded for.

  Attributes:
    cost: `none` rewards the AP alone; `multiply_adds` and `latency` weigh it with what one image
      costs the whole detector.
    target: the cost that is aimed at: in multiply-adds, or in milliseconds of a worker's machine.
    exponent_within: w of detectors that cost at most the target.
    exponent_beyond: w of the others. Both are -0.07 in MnasNet: 5 % more accuracy are worth twice
      the latency; 0 and -1 make the target a limit (there, Figure 3). MnasFPN has -0.3.
  """

  cost: Literal["none", "multiply_adds", "latency"] = "none"
  target: PositiveFloat | None = None
  exponent_within: float = -0.07
  exponent_beyond: float = -0.07

  def __post_init__(self):
    if (self.cost == "none") != (self.target is None):
      raise ValueError(
        f"cost = {self.cost!r} and target = {self.target}: a cost needs a target, in multiply-adds "
        "or milliseconds, and a target a cost"
      )
    if max(self.exponent_within, self.exponent_beyond) > 0:
      raise ValueError("the exponents of costs are at most 0: others would reward what costs more")


def reward_of(ap: float, cost: float | None, config: RewardConfig) -> float:
  """Returns the reward of a detector.

  Args:
    ap: in [0, 1], on held-out images.
    cost: of one image, in the unit of `config.target`; None where the cost does not count.
    config: what is rewarded.
  """
  if config.target is None:
    return ap
  relative = cost / config.target
  return ap * relative ** (config.exponent_within if relative <= 1 else config.exponent_beyond)
