"""The controller's policy: only valid choices, and probabilities that add up."""

import numpy as np
import pytest

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.search.algorithms.controller import Controller

SPACE = SearchSpace(min_level=3, max_level=5, num_intermediate_cells=1)


@pytest.fixture(scope="module")
def controller():
  return Controller(SPACE, hidden_units=16, cell="lstm", seed=3)


@pytest.fixture(scope="module")
def sample(controller):
  return controller.sample(np.random.default_rng(0), count=64)


def test_every_sample_is_an_architecture_of_the_space(sample):
  for choices in sample[0]:
    assert SPACE.encode(SPACE.decode(choices.tolist())) == tuple(choices)


def test_the_papers_space_too():
  space = SearchSpace()
  choices, _ = Controller(space, 8, "lstm", seed=0).sample(np.random.default_rng(1), 8)
  assert [space.decode(chosen.tolist()).num_cells for chosen in choices] == [7] * 8


def test_an_invalid_choice_is_impossible_even_when_the_weights_favour_it():
  controller = Controller(SPACE, 8, "lstm", seed=0)
  # Level 3 is the first level; the first decision about a level belongs to an intermediate cell.
  controller.bias[2, 0].assign(1000.0)
  choices, log_probs = controller.sample(np.random.default_rng(0), 200)
  assert set(choices[:, 2]) == {1, 2}
  assert np.isfinite(log_probs).all()


def test_scores_of_a_sample_are_the_probabilities_it_was_drawn_with(controller, sample):
  choices, log_probs = sample
  again, _ = controller.log_probs_and_entropy(choices, controller.masks(choices))
  np.testing.assert_allclose(again, log_probs, atol=1e-5)


def test_probabilities_of_all_architectures_add_up_to_one(controller):
  space = SearchSpace(min_level=3, max_level=4, num_intermediate_cells=0)
  controller = Controller(space, 8, "lstm", seed=5)
  choices = np.array([space.encode(spec) for spec in space.enumerate()])
  log_probs, entropy = controller.log_probs_and_entropy(choices, controller.masks(choices))
  probabilities = np.exp(np.sum(log_probs, axis=1))
  assert len(probabilities) == space.size
  assert np.sum(probabilities) == pytest.approx(1, abs=1e-5)
  # The chain rule: the entropy of architectures is the expected sum of the decisions' entropies.
  whole = -np.sum(probabilities * np.log(probabilities))
  assert np.sum(probabilities * np.sum(entropy, axis=1)) == pytest.approx(whole, abs=1e-4)


def test_samples_follow_the_probabilities():
  space = SearchSpace(min_level=3, max_level=4, num_intermediate_cells=0)
  controller = Controller(space, 8, "lstm", seed=5)
  controller.bias.assign_add(np.random.default_rng(2).normal(size=controller.bias.shape))
  choices, log_probs = controller.sample(np.random.default_rng(0), 4000)
  drawn, counts = np.unique(choices, axis=0, return_counts=True)
  expected = {tuple(c): np.exp(p.sum()) for c, p in zip(choices, log_probs, strict=True)}
  for chosen, count in zip(drawn, counts, strict=True):
    mean = 4000 * expected[tuple(chosen)]
    # The tolerance is five standard deviations of a binomial count.
    assert abs(count - mean) < 5 * np.sqrt(mean) + 1


def test_the_first_policy_is_close_to_uniform(controller, sample):
  masks = controller.masks(sample[0])
  # Valid choices per decision, all equally likely.
  uniform = -np.log(masks.sum(axis=-1))
  np.testing.assert_allclose(sample[1], uniform, atol=0.35)


def test_the_seed_decides_weights_and_samples():
  def draw(weights_seed, sample_seed):
    controller = Controller(SPACE, 8, "lstm", weights_seed)
    return controller.sample(np.random.default_rng(sample_seed), 4)

  first = draw(1, 1)
  np.testing.assert_array_equal(draw(1, 1)[0], first[0])
  np.testing.assert_array_equal(draw(1, 1)[1], first[1])
  assert (draw(2, 1)[1] != first[1]).any()
  assert (draw(1, 2)[0] != first[0]).any()


def test_weights_are_drawn_within_a_tenth(controller):
  for variable in controller.trainable_variables:
    if "bias" not in variable.name:
      assert 0.08 < np.abs(variable).max() <= 0.1
