"""What a report says of made-up searches of each kind, and what it tells to do next."""

import dataclasses
import math
import random
import shlex

import numpy as np
import pytest

from official_nasfpn.search.proxy_check.noise import Noise
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.report.noise import noise_of_confirmations
from official_nasfpn.search.report.summary import summarize
from official_nasfpn.search.report.verdict import largest_by_chance, next_steps, verdict
from official_nasfpn.search.store.trial_store import (
  DONE,
  FAILED,
  QUEUED,
  REUSED,
  RUNNING,
  Trial,
)
from official_nasfpn.search.workers.early_stopping import is_hopeless

NOISE = Noise(
  within=0.01, between=0.05, seed=0.0, reliability=0.96, num_architectures=6, num_seeds=3
)
BINDINGS = ("Search.num_trials = 60", "Training.epochs = 10")
PPO = read_recipe(gin_params=BINDINGS)


def trial(number, reward=None, state=DONE, failure=None, lease_expires=None):
  return Trial(
    number=number,
    update=1,
    choices=(),
    log_probs=(),
    architecture_hash=str(number),
    architecture="",
    state=state,
    reused_from=None,
    attempt=1,
    deaths=0,
    worker="worker",
    lease_expires=lease_expires,
    progress=0.0,
    reward=reward,
    failure=failure,
    diverged=False,
    proposed_at=0.0,
    started_at=0.0,
    finished_at=None if state in (QUEUED, RUNNING) else 1.0,
    seconds=1.0,
    metrics={},
    learnt_in=None,
  )


def searched(rewards):
  return [trial(number, reward) for number, reward in enumerate(rewards, start=1)]


def noisy(count, seed=0, rise=0.0):
  """Returns rewards of equal architectures, or of such that get better by `rise` in all."""
  rng = random.Random(seed)
  return [0.3 + rise * index / count + rng.gauss(0, NOISE.within) for index in range(count)]


def said(trials, metrics=None, recipe=PPO, noise=None, curves=None):
  return " ".join(verdict(trials, metrics or {}, recipe, noise, curves=curves))


def stopped_by_the_median_rule(rewards, kept, seed=0):
  """Returns trials of which some are stopped early, and their curves.

  Args:
    rewards: that the trials would have after their whole training.
    kept: how much of the differences between rewards shows in those before, in [0, 1].
    seed: of the other part of the differences.
  """
  rng = random.Random(f"on the way {seed}")
  mean, spread = np.mean(rewards), np.std(rewards)
  so_far = {share: [] for share in PPO.search.early_stopping_shares}
  trials, curves = [], {}
  for one in searched(rewards):
    curves[one.number] = []
    for share, others in so_far.items():
      luck = math.sqrt(1 - kept**2) * rng.gauss(0, spread)
      value = share * mean + kept * (one.reward - mean) + luck
      curves[one.number].append((share, value))
      stops = is_hopeless(value, others, 0.5, 10)
      others.append(value)
      if stops:
        one = dataclasses.replace(one, reward=value, metrics={"stopped_at": share})
        break
    trials.append(one)
  return trials, curves


def test_before_there_is_a_reward():
  assert said([]) == "No architecture has been proposed yet."
  assert said([trial(1, state=RUNNING)]) == "No trial has ended yet."
  failures = [trial(number, state=FAILED, failure="NaN") for number in (1, 2)]
  assert said([*failures, trial(3, state=QUEUED)]).startswith(
    "No trial has a reward: all 2 that have ended failed."
  )


def test_nothing_was_learnt():
  assert said(searched([0.0] * 20)).startswith("Nothing was learnt: none of 20 trials found")


def test_one_reward_is_compared_with_nothing():
  assert said(searched([0.25])).startswith("One trial has a reward, 0.2500: there is nothing")


def test_unknown_noise_is_said():
  text = said(searched([0.0437, 0.0458, 0.0430]))
  assert "The best reward, 0.0458 of trial 2, is 0.0021 above the median of 3 trials." in text
  assert "How far two trainings of one architecture differ is not known here" in text


@pytest.mark.parametrize("count", [2, 10, 300])
def test_the_best_of_equal_architectures_is_mostly_called_chance(count):
  called = [
    "none is shown to be better" in said(searched(noisy(count, seed)), noise=NOISE)
    for seed in range(200)
  ]
  assert sum(called) >= 180


def test_the_largest_of_equal_values():
  rng = np.random.default_rng(0)
  largest = rng.standard_normal((20_000, 40)).max(axis=1)
  assert largest_by_chance(40) == pytest.approx(np.quantile(largest, 0.95), abs=0.02)


def test_a_best_beyond_chance_is_said_with_those_level_with_it():
  text = said(searched([*[0.2] * 20, 0.30, 0.29, 0.25]), noise=NOISE)
  assert "is 10.0 times the noise (0.0100) above the median of 23 trials, more than chance" in text
  assert "one other trial comes so close that they cannot be told apart" in text


class TestStoppedEarly:
  def test_those_that_were_stopped_are_compared_with_none_and_counted(self):
    whole = searched([*[0.3] * 20, 0.31])
    stopped = [
      dataclasses.replace(trial(number, 0.1), metrics={"stopped_at": 0.34})
      for number in range(22, 62)
    ]
    text = said([*whole, *stopped], noise=NOISE)
    assert text.startswith(
      "The best reward of a whole training, 0.3100 of trial 21, is 1.0 times the noise (0.0100) "
      "above the median of 21 trials (40 that were stopped early are left out). The best of 21 "
    )
    text = said([*whole, stopped[0]])
    assert "0.0100 above the median of 21 trials (1 that was stopped early is left out). " in text
    assert said([whole[0], *stopped]).startswith(
      "One trial has a reward, 0.3000 (40 that were stopped early are left out): there is nothing"
    )
    assert said(stopped).startswith("All 40 trials with a reward were stopped early")
    again = dataclasses.replace(whole[-1], further_rewards=(0.31, 0.31))
    text = said([*whole[:-1], again, *stopped], noise=NOISE)
    assert "1.4 times their noise above the median of all trials (40 that were" in text

  @pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
  def test_the_best_of_equal_architectures_is_mostly_called_chance(self, kept):
    called = 0
    for seed in range(50):
      trials, curves = stopped_by_the_median_rule(noisy(60, seed), kept, seed)
      assert sum("stopped_at" in one.metrics for one in trials) > 15
      called += "none is shown to be better" in said(trials, noise=NOISE, curves=curves)
    assert called >= 45

  @pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
  def test_what_has_learnt_nothing_is_mostly_called_so(self, kept):
    """Rewards of stops say the contrary of what those of whole trainings say: neither is asked."""
    called = 0
    for seed in range(50):
      trials, curves = stopped_by_the_median_rule(noisy(60, seed), kept, seed)
      called += (
        "learnt nothing yet: the median reward after 34% of the training, before any was"
        in (said(trials, curves=curves))
      )
    assert called >= 44

  def test_a_controller_that_learns_is_said_to(self):
    for seed in range(20):
      trials, curves = stopped_by_the_median_rule(noisy(60, seed, rise=0.1), 0.9, seed)
      text = said(trials, curves=curves)
      assert "The controller learns: the median reward after 34% of the training, before" in text

  def test_a_reused_trial_has_the_curve_of_the_one_that_it_repeats(self):
    trials, curves = stopped_by_the_median_rule(noisy(20), 0.9)
    worst = min(trials, key=lambda one: one.reward)
    assert "stopped_at" in worst.metrics
    reused = [
      dataclasses.replace(worst, number=number, state=REUSED, reused_from=worst.number, metrics={})
      for number in range(21, 61)
    ]
    _, value = curves[worst.number][0]
    assert f"to {value:.4f} in the last" in said([*trials, *reused], curves=curves)
    # Without curves, such as those of another store, nothing is said of learning.
    assert "is not judged before 15 rewards after 34% of the training" in said(trials)


def confirmed(rewards, *further):
  """Returns trials, of which the first have confirmations."""
  trials = searched(rewards)
  return [
    dataclasses.replace(one, further_rewards=again)
    for one, again in zip(trials, (*further, *[()] * len(trials)), strict=False)
  ]


class TestConfirmed:
  def test_the_luck_of_first_rewards_is_said_and_the_mean_leads(self):
    trials = confirmed([0.34, 0.33, *[0.2] * 20], (0.30, 0.29), (0.315, 0.321))
    noise = noise_of_confirmations(trials)
    text = said(trials, noise=noise)
    assert text.startswith(
      "Of 22 trials with a reward the best 2 were trained again with other seeds. Trial 2 leads: "
      "first reward 0.3300, confirmed 0.3220 ± 0.0075 over 3 seeds. On average they fell "
      "from 0.3350 at first to 0.3065 in further trainings: the difference is luck."
    )
    assert noise.within == pytest.approx(math.sqrt(0.005**2 + 0.003**2))
    assert f"(the noise of one reward is {noise.within:.4f}), more than chance explains" in text
    assert "no other confirmed trial comes so close that" in text

  def test_one_further_seed_measures_no_noise(self):
    trials = confirmed([0.34, 0.33, *[0.2] * 20], (0.30,), (0.31,))
    assert noise_of_confirmations(trials) is None
    assert "is not known here: it takes two further trainings of one" in said(trials)

  def test_where_first_rewards_were_no_luck_nothing_is_called_so(self):
    text = said(confirmed([0.3, 0.2, 0.2], (0.31, 0.33)), noise=NOISE)
    assert "the best one was trained again" in text
    assert "luck" not in text

  def test_confirmed_ones_that_are_alike_are_not_told_apart(self):
    text = said(confirmed([0.31, 0.3, *[0.2] * 9], (0.3, 0.3), (0.3, 0.3)), noise=NOISE)
    assert "one other confirmed trial comes so close that they cannot be told apart" in text

  @pytest.mark.parametrize("count", [20, 200])
  def test_the_best_of_equal_architectures_is_mostly_called_chance(self, count):
    called = 0
    for seed in range(100):
      rng = random.Random(f"further {seed}")
      rewards = sorted(noisy(count, seed), reverse=True)
      further = [tuple(0.3 + rng.gauss(0, NOISE.within) for _ in range(2)) for _ in range(5)]
      called += "none is shown to be better" in said(confirmed(rewards, *further), noise=NOISE)
    assert called >= 90

  def test_the_noise_is_pooled_over_further_rewards(self):
    rng = random.Random(0)
    assert noise_of_confirmations(searched([1.0] * 5)) is None
    further = [tuple(0.3 + rng.gauss(0, 0.01) for _ in range(3)) for _ in range(500)]
    # First rewards, by which these were chosen, would make it ten times as large.
    noise = noise_of_confirmations(confirmed([0.5] * 500, *further))
    assert noise.within == pytest.approx(0.01, rel=0.05)
    assert (noise.num_architectures, noise.num_rewards) == (500, 1500)
    assert noise_of_confirmations(confirmed([0.5], (0.3, 0.3))) is None


def test_a_controller_that_learns():
  text = said(searched(noisy(60, rise=0.1)))
  assert "The controller learns: the median reward rose from " in text


def test_a_controller_that_has_learnt_nothing_and_still_draws_at_random():
  largest = math.log(PPO.space.size) / len(PPO.space.decisions)
  trials = searched(noisy(60))
  text = said(trials, {1: {"entropy": largest}, 2: {"entropy": 0.999 * largest}})
  assert "The controller has learnt nothing yet: the median reward went from " in text
  assert "its choices are almost random (entropy 99.9% of the largest)" in text
  assert "almost random" not in said(trials, {2: {"entropy": 0.5 * largest}})


def test_other_algorithms_are_judged_by_what_they_are():
  trials = searched(noisy(60))
  evolution, random_search = (
    read_recipe(gin_params=[*BINDINGS, f"Search.algorithm = @{name}()"])
    for name in ("Evolution", "RandomSearch")
  )
  assert "Evolution has learnt nothing yet" in said(trials, recipe=evolution)
  assert "learn" not in said(trials, recipe=random_search)


def test_few_rewards_are_no_ground_to_judge_on():
  assert "The controller is not judged before 15 rewards." in said(searched(noisy(14)))


class TestNextSteps:
  def commands(self, trials, tmp_path, noise=None, now=10.0):
    summary = summarize(trials, PPO.search.num_trials, now)
    steps = next_steps(summary, PPO, noise, tmp_path)
    return [line for _, command in steps for line in command.splitlines()]

  def test_of_a_search_that_stopped_runs_or_found_nothing(self, tmp_path):
    assert self.commands([], tmp_path) == [f"nasfpn search --search_dir {tmp_path}"]
    assert self.commands(searched([0.5]), tmp_path) == [f"nasfpn search --search_dir {tmp_path}"]
    running = [trial(1, state=RUNNING, lease_expires=11.0)]
    assert self.commands(running, tmp_path) == [f"nasfpn report --search_dir {tmp_path}"]
    plan = [f"nasfpn search --gin_file {tmp_path}/recipe.gin --plan"]
    assert self.commands(searched([0.0] * 60), tmp_path) == plan
    failures = [trial(number, state=FAILED, failure="NaN") for number in range(60)]
    assert self.commands(failures, tmp_path) == plan

  def test_of_a_finished_one(self, tmp_path):
    trials = searched(noisy(60))
    confirm, check, report, train = self.commands(trials, tmp_path)
    assert confirm.endswith("--gin_param 'Search.confirm_top = 5'")
    assert check.startswith("nasfpn proxy_check ")
    assert "'Training.epochs = 30'" in check
    assert report.endswith(f"--proxy_check {tmp_path}/proxy_check")
    assert train == f"nasfpn train --gin_file RECIPE --architecture {tmp_path} --model_dir RUN"
    assert self.commands(trials, tmp_path, NOISE) == [confirm, train]
    again = dataclasses.replace(trials[0], reward=1.0, further_rewards=(0.5, 0.25))
    assert self.commands([again, *trials[1:]], tmp_path, NOISE) == [train]

  def test_a_folder_of_any_name_is_one_argument(self, tmp_path):
    folder = tmp_path / 'it\'s <b> & "more"'
    for command in self.commands(searched(noisy(60)), folder):
      assert any(argument.startswith(str(folder)) for argument in shlex.split(command))

  @pytest.mark.slow
  def test_every_flag_is_there(self, tmp_path, run_program):
    commands = [
      *self.commands(searched(noisy(60)), tmp_path),
      *self.commands([], tmp_path),
      *self.commands(searched([0.0] * 60), tmp_path),
    ]
    for command in commands:
      _, program, *arguments = shlex.split(command)
      text = run_program(program, "--help").stdout
      for flag in (argument for argument in arguments if argument.startswith("--")):
        assert f"  {flag}:" in text or f"  --[no]{flag[2:]}:" in text, command
