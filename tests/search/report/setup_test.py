"""What the report reads beside the trials: the recipe, and the noise of a reward."""

import json
import math
import random

import pytest

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.errors import UserError
from official_nasfpn.search.proxy.rank_correlation import Noise
from official_nasfpn.search.report.noise import read_noise
from official_nasfpn.search.report.setup import largest_entropy, read_setup

RECIPE = {
  "Search.algorithm": "evolution",
  "Search.num_trials": 40,
  "SearchSpace.min_level": 3,
  "SearchSpace.max_level": 6,
  "SearchSpace.num_intermediate_cells": 11,
  "SearchSpace.intermediate_levels": (4,),
}


def test_a_recipe_says_what_is_searched():
  setup = read_setup({**RECIPE, "Detector.num_filters": 32, "Training.epochs": 10.0})
  assert (setup.algorithm, setup.num_trials, setup.proxy_mode) == ("evolution", 40, "plain")
  assert setup.space == SearchSpace(3, 6, 11, intermediate_levels=(4,))
  assert (setup.num_filters, setup.image_size, setup.epochs) == (32, None, 10)


def test_a_reward_with_a_cost_says_so():
  assert "to the power" not in read_setup(RECIPE).reward
  reward = {
    "Reward.cost": "latency",
    "Reward.target": 25.0,
    "Reward.exponent_within": 0.0,
    "Reward.exponent_beyond": -1.0,
  }
  assert read_setup({**RECIPE, **reward}).reward.endswith(
    "times (cost / 25.0 ms) to the power of 0.0 for what costs at most that, and of -1.0 for what "
    "costs more."
  )


def test_a_space_that_is_none_is_refused():
  with pytest.raises(UserError, match="SearchSpace"):
    read_setup({**RECIPE, "SearchSpace.max_level": 2})


@pytest.mark.parametrize("space", [SearchSpace(), SearchSpace(3, 6, 11, intermediate_levels=(4,))])
def test_the_largest_entropy_is_that_of_uniform_choices(space):
  choices = space.encode(space.sample(random.Random(0)))
  entropies = [math.log(sum(space.mask(choices[:step]))) for step in range(len(choices))]
  assert largest_entropy(space) == pytest.approx(sum(entropies) / len(entropies))


class TestNoise:
  NOISE = Noise(0.01, 0.05, 0.0, 0.96, 6, 3)

  def write(self, folder, noise):
    content = {"mode": "plain", "rows": [], "noise": noise}
    (folder / "summary.json").write_text(json.dumps(content))

  def test_it_is_that_of_the_check(self, tmp_path):
    self.write(tmp_path, vars(self.NOISE))
    assert read_noise(tmp_path, "plain") == self.NOISE

  def test_a_check_that_has_none(self, tmp_path):
    self.write(tmp_path, None)
    assert read_noise(tmp_path, "plain") is None

  def test_a_check_of_other_trials_is_refused(self, tmp_path):
    self.write(tmp_path, vars(self.NOISE))
    with pytest.raises(UserError, match=r"is a check of Proxy\.mode = 'plain'"):
      read_noise(tmp_path, "shared")

  @pytest.mark.parametrize("content", [None, "{", "{}", '{"mode": "plain", "noise": {"x": 1}}'])
  def test_what_is_no_check_is_refused(self, tmp_path, content):
    if content is not None:
      (tmp_path / "summary.json").write_text(content)
    with pytest.raises(UserError, match="is no summary of a finished proxy check"):
      read_noise(tmp_path, "plain")
