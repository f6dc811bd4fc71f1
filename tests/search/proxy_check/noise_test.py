"""The noise of rewards against published and closed-form numbers."""

import numpy as np
import pytest

from official_nasfpn.search.proxy_check.noise import noise_of

# Shrout and Fleiss (1979), "Intraclass correlations", table 2: six targets, four judges. Table
# 4 there gives ICC(3,1) = 0.71, table 3 the mean squares 11.24, 32.49 and 1.02.
SHROUT_FLEISS = np.array(
  [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)


def test_reliability_is_that_of_shrout_and_fleiss():
  noise = noise_of(SHROUT_FLEISS)
  assert noise.reliability == pytest.approx(0.71, abs=0.005)
  assert noise.within**2 == pytest.approx(1.02, abs=0.005)
  assert noise.between**2 == pytest.approx((11.24 - 1.02) / 4, abs=0.005)
  assert noise.seed**2 == pytest.approx((32.49 - 1.02) / 6, abs=0.005)
  assert (noise.num_architectures, noise.num_seeds) == (6, 4)
  assert not noise.drowns_differences


def test_noise_is_found_as_it_was_put_in():
  rng = np.random.default_rng(0)
  rewards = (
    rng.normal(0, 0.05, (2000, 1)) + rng.normal(0, 0.02, (2000, 4)) + np.array([0, 0.1, 0, 0.2])
  )
  noise = noise_of(rewards)
  assert noise.between == pytest.approx(0.05, rel=0.05)
  assert noise.within == pytest.approx(0.02, rel=0.05)
  assert noise.reliability == pytest.approx(25 / 29, abs=0.02)
  # Reliability is the expected correlation between rewards with two seeds.
  assert np.corrcoef(rewards[:, 0], rewards[:, 1])[0, 1] == pytest.approx(
    noise.reliability, abs=0.02
  )


def test_what_a_seed_adds_to_all_alike_is_no_noise():
  rng = np.random.default_rng(1)
  rewards = rng.normal(size=(10, 3))
  shifted = noise_of(rewards + np.array([0.0, 5.0, -3.0]))
  assert shifted.within == pytest.approx(noise_of(rewards).within)
  assert shifted.reliability == pytest.approx(noise_of(rewards).reliability)
  assert shifted.seed > 1


def test_noise_larger_than_differences_is_seen():
  rng = np.random.default_rng(2)
  noise = noise_of(rng.normal(0, 0.01, (40, 1)) + rng.normal(0, 0.05, (40, 3)))
  assert noise.drowns_differences
  assert noise.reliability < 0.5


def test_rewards_without_any_difference():
  noise = noise_of(np.full((4, 3), 0.2))
  assert (noise.within, noise.between, noise.reliability) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("shape", [(1, 3), (3, 1)])
def test_noise_needs_two_of_each(shape):
  with pytest.raises(ValueError, match="two architectures and two seeds"):
    noise_of(np.zeros(shape))
