"""What a search has shown so far, in sentences, and what to do next."""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np

from official_nasfpn.search.proxy_check.noise import Noise
from official_nasfpn.search.recipe import SearchRecipe
from official_nasfpn.search.report.found import best_trials, confirmed_in_words
from official_nasfpn.search.report.noise import ConfirmedNoise
from official_nasfpn.search.report.setup_in_words import largest_entropy
from official_nasfpn.search.report.summary import Summary, is_stopped_early
from official_nasfpn.search.report.trade_offs import TradeOffs, sentences, value_of
from official_nasfpn.search.store.trial_store import Trial

# Thirds of fewer rewards could hardly be told apart.
_MIN_REWARDS = 15
_SIGNIFICANCE = 0.05
# Of the largest possible entropy.
_ALMOST_RANDOM = 0.98

# Architectures that the next step confirms.
_CONFIRM = 5

# What a person calls who learns; None learns nothing. Others go by their name.
_LEARNERS = {"PPO": "The controller", "RandomSearch": None}


def verdict(
  trials: Sequence[Trial],
  metrics: Mapping[int, Mapping[str, float]],
  recipe: SearchRecipe,
  noise: Noise | ConfirmedNoise | None,
  found: TradeOffs | None = None,
  curves: Mapping[int, Sequence[tuple[float, float]]] | None = None,
) -> list[str]:
  """Returns what a search has shown, in some sentences.

  A trial that was stopped early has the reward of its stop, which is compared with no other.

  Args:
    trials: all of it.
    metrics: what each update's learning measured, by update.
    recipe: of the search.
    noise: of a reward; None where it is unknown.
    found: the front, where the search has several objectives.
    curves: the intermediate rewards of trials, as `TrialStore.reward_curves` returns them.
  """
  if not trials:
    return ["No architecture has been proposed yet."]
  ranking = best_trials(trials)
  if not ranking:
    ended = sum(trial.is_finished for trial in trials)
    if ended:
      return [f"No trial has a reward: all {ended} that have ended failed. The reasons are below."]
    return ["No trial has ended yet."]
  if ranking[0].reward <= 0:
    return [
      f"Nothing was learnt: none of {len(ranking)} trials found an object, so no architecture is "
      "better than another."
    ]
  about = _about_confirmed if ranking[0].further_rewards else _about_the_best
  if found is not None:
    # Rewards do not show whether it learns: it seeks cheap architectures, too.
    return [*sentences(found), about(ranking, noise)]
  return [about(ranking, noise), *_about_learning(trials, metrics, recipe, curves or {})]


def next_steps(
  summary: Summary,
  recipe: SearchRecipe,
  noise: Noise | ConfirmedNoise | None,
  search_dir: Path,
  found: TradeOffs | None = None,
) -> list[tuple[str, str]]:
  """Returns what to do next: pairs of what for, and the command, one a line.

  Args:
    summary: of the search.
    recipe: of the search.
    noise: of a reward; None where it is unknown.
    search_dir: as a person would name it.
    found: the front, where the search has several objectives.
  """
  place = shlex.quote(str(search_dir))
  recipe_file = shlex.quote(str(search_dir / "recipe.gin"))
  if summary.status == "running":
    return [("Look again later:", f"nasfpn report --search_dir {place}")]
  if summary.status != "finished":
    return [("Go on where it stopped:", f"nasfpn search --search_dir {place}")]
  if not summary.best or summary.best.reward <= 0:
    return [
      (
        "Change the recipe, and see with two trials whether that helps:",
        f"nasfpn search --gin_file {recipe_file} --plan",
      )
    ]
  steps = []
  # What lies on a front is not confirmed.
  if not summary.best.further_rewards and len(recipe.search.objectives) == 1:
    steps.append(
      (
        f"Tell luck from merit: train the best {_CONFIRM} again with other seeds, and rank them by "
        "the mean:",
        f"nasfpn search --search_dir {place} --gin_param 'Search.confirm_top = {_CONFIRM}'",
      )
    )
  if noise is None:
    check_dir = shlex.quote(str(search_dir / "proxy_check"))
    target = shlex.quote(f"Training.epochs = {3 * recipe.experiment.training.epochs:g}")
    steps.append(
      (
        "Measure the noise of a reward, and write this report with it:",
        f"nasfpn proxy_check --gin_file {recipe_file} --target_gin_param {target} "
        f"--output_dir {check_dir}\n"
        f"nasfpn report --search_dir {place} --proxy_check {check_dir}",
      )
    )
  own = " and the size that was found" if recipe.space.has_sizes else ""
  steps.append(
    (
      f"Train the best at full size, with a recipe of your own{own}; {search_dir}#2 is the second:",
      f"nasfpn train --gin_file RECIPE --architecture {place} --model_dir RUN",
    )
  )
  if found is not None and found.on_front:
    within = shlex.quote(f"{search_dir}@{_example_budget(found)}")
    steps.append(
      (
        "Train the greatest AP within a budget at full size:",
        f"nasfpn train --gin_file RECIPE --architecture {within} --model_dir RUN",
      )
    )
  return steps


def _example_budget(found: TradeOffs) -> str:
  """Returns a budget that the middle of the front keeps, as a person would write it."""
  cost = found.costs[0]
  middle = value_of(found.on_front[len(found.on_front) // 2], cost) / cost.scale
  digits = max(1 - math.floor(math.log10(middle)), 0) if middle > 0 else 0
  return f"{math.ceil(middle * 10**digits) / 10**digits:.{digits}f}{cost.unit}"


def largest_by_chance(count: int) -> float:
  """Returns how far above their mean the largest of some equal normal values stays, in SDs.

  In 95 of 100 cases it does.

  Args:
    count: how many values.
  """
  return NormalDist().inv_cdf(0.95 ** (1 / count))


def level_with_the_best(rewards: Sequence[float], noise: Noise | ConfirmedNoise) -> int:
  """Returns how many rewards beside the best cannot be told from it (95 %)."""
  margin = indistinct_margin(noise)
  return sum(reward >= max(rewards) - margin for reward in rewards) - 1


def indistinct_margin(
  noise: Noise | ConfirmedNoise, num_seeds: int = 1, num_others: int = 1
) -> float:
  """Returns how far two mean rewards of equal architectures differ at most (95 %).

  Args:
    noise: of one reward.
    num_seeds: number of rewards in one mean.
    num_others: number of rewards in the other.
  """
  return 1.96 * math.sqrt(1 / num_seeds + 1 / num_others) * noise.within


def _about_the_best(ranking: Sequence[Trial], noise: Noise | ConfirmedNoise | None) -> str:
  whole, left_out = _whole(ranking)
  if not whole:
    return f"All {len(ranking)} trials with a reward were stopped early: none is to compare yet."
  best, count = whole[0], len(whole)
  if count == 1:
    return (
      f"One trial has a reward, {best.reward:.4f}{left_out}: there is nothing to compare it with "
      "yet."
    )
  rewards = [trial.reward for trial in whole]
  gap = best.reward - float(np.median(rewards))
  of_whole = " of a whole training" if left_out else ""
  the_best = f"The best reward{of_whole}, {best.reward:.4f} of trial {best.number}, is"
  if noise is None:
    return (
      f"{the_best} {gap:.4f} above the median of {count} trials{left_out}. How far two trainings "
      "of one architecture differ is not known here, so rewards that lie close together may differ "
      "by chance."
    )
  chance = largest_by_chance(count)
  text = (
    f"{the_best} {gap / noise.within:.1f} times the noise ({noise.within:.4f}) above the median of "
    f"{count} trials{left_out}"
  )
  if gap <= chance * noise.within:
    return (
      f"{text}. The best of {count} equal architectures could be {chance:.1f} times by chance, so "
      "none is shown to be better than another."
    )
  others = _come(level_with_the_best(rewards, noise), "other")
  return f"{text}, more than chance explains; {others} so close that they cannot be told apart."


def _about_confirmed(ranking: Sequence[Trial], noise: Noise | ConfirmedNoise | None) -> str:
  confirmed = [trial for trial in ranking if trial.further_rewards]
  best, count = confirmed[0], len(confirmed)
  again = "the best one was" if count == 1 else f"the best {count} were"
  # No line ends between the two signs.
  result = confirmed_in_words(best).replace("+-", "±")
  text = (
    f"Of {len(ranking)} trials with a reward {again} trained again with other seeds. Trial "
    f"{best.number} {'has' if count == 1 else 'leads:'} {result}."
  )
  first = math.fsum(trial.reward for trial in confirmed) / count
  further = math.fsum(np.mean(trial.further_rewards) for trial in confirmed) / count
  if further < first:
    those = "It fell" if count == 1 else "On average they fell"
    text += (
      f" {those} from {first:.4f} at first to {further:.4f} in further trainings: the difference "
      "is luck."
    )
  if noise is None:
    return (
      f"{text} How far two trainings of one architecture differ is not known here: it takes "
      "two further trainings of one (Search.confirm_seeds = 2 or more)."
    )
  # The first reward may be luck, so the best is compared with the others by its further ones.
  whole, left_out = _whole(ranking)
  gap = float(np.mean(best.further_rewards)) - float(np.median([t.reward for t in whole]))
  spread = noise.within / math.sqrt(len(best.further_rewards))
  chance = largest_by_chance(count)
  text += (
    f" The best is, by its further trainings, {gap / spread:.1f} times their noise above the "
    f"median of all trials{left_out} (the noise of one reward is {noise.within:.4f}), "
  )
  if gap <= chance * spread:
    return f"{text}no more than chance explains: none is shown to be better than another."
  level = sum(
    best.mean_reward - trial.mean_reward
    < indistinct_margin(noise, len(best.rewards), len(trial.rewards))
    for trial in confirmed[1:]
  )
  if count == 1:
    return f"{text}more than chance explains."
  others = _come(level, "other confirmed")
  return f"{text}more than chance explains; {others} so close that they cannot be told apart."


def _whole(ranking: Sequence[Trial]) -> tuple[list[Trial], str]:
  """Returns the trials that were not stopped early, and in words how many others there are."""
  whole = [trial for trial in ranking if not is_stopped_early(trial)]
  count = len(ranking) - len(whole)
  if not count:
    return whole, ""
  are, were = ("is", "was") if count == 1 else ("are", "were")
  return whole, f" ({count} that {were} stopped early {are} left out)"


def _come(count: int, which: str) -> str:
  """Returns how many trials come, as the begin of a sentence."""
  if count == 1:
    return f"one {which} trial comes"
  return f"{count or 'no'} {which} trial{'s come' if count else ' comes'}"


def _about_learning(
  trials: Sequence[Trial],
  metrics: Mapping[int, Mapping[str, float]],
  recipe: SearchRecipe,
  curves: Mapping[int, Sequence[tuple[float, float]]],
) -> list[str]:
  name = recipe.search.algorithm_name
  learner = _LEARNERS.get(name, name)
  if learner is None:
    return []
  # Repeated architectures count: what is sampled shows what has been learnt.
  rewarded = [trial for trial in trials if trial.reward is not None]
  rewards, when = [trial.reward for trial in rewarded], ""
  if any(map(is_stopped_early, trials)):
    share = min(recipe.search.early_stopping_shares)
    rewards = _rewards_at(share, rewarded, curves)
    when = f" after {share:.0%} of the training"
  if len(rewards) < _MIN_REWARDS:
    return [f"{learner} is not judged before {_MIN_REWARDS} rewards{when}."]
  if when:
    when += ", before any was stopped,"
  third = len(rewards) // 3
  first, last = rewards[:third], rewards[-third:]
  medians = f"from {np.median(first):.4f} in the first third of the trials to {np.median(last):.4f}"
  # Loaded only where it is needed: it takes longer than the whole report of a short search.
  from scipy.stats import mannwhitneyu

  if mannwhitneyu(last, first, alternative="greater").pvalue < _SIGNIFICANCE:
    return [f"{learner} learns: the median reward{when} rose {medians} in the last."]
  text = f"{learner} has learnt nothing yet: the median reward{when} went {medians} in the last"
  measured = [update for update in metrics if "entropy" in metrics[update]]
  if measured:
    share = metrics[max(measured)]["entropy"] / largest_entropy(recipe.space)
    if share >= _ALMOST_RANDOM:
      text += f", and its choices are almost random (entropy {share:.1%} of the largest)"
  return [f"{text}."]


def _rewards_at(
  share: float, trials: Sequence[Trial], curves: Mapping[int, Sequence[tuple[float, float]]]
) -> list[float]:
  """Returns the rewards that trials had after a share of their training, where it was measured.

  Of trials that are stopped early, only those at the first stop show what is learnt. The rewards
  that they end with favour the first trials, of which none is stopped; those of whole trainings
  alone favour the last, of which the worst are missing.
  """
  measured = {
    number: value for number, curve in curves.items() for at, value in curve if at == share
  }
  # A reused trial has no curve of its own.
  numbers = [t.number if t.reused_from is None else t.reused_from for t in trials]
  return [measured[number] for number in numbers if number in measured]
