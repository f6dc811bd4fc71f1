"""The charts of the report, from what is known of a search."""

from collections.abc import Mapping, Sequence

import numpy as np

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.reporting.chart import Band, Chart, Link, Series, make_chart
from official_nasfpn.search.objectives import AP
from official_nasfpn.search.proxy_check.noise import Noise
from official_nasfpn.search.report.html.table import TrialRow
from official_nasfpn.search.report.noise import ConfirmedNoise
from official_nasfpn.search.report.reward_curve import RewardCurve
from official_nasfpn.search.report.setup_in_words import largest_entropy
from official_nasfpn.search.report.summary import Summary
from official_nasfpn.search.report.trade_offs import TradeOffs, text_of, value_of
from official_nasfpn.search.report.verdict import indistinct_margin

# Points of the chart that lead to their row, beside the front: more would make the page slow.
_NUM_LINKS = 300
# The axis of costs spans at least this share of them.
_COST_SPAN = 0.1


def reward_chart(
  curve: RewardCurve, summary: Summary, noise: Noise | ConfirmedNoise | None
) -> Chart | None:
  """Returns the rewards over trials, from 0, with those that are level with the best marked."""
  # Where all rewards are 0, none is the best.
  best = summary.best if summary.best and summary.best.reward > 0 else None
  band = None
  if noise and best:
    low = best.mean_reward - indistinct_margin(noise, len(best.rewards))
    band = Band("not to be told from the best", low, best.mean_reward)
  over = f" over {len(best.rewards)} seeds" if best and best.further_rewards else ""
  return make_chart(
    "Reward over trials",
    f"The best is {best.mean_reward:.4f}{over}, trial {best.number}."
    if best
    else "No reward is above 0.",
    "trial",
    "reward",
    [
      Series("trial", "dots", "quiet", curve.numbers, curve.rewards),
      Series(f"mean of the last {curve.window}", "line", "first", curve.numbers, curve.means),
      Series("best so far", "steps", "second", curve.numbers, curve.bests),
    ],
    band=band,
    whole_x=True,
    y_range=_from_zero(curve.rewards),
  )


def cost_chart(rows: Sequence[TrialRow], front: Sequence[int], of_what: str) -> Chart | None:
  """Returns the rewards over multiply-adds; None where all cost the same.

  Args:
    rows: that have a rank and multiply-adds, the best first.
    front: the indices of those that none beats, by rising cost.
    of_what: the multiply-adds are.
  """
  costs = np.array([row.multiply_adds / 1e6 for row in rows])
  if len(set(costs)) < 2:
    return None
  rewards = np.array([row.trial.reward for row in rows])
  return _linked_chart(
    "Reward over multiply-adds",
    (f"multiply-adds of {of_what} on one image, millions", "reward"),
    [row.trial.number for row in rows],
    costs,
    rewards,
    front,
    [f"reward {reward:.4f}, {cost:,.1f} M" for reward, cost in zip(rewards, costs, strict=True)],
    ("front: no other has as much reward for as little", "steps"),
  )


def front_charts(found: TradeOffs) -> list[Chart]:
  """Returns the AP over each cost with the front to click on, and the hypervolume over trials.

  Args:
    found: of a search with several objectives.
  """
  if not found.trials:
    return []
  # The best first: of many trials these are the ones to click on.
  trials = sorted(found.trials, key=lambda trial: -value_of(trial, AP))
  places = {trial.number: index for index, trial in enumerate(trials)}
  front = [places[trial.number] for trial in found.on_front]
  aps = np.array([value_of(trial, AP) for trial in trials])
  texts = [", ".join(f"{o.label} {text_of(t, o)}" for o in found.objectives) for t in trials]
  charts = []
  for cost in found.costs:
    # With a second cost a trial of the front may lie below others here.
    kind = "steps" if len(found.costs) == 1 else "dots"
    chart = _linked_chart(
      f"AP over {cost.label}",
      (cost.axis, "AP"),
      [trial.number for trial in trials],
      np.array([value_of(trial, cost) / cost.scale for trial in trials]),
      aps,
      front,
      texts,
      (f"front: no other beats it in {found.names}", kind),
    )
    charts.append(chart)
  volumes = make_chart(
    "Hypervolume over trials",
    f"It ends at {found.hypervolume:.4f}.",
    "trial",
    "hypervolume",
    [Series("", "steps", "second", np.array([t.number for t in found.trials]), found.volumes)],
    whole_x=True,
    y_range=_from_zero(found.volumes),
  )
  return [chart for chart in (*charts, volumes) if chart]


def _linked_chart(
  title: str,
  labels: tuple[str, str],
  numbers: Sequence[int],
  costs: np.ndarray,
  values: np.ndarray,
  front: Sequence[int],
  texts: Sequence[str],
  legend: tuple[str, str],
) -> Chart | None:
  """Returns a chart of values over costs whose points lead to the rows of their trials.

  Args:
    title: of the chart.
    labels: of the axes.
    numbers: of the trials, the best first, [N].
    costs: theirs, [N].
    values: theirs, [N].
    front: indices of the trials to mark.
    texts: what each point says of itself, [N].
    legend: what the marked ones are called, and the `Series.kind` that joins them.
  """
  marked = set(front)
  linked = [i for i in range(min(_NUM_LINKS, len(numbers))) if i not in marked] + [*front]
  shown = set(linked)
  rest = [i for i in range(len(numbers)) if i not in shown]
  links = [
    Link(
      costs[index],
      values[index],
      f"trial-{numbers[index]}",
      f"trial {numbers[index]}: {texts[index]}",
      prominent=index in marked,
    )
    for index in linked
  ]
  called, kind = legend
  return make_chart(
    title,
    f"{len(front)} of {len(numbers)} trials are on the front.",
    *labels,
    [
      Series("trial", "dots", "quiet", costs[rest], values[rest]),
      Series(called, kind, "second", costs[[*front]], values[[*front]]),
    ],
    links,
    x_span=_COST_SPAN * costs.mean(),
    y_range=_from_zero(values),
  )


def counts_chart(curve: RewardCurve, summary: Summary) -> Chart | None:
  """Returns how many architectures were sampled, unique, trained; None where none is trained."""
  if not summary.trained or summary.sampled == summary.trained:
    return None
  sampled = np.arange(1, summary.sampled + 1)
  # Of lines that coincide one is drawn.
  lines = [Series("sampled", "dashed", "quiet", sampled, sampled)]
  if summary.unique < summary.sampled:
    lines.append(Series("unique", "line", "first", sampled, curve.unique))
  lines.append(Series("trained", "line", "second", sampled, curve.trained))
  return make_chart(
    "Architectures over trials",
    f"{summary.sampled} sampled, {summary.unique} unique, {summary.trained} trained.",
    "trial",
    "architectures",
    lines,
    whole_x=True,
    y_range=(0.0, summary.sampled),
  )


def controller_charts(
  metrics: Mapping[int, Mapping[str, float]], space: SearchSpace, curve: RewardCurve
) -> list[Chart]:
  """Returns a curve of each thing that an algorithm measures of itself, on its natural range.

  One update makes no curve.
  """
  largest = largest_entropy(space)
  curves = {
    "entropy": (f"Entropy of a decision, nats (at most {largest:.2f})", (0.0, 1.04 * largest)),
    "approx_kl": ("KL divergence of an update, nats", (0.0, 0.02)),
    "clipped_share": ("Share of clipped ratios", (0.0, 0.5)),
    "baseline": ("Baseline of the rewards", _from_zero(curve.rewards)),
  }
  charts = []
  for name, (title, y_range) in curves.items():
    updates = [update for update in sorted(metrics) if name in metrics[update]]
    if len(updates) < 2:
      continue
    values = np.array([metrics[update][name] for update in updates])
    series = [Series("", "line", "first", np.array(updates), values)]
    described = f"From {values[0]:.4g} to {values[-1]:.4g}."
    chart = make_chart(title, described, "update", "", series, whole_x=True, y_range=y_range)
    charts += [chart] if chart else []
  return charts


def _from_zero(rewards: np.ndarray) -> tuple[float, float]:
  """Returns an axis of rewards on which small differences look small."""
  return 0.0, 1.05 * float(rewards.max(initial=0.0)) or 1.0
