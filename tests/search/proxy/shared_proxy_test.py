"""The shared proxy: one graph, rewards that depend on the architecture only, constant memory."""

import dataclasses
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.errors import UserError
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.proxy.config import ProxyConfig
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.workers.evaluation import (
  NullProgress,
  SearchBroken,
  TrialFailed,
  WorkerBroken,
)
from official_nasfpn.training.experiment import load_experiment

SPACE = SearchSpace()
PROXY = ProxyConfig(mode="shared", warmup_epochs=2.0, epochs=0.5, learning_rate=0.5)
# Long enough for architectures to get different rewards.
LONGER = dataclasses.replace(PROXY, warmup_epochs=20.0, epochs=3.0)
MEMORY_MB = 30


def specs(count):
  rng = random.Random(5)
  return [SPACE.sample(rng) for _ in range(count)]


def make_shared(recipe, warm_dir, proxy=PROXY, seed_offset=0):
  from official_nasfpn.search.proxy.shared_proxy import SharedProxy

  experiment, dataset = proxy_task.open_on_holdout(load_experiment([recipe]))
  return SharedProxy(proxy, SPACE, experiment, dataset, warm_dir, seed_offset=seed_offset)


def rewards_of(shared, architectures):
  """Returns the evaluation of each architecture as JSON, to the last digit."""
  return [shared.train(spec, lambda fraction: None).to_json() for spec in architectures]


@pytest.fixture(scope="module")
def warm_dir(tmp_path_factory):
  """Returns the folder of the shared weights of `taught`."""
  return tmp_path_factory.mktemp("shared") / "warm"


@pytest.fixture(scope="module")
def taught(recipe, warm_dir):
  """Returns a shared proxy whose weights have been trained for many epochs."""
  return make_shared(recipe, warm_dir, LONGER)


@pytest.mark.slow
def test_one_graph_and_rewards_that_depend_on_the_architecture_alone(
  recipe, taught, warm_dir, tmp_path
):
  shared = taught
  weights = [variable.numpy() for variable in shared._detector.backbone.variables]
  architectures = specs(4)
  forward = rewards_of(shared, architectures)
  assert len(set(forward)) == len(architectures)
  assert rewards_of(shared, architectures[::-1]) == forward[::-1]
  # The frozen backbone did not change.
  for variable, value in zip(shared._detector.backbone.variables, weights, strict=True):
    assert (variable.numpy() == value).all()
  assert sorted(shared.traces) == [
    "cache_held_out",
    "cache_train",
    "infer",
    "train_step",
    "warm_up",
  ]

  # Another worker reads the weights, and starts with another trial.
  other = make_shared(recipe, warm_dir, LONGER)
  assert "warm_up" not in other.traces
  assert rewards_of(other, architectures[2:]) == forward[2:]

  # Another search with the same recipe makes the same weights.
  again = make_shared(recipe, tmp_path / "warm again", LONGER)
  assert rewards_of(again, architectures[1:2]) == forward[1:2]


def loss_after_training(shared, spec):
  """Trains an architecture and returns its loss on the first batch."""
  import tensorflow as tf

  from official_nasfpn.modeling.wired_pyramid import Wiring, wiring_of

  rewards_of(shared, [spec])
  losses = shared._train_step(shared._batches[0], Wiring(*map(tf.constant, wiring_of(spec))))
  return float(losses["total_loss"])


@pytest.mark.slow
def test_trials_go_on_from_what_a_training_with_an_fpn_has_taught(recipe, taught, tmp_path):
  little = dataclasses.replace(LONGER, warmup_epochs=0.1)
  untaught = make_shared(recipe, tmp_path / "untaught", little)
  losses = [
    sum(loss_after_training(shared, spec) for spec in specs(5)) for shared in (taught, untaught)
  ]
  assert losses[0] < 0.9 * losses[1], losses


@pytest.mark.slow
def test_another_seed_changes_pyramid_and_views_and_not_what_is_shared(recipe, taught, warm_dir):
  confirming = make_shared(recipe, warm_dir, LONGER, seed_offset=1)
  assert "warm_up" not in confirming.traces
  spec = specs(1)
  rewards = rewards_of(confirming, spec)
  assert rewards != rewards_of(taught, spec)
  assert rewards_of(make_shared(recipe, warm_dir, LONGER, seed_offset=1), spec) == rewards
  start, other = (
    {variable.ref(): value.numpy() for variable, value in shared._start}
    for shared in (taught, confirming)
  )
  for part, is_shared in (("backbone", True), ("head", True), ("pyramid", False)):
    kernels = [
      (start[a.ref()], other[b.ref()])
      for a, b in zip(
        getattr(taught._detector, part).trainable_variables,
        getattr(confirming._detector, part).trainable_variables,
        strict=True,
      )
      if len(a.shape) == 4
    ]
    assert kernels
    assert {bool((a == b).all()) for a, b in kernels} == {is_shared}, part
  images = [shared._batches[0].features["3"].numpy() for shared in (taught, confirming)]
  assert (images[0] != images[1]).any()


@pytest.mark.slow
def test_a_confirmation_that_makes_the_shared_weights_makes_those_of_the_search(recipe, tmp_path):
  proxy = dataclasses.replace(PROXY, warmup_epochs=0.5)
  for offset in (0, 1):
    make_shared(recipe, tmp_path / str(offset), proxy, seed_offset=offset)
  of_trial, of_confirmation = (
    np.load(tmp_path / str(offset) / "weights.npz", allow_pickle=False) for offset in (0, 1)
  )
  assert sorted(of_trial) == sorted(of_confirmation)
  for name in of_trial:
    np.testing.assert_array_equal(of_trial[name], of_confirmation[name])


@pytest.mark.slow
def test_a_search_with_two_workers_warms_up_once(recipe, tmp_path, run_program):
  search_dir = tmp_path / "search"
  arguments = ["--gin_file", recipe, "--search_dir", search_dir, "--num_workers", 2]
  for binding in ("Proxy.mode='shared'", "Search.num_trials=6", "Search.trials_per_update=6"):
    arguments += ["--gin_param", binding]
  result = run_program("search", *arguments)
  assert result.returncode == 0, result.stderr
  logs = [path.read_text() for path in (search_dir / "workers").glob("*.log")]
  assert sum("warm up" in log for log in logs) == 1
  assert (search_dir / "warm_state" / "weights.npz").is_file()
  assert "Proxy.mode = 'shared'" in (search_dir / "recipe.gin").read_text()

  # Any other process gives the same rewards.
  from official_nasfpn.search.report.found import read_trials

  trial = read_trials(search_dir)[3]
  there = read_recipe([search_dir / "recipe.gin"])
  evaluate = proxy_task.make_evaluate(there, search_dir)
  assert evaluate(SPACE.decode(trial.choices), tmp_path, NullProgress()).reward == trial.reward


@pytest.mark.minutes
@pytest.mark.slow
def test_memory_does_not_grow(recipe, tmp_path):
  code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import shared_proxy_test as test
shared = test.make_shared({str(recipe)!r}, Path({str(tmp_path / "warm")!r}))
for number, spec in enumerate(test.specs(50), start=1):
  shared.train(spec, lambda fraction: None)
  if number in (10, 50):
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    print("rss", pages * {os.sysconf("SC_PAGE_SIZE")} // 2**20, flush=True)
"""
  result = subprocess.run(
    [sys.executable, "-c", code],
    cwd=Path(__file__).parents[3],
    capture_output=True,
    text=True,
    check=False,
    timeout=900,
  )
  assert result.returncode == 0, result.stderr
  after_10, after_50 = (int(line.split()[1]) for line in result.stdout.splitlines())
  assert after_50 - after_10 < MEMORY_MB, result.stdout


@pytest.mark.slow
def test_a_diverging_trial_is_a_bad_architecture(recipe, tmp_path, monkeypatch):
  from official_nasfpn.search.proxy import shared_proxy

  schedule = shared_proxy._schedule

  def hot_in_trials(config, epochs, rate=1.0):
    return schedule(config, epochs, rate if rate == 1 else 1e30)

  monkeypatch.setattr(shared_proxy, "_schedule", hot_in_trials)
  proxy = dataclasses.replace(PROXY, warmup_epochs=0.1)
  evaluate = proxy_task.make_evaluate(
    dataclasses.replace(read_recipe([recipe]), proxy=proxy), tmp_path
  )
  with pytest.raises(TrialFailed, match="NaN or infinite at train step") as failed:
    evaluate(specs(1)[0], tmp_path, NullProgress())
  assert failed.value.diverged


@pytest.mark.slow
def test_no_architecture_is_blamed_for_shared_weights_that_diverge(recipe, tmp_path):
  hot = read_recipe([recipe], ["Training.learning_rate = 1e30", "Training.steps_per_loop = 2"])
  evaluate = proxy_task.make_evaluate(dataclasses.replace(hot, proxy=PROXY), tmp_path / "hot")
  with pytest.raises(SearchBroken, match="The training with the FPN, from which all trials"):
    evaluate(specs(1)[0], tmp_path, progress := RecordedProgress())
  # Making the shared weights is half of the first trial, and it stops when it has diverged.
  assert progress.shares == sorted(progress.shares)
  assert 0 < progress.shares[0] <= progress.shares[-1] < 0.5


@pytest.mark.slow
def test_no_architecture_is_blamed_for_features_that_take_too_much_memory(recipe, tmp_path):
  proxy = dataclasses.replace(PROXY, warmup_epochs=0.1, epochs=100.0, max_cache_gb=0.05)
  evaluate = proxy_task.make_evaluate(
    dataclasses.replace(read_recipe([recipe]), proxy=proxy), tmp_path
  )
  with pytest.raises(WorkerBroken, match=r"more than Proxy.max_cache_gb = 0.05"):
    evaluate(specs(1)[0], tmp_path, NullProgress())


def test_held_out_features_are_kept_where_they_fit_beside_those_of_the_training(
  monkeypatch, capsys
):
  import tensorflow as tf

  from official_nasfpn.search.proxy import feature_cache
  from official_nasfpn.training.targets import AnchorTargets

  experiment = load_experiment(["gin/quickstart.gin"])
  images = tf.random.stateless_uniform([6, 64, 64, 3], [0, 1])
  sizes, ids = tf.zeros([6, 2]), tf.range(6)
  held_out_images = tf.data.Dataset.from_tensor_slices(
    {"image": images, "scaled_size": sizes, "original_size": sizes, "image_id": ids}
  ).batch(2)
  stream = tf.data.Dataset.from_tensors({"image": images[:2], "boxes": sizes, "classes": ids})
  found = AnchorTargets(tf.zeros([2, 100], tf.int32), tf.zeros([2, 100, 4]))
  monkeypatch.setattr(feature_cache.targets, "assign_targets", lambda *arguments: found)
  monkeypatch.setattr(
    feature_cache.input_pipeline, "evaluation_dataset", lambda *arguments: held_out_images
  )
  computed = []

  def note():
    computed.append(1)
    return np.float32(0)

  def backbone(image, training):
    assert not training
    noted = tf.ensure_shape(tf.numpy_function(note, [], tf.float32), [])
    return {str(level): image[:, :: 2**level, :: 2**level] + noted for level in (3, 4, 5)}

  def held_out(max_gb):
    """Returns the batches of two trials, and how often the backbone computed for them."""
    cache = feature_cache.FeatureCache(backbone, experiment, tf.zeros([100, 4]), [], max_gb)
    of_training = cache.train_batches(stream.repeat(), 4)
    batches = cache.held_out_batches()
    computed.clear()
    found = [[*batches()], [*batches()]]
    return of_training, found, len(computed)

  def gb_of(batches):
    arrays = tf.nest.flatten([batch[:3] for batch in batches])
    return sum(array.numpy().nbytes for array in arrays) / 2**30

  of_training, kept, times = held_out(1.0)
  assert (len(of_training), len(kept[0]), times) == (4, 3, 0)
  of_both = gb_of(of_training) + gb_of(kept[0])
  assert held_out(1.01 * of_both)[2] == 0
  assert "computes them anew" not in capsys.readouterr().err
  _, anew, times = held_out(0.99 * of_both)
  assert times == 6
  assert capsys.readouterr().err.count("each trial computes them anew") == 1
  for batches in (kept[1], *anew):
    tf.nest.map_structure(np.testing.assert_array_equal, batches, kept[0])
  with pytest.raises(UserError, match="a trial's 4 batches take"):
    held_out(0.99 * gb_of(of_training))


class RecordedProgress(NullProgress):
  """Keeps what a trial reports."""

  def __init__(self):
    self.shares = []

  def report(self, share):
    self.shares.append(share)


@pytest.mark.parametrize("setting", ["drop_block_rate = 0.1", "ema_decay = 0.99"])
def test_what_it_cannot_do_is_said_before_a_search_begins(recipe, setting):
  asked = dataclasses.replace(read_recipe([recipe], [f"Training.{setting}"]), proxy=PROXY)
  with pytest.raises(UserError, match=rf"knows no Training\.{setting.split()[0]}: set it to"):
    proxy_task.resolved(asked)


def test_the_recipe_says_how_trials_are_evaluated_and_rewarded(recipe):
  assert "Proxy.mode = 'plain'" in read_recipe([recipe]).to_gin()
  shared = read_recipe([recipe], ["Proxy.mode = 'shared'"]).to_gin()
  assert "Proxy.warmup_epochs = 2.0" in shared
  assert "Reward.cost = 'none'" in shared
