"""PPO: the update follows the paper, the state is complete, and the controller learns."""

import dataclasses
from importlib.util import find_spec

import numpy as np
import pytest

from official_nasfpn.architecture import PyramidSpec, SearchSpace
from official_nasfpn.search.algorithms.algorithm import Outcome, Proposal
from official_nasfpn.search.algorithms.ppo import PPO
from official_nasfpn.search.algorithms.random_search import RandomSearch

SPACE = SearchSpace(min_level=3, max_level=5, num_intermediate_cells=1)
CONFIG = PPO(hidden_units=16, learning_rate=0.01, epochs_per_update=4)
SEED = 1


def reward_of(proposal: Proposal) -> float:
  return share_that_pools_neighbours(SPACE.decode(proposal.choices))


def share_that_pools_neighbours(spec: PyramidSpec) -> float:
  """Returns a reward in [0, 1]; few architectures reach the known optimum, 1."""
  good = [cell.op == "global_pool" and 1 in cell.inputs for cell in spec.cells]
  return sum(good) / len(good)


def outcomes_of(proposals) -> list[Outcome]:
  return [Outcome(proposal, reward_of(proposal)) for proposal in proposals]


def test_the_policy_has_not_changed_at_the_first_step():
  ppo = PPO(hidden_units=16, epochs_per_update=1).make(SPACE, 0)
  metrics = ppo.learn(1, outcomes_of(ppo.propose(1, 8)))
  assert metrics["clipped_share"] == 0
  assert metrics["approx_kl"] == pytest.approx(0, abs=1e-6)
  # At ratio 1 the surrogate is the mean advantage, which is 0 in the first batch.
  assert metrics["loss"] == pytest.approx(-0.00001 * metrics["entropy"], abs=1e-6)


def test_a_good_architecture_becomes_more_likely_and_a_bad_one_less():
  ppo = CONFIG.make(SPACE, SEED)
  good, bad = ppo.propose(1, 2)
  choices = np.array([good.choices, bad.choices])
  masks = ppo.controller.masks(choices)
  ppo.learn(1, [Outcome(good, 0.9), Outcome(bad, 0.1)])
  log_probs, _ = ppo.controller.log_probs_and_entropy(choices, masks)
  changes = np.sum(log_probs, axis=1) - [sum(good.log_probs), sum(bad.log_probs)]
  assert changes[0] > 0.1
  assert changes[1] < -0.1


def test_the_ratio_is_held_near_the_clip_range():
  proposals = CONFIG.make(SPACE, SEED).propose(1, 8)
  outcomes = outcomes_of(proposals)

  def last_kl(clip_ratio):
    config = PPO(hidden_units=16, learning_rate=0.01, epochs_per_update=20, clip_ratio=clip_ratio)
    return config.make(SPACE, SEED).learn(1, outcomes)["approx_kl"]

  assert last_kl(0.2) < 0.5 * last_kl(1000.0)


def test_the_baseline_is_a_moving_average_of_the_rewards():
  ppo = CONFIG.make(SPACE, SEED)
  proposals = ppo.propose(1, 2)
  assert ppo.learn(1, [Outcome(proposals[0], 0.2), Outcome(proposals[1], 0.4)])[
    "baseline"
  ] == pytest.approx(0.3)
  expected = 0.95 * (0.95 * 0.3 + 0.05 * 0.2) + 0.05 * 0.4
  assert ppo.learn(2, [Outcome(proposals[0], 0.5)])["baseline"] == pytest.approx(expected)


def test_an_update_without_any_reward_changes_nothing():
  ppo = CONFIG.make(SPACE, SEED)
  before = ppo.state()
  assert ppo.learn(1, []) == {}
  assert ppo.state() == before


@pytest.mark.parametrize("cell", ["lstm", "layer_norm_lstm"])
def test_a_restored_controller_is_the_same_to_the_last_bit(cell):
  if cell == "layer_norm_lstm" and find_spec("tensorflow_addons") is None:
    pytest.skip("tensorflow-addons is not installed")
  config = PPO(hidden_units=8, learning_rate=0.01, cell=cell)
  ppo = config.make(SPACE, SEED)
  for update in (1, 2):
    ppo.learn(update, outcomes_of(ppo.propose(update, 6)))
  restored = config.make(SPACE, SEED)
  restored.restore(ppo.state())
  for update in (3, 4):
    assert restored.propose(update, 6) == ppo.propose(update, 6)
    outcomes = outcomes_of(ppo.propose(update, 6))
    assert restored.learn(update, outcomes) == ppo.learn(update, outcomes)
    assert restored.state() == ppo.state()


def test_the_state_is_data():
  state = CONFIG.make(SPACE, SEED).state()
  assert state.startswith(b"PK")
  assert b"pickle" not in state


def test_proposals_depend_on_seed_and_update_alone():
  ppo = CONFIG.make(SPACE, SEED)
  assert ppo.propose(5, 4) == ppo.propose(5, 4)
  assert ppo.propose(5, 4) != ppo.propose(6, 4)
  assert CONFIG.make(SPACE, SEED).propose(5, 4) == ppo.propose(5, 4)


@pytest.mark.slow
def test_it_learns_where_random_search_does_not():
  """Compares the mean rewards of the last 10 of 40 updates of 10 trials each."""
  config = PPO(hidden_units=32, learning_rate=0.005)
  late_mean = {}
  for algorithm in (config.make(SPACE, seed=0), RandomSearch().make(SPACE, seed=0)):
    means = []
    for update in range(1, 41):
      outcomes = outcomes_of(algorithm.propose(update, 10))
      algorithm.learn(update, outcomes)
      means.append(np.mean([outcome.reward for outcome in outcomes]))
    late_mean[type(algorithm).__name__] = np.mean(means[-10:])
  assert late_mean["UniformSearch"] < 0.4
  assert late_mean["PPOSearch"] > 0.8


def searched(config: PPO, num_updates: int, factor: float = 1.0):
  """Returns the last proposals of a search in which a factor scales all rewards."""
  ppo = config.make(SPACE, SEED)
  for update in range(1, num_updates + 1):
    proposals = ppo.propose(update, 8)
    ppo.learn(update, [Outcome(p, factor * reward_of(p)) for p in proposals])
  return ppo.propose(num_updates + 1, 8)


def choices_of(proposals) -> list[tuple[int, ...]]:
  return [proposal.choices for proposal in proposals]


def test_with_scaled_advantages_the_size_of_rewards_does_not_matter():
  config = dataclasses.replace(CONFIG, scale_advantages=True, entropy_weight=0.1)
  assert choices_of(searched(config, 6, 100.0)) == choices_of(searched(config, 6))
  # Without scaling, the entropy bonus outweighs small rewards.
  unscaled = dataclasses.replace(CONFIG, entropy_weight=0.1)
  assert choices_of(searched(unscaled, 6, 0.001)) != choices_of(searched(unscaled, 6))


def test_equal_rewards_are_no_division_by_zero():
  ppo = dataclasses.replace(CONFIG, scale_advantages=True).make(SPACE, SEED)
  for update in (1, 2):
    metrics = ppo.learn(update, [Outcome(p, 0.5) for p in ppo.propose(update, 4)])
    assert metrics["baseline"] == 0.5
  assert np.isfinite([p.log_probs for p in ppo.propose(3, 4)]).all()


@pytest.mark.slow
def test_the_entropy_bonus_keeps_the_controller_from_repeating_itself():
  """Counts different architectures among the last 80 trials of 60 updates of 8 trials each.

  The reward has one best choice.
  """

  def num_different(entropy_weight):
    config = dataclasses.replace(CONFIG, scale_advantages=True, entropy_weight=entropy_weight)
    ppo, last = config.make(SPACE, SEED), []
    for update in range(1, 61):
      outcomes = outcomes_of(ppo.propose(update, 8))
      ppo.learn(update, outcomes)
      last = [*last, *outcomes][-80:]
    return len({outcome.proposal.choices for outcome in last})

  assert num_different(0.1) > 2 * num_different(0.00001)


def test_the_best_are_learnt_from_again_and_kept_in_the_state():
  config = dataclasses.replace(CONFIG, replay_best=2, scale_advantages=True)
  ppo = config.make(SPACE, SEED)
  proposals = ppo.propose(1, 6)
  rewards = (0.1, 0.9, 0.2, 0.8, 0.3, 0.4)
  ppo.learn(1, [Outcome(p, r) for p, r in zip(proposals, rewards, strict=True)])
  best = np.array([proposals[1].choices, proposals[3].choices])
  masks = ppo.controller.masks(best)

  def log_prob(of):
    return np.sum(of.controller.log_probs_and_entropy(best, masks)[0], axis=1)

  before = log_prob(ppo)
  restored, forgetful = config.make(SPACE, SEED), CONFIG.make(SPACE, SEED)
  restored.restore(ppo.state())
  forgetful.restore(CONFIG.make(SPACE, SEED).state())
  # An average reward, so that only the replayed architectures are learnt from.
  neutral = [Outcome(ppo.propose(2, 1)[0], ppo._baseline)]
  assert ppo.learn(2, neutral) == restored.learn(2, neutral)
  assert (log_prob(ppo) > before).all()
  assert restored.state() == ppo.state()


def test_a_result_that_is_not_late_is_learnt_from_alike_by_both_objectives():
  states = []
  for objective in ("decoupled", "clipped"):
    ppo = dataclasses.replace(CONFIG, objective=objective).make(SPACE, SEED)
    outcomes = outcomes_of(ppo.propose(1, 8))
    metrics = ppo.learn(1, outcomes)
    choices = np.array([outcome.proposal.choices for outcome in outcomes])
    scores, _ = ppo.controller.log_probs_and_entropy(choices, ppo.controller.masks(choices))
    states.append((metrics, scores.numpy()))
  assert states[0][0] == pytest.approx(states[1][0], abs=1e-4)
  np.testing.assert_allclose(states[0][1], states[1][1], atol=1e-3)


def test_a_choice_that_the_policy_has_left_counts_by_how_likely_it_still_is():
  ppo = CONFIG.make(SPACE, SEED)
  proposals = ppo.propose(1, 4)
  choices = np.array([proposal.choices for proposal in proposals])
  masks = ppo.controller.masks(choices)
  now = np.array([proposal.log_probs for proposal in proposals], np.float32)
  # The sampling policy made the first choice three times as likely and the second half as likely.
  then = now + np.array([np.log(3), -np.log(2)] + [0.0] * (now.shape[1] - 2), np.float32)
  proximal, weights = ppo._proximal(choices, masks, then)
  np.testing.assert_allclose(proximal, now, atol=1e-5)
  np.testing.assert_allclose(weights[:, 0], 1 / 3, atol=1e-5)
  np.testing.assert_allclose(weights[:, 1:], 1, atol=1e-5)


def test_an_update_is_weighted_by_how_likely_each_choice_still_is():
  def gain_of_the_better_one(times_likelier_then):
    ppo = CONFIG.make(SPACE, SEED)
    better, worse = ppo.propose(1, 2)
    then = tuple(value + np.log(times_likelier_then) for value in better.log_probs)
    choices = np.array([better.choices])

    def log_prob():
      scores, _ = ppo.controller.log_probs_and_entropy(choices, ppo.controller.masks(choices))
      return np.sum(scores)

    before = log_prob()
    better = dataclasses.replace(better, log_probs=then)
    ppo.learn(1, [Outcome(better, 1.0), Outcome(worse, 0.0)])
    return log_prob() - before

  gain = gain_of_the_better_one(1)
  assert gain > 0
  assert gain_of_the_better_one(100) < 0.5 * gain


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 10, 40])
def test_it_learns_from_rewards_that_arrive_late(delay):
  """Measures the mean reward of the last 10 of `60 + delay` updates of 8 trials each."""
  config = dataclasses.replace(
    CONFIG, learning_rate=0.005, scale_advantages=True, entropy_weight=0.05
  )
  ppo, waiting, means = config.make(SPACE, SEED), [], []
  for update in range(1, 61 + delay):
    waiting.append((update, outcomes_of(ppo.propose(update, 8))))
    means.append(np.mean([outcome.reward for outcome in waiting[-1][1]]))
    if len(waiting) > delay:
      ppo.learn(*waiting.pop(0))
  assert np.mean(means[:5]) < 0.4
  assert np.mean(means[-10:]) > 0.7
