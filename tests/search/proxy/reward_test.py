"""The reward that weighs AP with cost."""

import pytest

from official_nasfpn import configuration
from official_nasfpn.search.proxy.reward import RewardConfig, reward_of


def test_the_ap_alone_unless_a_cost_is_named():
  assert reward_of(0.25, None, RewardConfig()) == 0.25


def test_mnasnets_example():
  # Tan et al. 2019, section 3.1: a model M2 with twice the latency of M1 and 5 % more accuracy is
  # worth the same: Reward(M2) = a (1 + 5 %) (2l / T)^w is about a (l / T)^w, so w is about -0.07.
  config = RewardConfig(cost="latency", target=80)
  for latency in (20, 40, 80, 160):
    slower = reward_of(0.5 * 1.05, 2 * latency, config)
    assert slower == pytest.approx(reward_of(0.5, latency, config), rel=2e-3)


def test_a_limit():
  config = RewardConfig(cost="multiply_adds", target=1e9, exponent_within=0.0, exponent_beyond=-1.0)
  assert reward_of(0.4, 0.2e9, config) == reward_of(0.4, 1e9, config) == 0.4
  assert reward_of(0.4, 2e9, config) == pytest.approx(0.2)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"cost": "latency"}, "a cost needs a target"),
    ({"target": 3.0}, "a target a cost"),
    ({"cost": "latency", "target": -1.0}, "target"),
    ({"cost": "latency", "target": 9.0, "exponent_beyond": 0.1}, "at most 0"),
    ({"cost": "energy", "target": 9.0}, "cost"),
  ],
)
def test_what_cannot_be_meant_is_refused(values, message):
  with pytest.raises(ValueError, match=message):
    RewardConfig(**values)


def test_it_goes_round_in_gin():
  config = RewardConfig(cost="multiply_adds", target=4e8, exponent_beyond=-0.3)
  configuration.parse(gin_params=[configuration.to_gin(config)])
  assert configuration.from_bindings(RewardConfig) == config
