"""What the report reads beside the trials: the recipe, and the noise of a reward."""

import json
import math
import random

import pytest

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.errors import UserError
from official_nasfpn.search.proxy_check.noise import Noise
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.report.noise import read_noise
from official_nasfpn.search.report.setup_in_words import facts, largest_entropy, reward_in_words

BINDINGS = (
  "Search.algorithm = @Evolution()",
  "Search.num_trials = 40",
  "Detector.backbone = 'R-10'",
  "Detector.num_repeats = 2",
  "Detector.num_filters = 32",
)


def recipe(*bindings: str):
  return read_recipe(gin_params=[*BINDINGS, *bindings])


def test_a_recipe_says_what_is_searched():
  said = dict(facts(recipe("Training.epochs = 10", "Training.batch_size = 4")))
  assert (said["algorithm"], said["seed"]) == ("Evolution", "0")
  assert said["detector"] == "R-10, 2 @ 32"
  assert said["a trial"] == "10 epochs in batches of 4"
  assert "dataset" not in said
  half = dict(facts(recipe("Detector.backbone_width = 0.5", "Input.data_dir = '/cells'")))
  assert (half["detector"], half["dataset"]) == ("R-10 x 0.5, 2 @ 32", "/cells")


def test_sizes_of_the_space_are_said():
  said = dict(facts(recipe("SearchSpace.num_repeats = (1, 3, 5)")))
  assert said["detector"] == "R-10, 1, 3 or 5 @ 32"


def test_shared_trials_are_described():
  said = dict(facts(recipe("Proxy.mode = 'shared'", "Proxy.epochs = 4")))
  assert said["a trial"] == "4 epochs from weights that all trials share"


def test_a_reward_with_a_cost_says_so():
  assert "to the power" not in reward_in_words(recipe())
  with_cost = recipe(
    "Reward.cost = 'latency'",
    "Reward.target = 25.0",
    "Reward.exponent_within = 0.0",
    "Reward.exponent_beyond = -1.0",
  )
  assert reward_in_words(with_cost).endswith(
    "times (cost / 25.0 ms) to the power of 0.0 for what costs at most that, and of -1.0 for what "
    "costs more."
  )


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
