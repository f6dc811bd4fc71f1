"""A confirmation on the plain proxy is a training with another seed, all of it."""

import random

import numpy as np
import pytest

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.recipe import read_recipe

SPEC = SearchSpace().sample(random.Random(5))


class Asked:
  """A progress that counts how often it is asked whether the trial should stop."""

  def __init__(self):
    self.count = 0

  def report(self, share):
    pass

  def is_hopeless(self, share, reward):
    self.count += 1
    return False


@pytest.mark.slow
def test_weights_order_and_views_are_those_of_the_seed(recipe, tmp_path, monkeypatch):
  from official_nasfpn.training import repeated_training

  made = []

  class Recorded(repeated_training.RepeatedTraining):
    def __init__(self, experiment, dataset):
      super().__init__(experiment, dataset)
      images = next(iter(self._trainer.task.build_inputs()))["image"].numpy()
      made.append((experiment.training.seed, [value.numpy() for _, value in self._start], images))

  monkeypatch.setattr(repeated_training, "RepeatedTraining", Recorded)

  def evaluated(seed, *offsets):
    """Returns what the trainings of one worker found, and how often each asked whether to stop."""
    search = read_recipe(
      [recipe], [f"Training.seed = {seed}", "Search.early_stopping_quantile = 0.5"]
    )
    evaluate = proxy_task.make_evaluate(search, tmp_path)
    found = []
    for offset in offsets:
      evaluate(SPEC, tmp_path, progress := Asked(), offset)
      found.append(((tmp_path / "evaluation.json").read_text(), progress.count))
    return found

  trial, confirmation, same, again = evaluated(3, 0, 1, 1, 0)
  ((as_a_trial, _),) = evaluated(4, 0)
  assert trial[0] == again[0] != confirmation[0] == same[0] == as_a_trial
  # Confirmations are trained to their end, and a graph is built once for each seed.
  assert [asked for _, asked in (trial, confirmation, same, again)] == [2, 0, 0, 2]
  assert [seed for seed, _, _ in made] == [3, 4, 3, 4]

  (_, weights, images), (_, other_weights, other_images), _, fourth = made
  assert not np.array_equal(images, other_images)
  np.testing.assert_array_equal(other_images, fourth[2])
  for value, as_in_a_trial in zip(other_weights, fourth[1], strict=True):
    np.testing.assert_array_equal(value, as_in_a_trial)
  # Kernels are drawn; biases and norms start from the same numbers with every seed.
  kernels = [
    (value, other)
    for value, other in zip(weights, other_weights, strict=True)
    if value.ndim == 4 and value.std() > 0
  ]
  assert len(kernels) > 10
  assert not any(np.array_equal(value, other) for value, other in kernels)
