"""The parts of the report, each from what is known of a search to markup."""

import datetime
import math
from collections.abc import Mapping, Sequence

import numpy as np

from official_nasfpn.progress import duration
from official_nasfpn.search.report.html.chart import Link, Series, draw_chart
from official_nasfpn.search.report.html.drawing import draw_pyramid_svg
from official_nasfpn.search.report.html.markup import NOTHING, Markup, element, join
from official_nasfpn.search.report.html.table import (
  PAGE_ROWS,
  TrialRow,
  costs_detector,
  millions,
  shown_state,
)
from official_nasfpn.search.report.pareto import pareto_front
from official_nasfpn.search.report.results import bests_so_far, spread
from official_nasfpn.search.report.reward_curve import reward_curve
from official_nasfpn.search.report.summary import Summary, cost_by_worker, group_failures
from official_nasfpn.search.store.trial_store import Trial

_NUM_DRAWINGS = 6
# Points of the chart that lead to their row, beside the front: more would make the page slow.
_NUM_LINKS = 300
_NUM_LISTED_TRIALS = 20

# What the controller's curves are called, by the name under which an algorithm measures them.
_CURVES = {
  "entropy": "Entropy of a decision, nats",
  "approx_kl": "KL divergence of an update, nats",
  "clipped_share": "Share of clipped ratios",
  "baseline": "Baseline of the rewards",
}


def beginning(summary: Summary, algorithm: str, now: float) -> Markup:
  parts = [join("Algorithm ", element("strong", algorithm))]
  if summary.begun_at is not None:
    parts.append(join("begun ", _time(summary.begun_at)))
  if summary.active_at is not None:
    ago = _duration(max(now - summary.active_at, 0) / 3600)
    parts.append(join("last activity ", _time(summary.active_at), f" ({ago} before this report)"))
  parts.append(join("report of ", _time(now)))
  return join(*(element("li", part) for part in parts))


def head(summary: Summary, rows: Mapping[int, TrialRow]) -> Markup:
  best = summary.best
  tiles = [
    ("best reward", f"{best.reward:.4f}" if best else NOTHING, _best_note(summary)),
    ("trials sampled", f"{summary.sampled:,}", f"of {summary.num_trials:,}"),
    ("unique architectures", f"{summary.unique:,}", _share(summary.unique, summary.sampled)),
    ("trained", f"{summary.trained:,}", _waiting(summary)),
    ("stopped early", f"{summary.stopped_early:,}", "of those trained"),
    ("reused", f"{summary.reused:,}", "repeat an earlier one"),
    ("failed", f"{summary.failed:,}", _share(summary.failed, summary.sampled)),
    ("worker time so far", _duration(summary.worker_hours), None),
    ("trials per hour", _one_decimal(summary.trials_per_hour), "while workers worked"),
    ("time left", _duration(summary.hours_left), "estimated, at this pace"),
    ("worker time left", _duration(summary.worker_hours_left), "estimated"),
  ]
  figures = element(
    "dl",
    *(
      element(
        "div",
        element("dt", name),
        element("dd", value, element("small", note) if note else None),
        class_="tile",
      )
      for name, value, note in tiles
    ),
    class_="tiles",
  )
  progress = element(
    "progress",
    value=summary.trained + summary.reused + summary.failed,
    max=summary.num_trials,
    aria_label="trials finished",
  )
  drawing = None
  # Where all rewards are 0 nothing was learnt, and none is the best.
  if best and best.reward > 0 and best.number in rows:
    label = f"The best architecture so far, trial {best.number}, reward {best.reward:.4f}"
    drawing = element(
      "figure",
      element("h2", "Best architecture so far"),
      draw_pyramid_svg(rows[best.number].spec, label),
      _legend(),
      class_="best",
    )
  return join(element("div", progress, figures), drawing)


def _best_note(summary: Summary) -> Markup | str:
  if summary.best is None:
    return "none yet"
  if summary.best.reward <= 0:
    return "nothing was learnt"
  number = summary.best.number
  return element("a", f"trial {number}", href=f"#trial-{number}")


def _waiting(summary: Summary) -> str | None:
  parts = ((summary.running, "in training"), (summary.queued, "waiting"))
  return ", ".join(f"{count:,} {what}" for count, what in parts if count) or None


def _share(part: int, whole: int) -> str | None:
  return f"{part / whole:.0%} of those sampled" if whole else None


def _legend() -> Markup:
  entries = (
    ("input", "input"),
    ("middle", "intermediate cell"),
    ("output", "output cell"),
    ("added", "added, not read before"),
  )
  return element(
    "ul",
    *(element("li", element("i", class_=kind), name) for kind, name in entries),
    class_="legend",
  )


def figure_5(trials: Sequence[Trial], summary: Summary) -> Markup:
  curve = reward_curve(trials)
  sampled = np.arange(1, len(trials) + 1)
  rewards = [
    Series("trial", "dots", "quiet", curve.numbers, curve.rewards),
    Series(f"mean of the last {curve.window}", "line", "first", curve.numbers, curve.means),
    Series("best so far", "steps", "second", curve.numbers, curve.bests),
  ]
  counts = [
    Series("sampled", "dashed", "quiet", sampled, sampled),
    Series("unique", "line", "first", sampled, curve.unique),
    Series("trained", "line", "second", sampled, curve.trained),
  ]
  best = summary.best
  described = f"The best is {best.reward:.4f}, trial {best.number}." if best else ""
  return join(
    draw_chart("Reward over trials", described, "trial", "reward", rewards, whole_x=True),
    draw_chart(
      "Architectures over trials",
      f"{summary.sampled} sampled, {summary.unique} unique, {summary.trained} trained.",
      "trial",
      "architectures",
      counts,
      whole_x=True,
    ),
  )


def pareto(rows: Sequence[TrialRow]) -> Markup:
  """Returns the chart of reward over multiply-adds; `rows` come the best first."""
  ranked = [row for row in rows if row.rank is not None and row.multiply_adds is not None]
  if not ranked:
    return join()
  what = "the detector" if costs_detector([row.trial for row in rows]) else "one pyramid"
  costs = [row.multiply_adds / 1e6 for row in ranked]
  rewards = [row.trial.reward for row in ranked]
  front = pareto_front(costs, rewards)
  linked = [i for i in range(min(_NUM_LINKS, len(ranked))) if i not in set(front)] + front
  links = [
    Link(
      costs[index],
      rewards[index],
      f"trial-{ranked[index].trial.number}",
      f"trial {ranked[index].trial.number}: reward {rewards[index]:.4f}, {costs[index]:,.1f} M",
      prominent=index in set(front),
    )
    for index in linked
  ]
  rest = [i for i in range(len(ranked)) if i not in set(linked)]
  at = np.array(front)
  series = [
    Series("trial", "dots", "quiet", np.array(costs)[rest], np.array(rewards)[rest]),
    Series(
      "front: no other has as much reward for as little",
      "steps",
      "second",
      np.array(costs)[at],
      np.array(rewards)[at],
    ),
  ]
  chart = draw_chart(
    "Reward over multiply-adds",
    f"{len(front)} of {len(ranked)} trials are on the front.",
    f"multiply-adds of {what} on one image, millions",
    "reward",
    series,
    links,
  )
  table = _plain_table(
    ("trial", "reward", "multiply-adds, M"),
    [
      (
        _trial_link(ranked[index].trial.number),
        f"{rewards[index]:.4f}",
        millions(ranked[index].multiply_adds),
      )
      for index in front
    ],
    numeric=(True, True, True),
    label="The front",
  )
  return _charts("Reward and cost", chart, element("figure", element("h3", "The front"), table))


def controller(metrics: Mapping[int, Mapping[str, float]]) -> Markup:
  charts = []
  for name, title in _CURVES.items():
    updates = [update for update in sorted(metrics) if name in metrics[update]]
    if updates:
      values = np.array([metrics[update][name] for update in updates])
      series = [Series("", "line", "first", np.array(updates), values)]
      described = f"From {values[0]:.4g} to {values[-1]:.4g}."
      charts.append(draw_chart(title, described, "update", "", series, whole_x=True))
  return _charts("Controller", *charts) if charts else join()


def _charts(title: str, *figures: Markup) -> Markup:
  charts = element("div", *figures, class_="charts")
  return element("section", element("h2", title), charts, aria_label=title)


def figure_7(trials: Sequence[Trial], rows: Mapping[int, TrialRow]) -> Markup:
  bests = [trial for trial in bests_so_far(trials) if trial.number in rows]
  if not bests:
    return element("p", "No trial has a reward yet.", class_="empty")
  figures = (
    element(
      "figure",
      draw_pyramid_svg(rows[trial.number].spec, f"Architecture of trial {trial.number}"),
      element("figcaption", _trial_link(trial.number, "trial "), f", reward {trial.reward:.4f}"),
    )
    for trial in spread(bests, _NUM_DRAWINGS)
  )
  return element("div", *figures, class_="drawings")


def table_note(rows: Sequence[TrialRow]) -> str:
  if len(rows) <= PAGE_ROWS:
    return ""
  return f"Without JavaScript these are the first {PAGE_ROWS} of {len(rows):,}."


def state_options(trials: Sequence[Trial]) -> Markup:
  states = sorted({shown_state(trial) for trial in trials})
  return join(*(element("option", state, value=state) for state in states))


def failures(trials: Sequence[Trial]) -> Markup:
  groups = group_failures(trials)
  if not groups:
    return element("p", "None.", class_="empty")
  return _plain_table(
    ("reason", "trials", "which"),
    [
      (
        join(group.reason, element("small", "and alike") if group.alike else None),
        f"{len(group.trials):,}",
        _trial_list(group.trials),
      )
      for group in groups
    ],
    numeric=(False, True, False),
    label="Failures",
  )


def workers(trials: Sequence[Trial]) -> Markup:
  costs = cost_by_worker(trials)
  if not costs:
    return element("p", "No trial has ended yet.", class_="empty")
  total = math.fsum(cost.hours for cost in costs)
  return _plain_table(
    ("worker", "trained", "failed", "hours", "share", "seconds a trial"),
    [
      (
        cost.worker,
        f"{cost.done:,}",
        f"{cost.failed:,}",
        f"{cost.hours:,.2f}",
        f"{cost.hours / total:.0%}" if total else NOTHING,
        f"{cost.hours * 3600 / (cost.done + cost.failed):,.1f}",
      )
      for cost in costs
    ],
    numeric=(False, True, True, True, True, True),
    label="Workers",
  )


def _plain_table(
  columns: Sequence[str],
  rows: Sequence[Sequence[object]],
  numeric: Sequence[bool],
  label: str,
) -> Markup:
  kinds = ["number" if flag else None for flag in numeric]
  head = (element("th", n, scope="col", class_=k) for n, k in zip(columns, kinds, strict=True))
  body = (
    element("tr", *(element("td", cell, class_=k) for cell, k in zip(row, kinds, strict=True)))
    for row in rows
  )
  table = element("table", element("thead", element("tr", *head)), element("tbody", *body))
  return element("div", table, class_="scroll tall", tabindex=0, role="region", aria_label=label)


def _trial_list(numbers: Sequence[int]) -> Markup:
  shown = numbers[:_NUM_LISTED_TRIALS]
  parts: list[object] = []
  for number in shown:
    parts += [", ", _trial_link(number)] if parts else [_trial_link(number)]
  if rest := len(numbers) - len(shown):
    parts.append(f" and {rest:,} more")
  return join(*parts)


def _trial_link(number: int, before: str = "") -> Markup:
  return element("a", f"{before}{number}", href=f"#trial-{number}")


def _time(seconds: float) -> Markup:
  moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
  return element("time", f"{moment:%Y-%m-%d %H:%M} UTC", datetime=f"{moment:%Y-%m-%dT%H:%M:%SZ}")


def _duration(hours: float | None) -> str:
  return NOTHING if hours is None else duration(3600 * hours)


def _one_decimal(value: float | None) -> str:
  return NOTHING if value is None else f"{value:,.1f}"
