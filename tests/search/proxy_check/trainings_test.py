"""The recipes of a proxy check, and its file of finished trainings."""

import dataclasses
import random
from pathlib import Path

import pytest

from official_nasfpn.architecture import CATALOG, SearchSpace
from official_nasfpn.errors import UserError
from official_nasfpn.search.proxy_check.trainings import (
  Result,
  Training,
  TrainingsFile,
  training_recipes,
)
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.training.experiment import load_experiment

SPACE = SearchSpace()
LONGER = "Training.epochs = 3"


def sampled(count, seed=7):
  rng = random.Random(seed)
  return [SPACE.encode(SPACE.sample(rng)) for _ in range(count)]


def recipes(recipe, *params, target=(LONGER,)):
  return training_recipes(
    read_recipe([recipe], params), load_experiment([recipe], [*params, *target])
  )


def test_proxy_and_target_are_rewarded_by_the_ap_of_a_whole_training(recipe):
  proxy, target = recipes(
    recipe,
    "Reward.cost = 'latency'",
    "Reward.target = 5.0",
    "Search.early_stopping_quantile = 0.5",
    target=(LONGER, "Training.seed = 4"),
  )
  for side in (proxy, target):
    assert side.search.reward.cost == "none"
    assert side.search.search.early_stopping_quantile == 0
  assert proxy.search.experiment.input.evaluation_part == "holdout"
  assert target.search.experiment.input.evaluation_part == "val"
  assert target.search.experiment.training.epochs == 3
  assert (proxy.seed, target.seed) == (0, 4)
  assert recipes(recipe, "Proxy.mode = 'shared'")[1].search.proxy.mode == "plain"


def test_the_digest_is_of_what_decides_the_ap_alone(recipe):
  proxy, target = recipes(recipe)
  assert proxy.digest != target.digest
  # Architecture and seed belong to the training; a search's length changes no training.
  experiment = proxy.search.experiment.with_architecture(CATALOG["panet"])
  other = dataclasses.replace(proxy.search, experiment=experiment)
  assert dataclasses.replace(proxy, search=other).digest == proxy.digest
  assert proxy.with_seed(5).seed == 5
  assert proxy.with_seed(5).digest == proxy.digest
  assert recipes(recipe, "Search.num_trials = 7", "Proxy.epochs = 9")[0].digest == proxy.digest

  shared = recipes(recipe, "Proxy.mode = 'shared'")[0].digest
  different = {proxy.digest, target.digest, shared}
  different.add(recipes(recipe, "Proxy.mode = 'shared'", "Proxy.epochs = 9")[0].digest)
  different.add(recipes(recipe, "Training.learning_rate = 0.1")[0].digest)
  dataset = dataclasses.replace(proxy.dataset, settings={"seed": 99})
  different.add(dataclasses.replace(proxy, dataset=dataset).digest)
  assert len(different) == 6
  # The target of a shared proxy is trained like that of a plain one.
  assert recipes(recipe, "Proxy.mode = 'shared'")[1].digest == target.digest


def test_sizes_of_the_space_are_part_of_the_digest(recipe):
  def digests(*bindings):
    return [each.digest for each in recipes(recipe, *bindings)]

  sized = "SearchSpace.num_repeats = (1, 3)"
  several = [digests(), digests(sized), digests("SearchSpace.num_repeats = (5, 7)")]
  assert len({digest for both in several for digest in both}) == 6
  # What the space chooses is not read from the detector.
  assert digests(sized, "Detector.num_repeats = 2") == digests(sized)


def test_a_proxy_that_cannot_train_all_sizes_is_refused(recipe):
  sized = "SearchSpace.num_repeats = (1, 3)"
  with pytest.raises(UserError, match="trains one detector for all trials"):
    recipes(recipe, sized, "Proxy.mode = 'shared'")
  two_exits = "Detector.exit_heads = 'shared'\nTraining.exit_loss_weights = (0.5, 1.0)"
  with pytest.raises(UserError, match="has 2 weights for 1 exits"):
    recipes(recipe, sized, "Detector.num_repeats = 2", two_exits)


def test_finished_trainings_come_back(tmp_path):
  file = TrainingsFile(tmp_path / "trainings.jsonl", SPACE)
  assert file.read() == {}
  trainings = [Training("abc", choices, seed) for seed, choices in enumerate(sampled(3))]
  for index, training in enumerate(trainings):
    file.add(training, Result(index / 10, 1.5))
  assert file.read() == {
    training: Result(index / 10, 1.5) for index, training in enumerate(trainings)
  }


def test_trainings_of_another_space_are_not_taken_for_those_of_this_one(tmp_path):
  path = tmp_path / "trainings.jsonl"
  other_ops = SearchSpace(ops=SPACE.ops[::-1])
  more_cells = SearchSpace(num_intermediate_cells=SPACE.num_intermediate_cells + 1)
  choices = SPACE.encode(CATALOG["nas_fpn"])
  assert other_ops.decode(choices) != CATALOG["nas_fpn"]
  TrainingsFile(path, other_ops).add(Training("abc", choices, 0), Result(0.9))
  longer = more_cells.encode(more_cells.sample(random.Random(0)))
  TrainingsFile(path, more_cells).add(Training("abc", longer, 0), Result(0.8))
  file = TrainingsFile(path, SPACE)
  assert file.read() == {}
  file.add(Training("abc", choices, 0), Result(0.1))
  assert file.read() == {Training("abc", choices, 0): Result(0.1)}
  # Every space has its own.
  assert TrainingsFile(path, other_ops).read() == {Training("abc", choices, 0): Result(0.9)}
  assert TrainingsFile(path, more_cells).read() == {Training("abc", longer, 0): Result(0.8)}


def test_recorded_trainings_stay_valid():
  path = Path("docs/bccd_search/proxy_check.jsonl")
  space = read_recipe(["gin/bccd_search.gin"]).space
  assert len(TrainingsFile(path, space).read()) == len(path.read_text().splitlines())


def test_an_unfinished_last_line_is_cut_off(tmp_path):
  path = tmp_path / "trainings.jsonl"
  file = TrainingsFile(path, SPACE)
  first, second = (Training("abc", choices, 0) for choices in sampled(2))
  file.add(first, Result(0.1))
  whole = path.read_bytes()
  file.add(second, Result(0.2))
  for length in range(len(whole), path.stat().st_size):
    path.write_bytes((whole + path.read_bytes()[len(whole) :])[:length])
    if length > len(whole):
      assert list(file.read()) == [first]
    file.mend()
    assert path.read_bytes() == whole
    file.add(second, Result(0.2))
  assert list(file.read()) == [first, second]


def test_a_damaged_line_is_named(tmp_path):
  path = tmp_path / "trainings.jsonl"
  path.write_text('{"recipe": "abc"}\n')
  with pytest.raises(UserError, match="line 1, is not a finished training"):
    TrainingsFile(path, SPACE).read()
