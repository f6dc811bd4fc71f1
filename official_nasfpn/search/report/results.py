"""What a search leaves behind: the best architecture, its drawing, the reward curve, a table."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from official_nasfpn import architecture
from official_nasfpn.disk import write_text
from official_nasfpn.errors import UserError
from official_nasfpn.progress import duration
from official_nasfpn.reporting.code_version import code_version
from official_nasfpn.search import storage
from official_nasfpn.search.report.found import (
  NOTHING_LEARNT,
  best_trials,
  confirmed_in_words,
  failed_confirmations_in_words,
  nothing_learnt,
)
from official_nasfpn.search.report.trade_offs import (
  TradeOffs,
  sentences,
  size_names,
  text_of,
  trade_offs,
)
from official_nasfpn.search.store.trial import DONE, FAILED, Overview, Trial
from official_nasfpn.search.workers.launcher import hint_of

# Of the overview, in `result.json`.
_COUNTS = ("sampled", "unique", "trained", "failed", "worker_hours")


def bests_so_far(trials: Sequence[Trial]) -> list[Trial]:
  """Returns the trials that had a greater reward than every one before, in order."""
  bests: list[Trial] = []
  for trial in trials:
    if trial.state == DONE and (not bests or trial.reward > bests[-1].reward):
      bests.append(trial)
  return bests


def spread(trials: Sequence[Trial], count: int) -> list[Trial]:
  """Returns at most `count` trials, evenly over all, the first and the last among them."""
  count = min(len(trials), count)
  step = (len(trials) - 1) / max(count - 1, 1)
  return [trials[round(index * step)] for index in range(count)]


def write_results(
  trials: Sequence[Trial],
  search_dir: Path,
  confirmations: Sequence[Trial] = (),
  objectives: Sequence[str] = ("AP",),
) -> None:
  """Writes `best_architecture.gin`, `.png`, `reward_curve.png` and, last, `result.json`.

  With several objectives there is `front.png`, too, and the front in `result.json`.

  Where nothing was learnt, so that no architecture is the best, it is that of the first trial with
  a reward, and the files say so: whoever goes on with them has a training of some pyramid at least.

  Args:
    trials: all of a search.
    search_dir: of the search.
    confirmations: all of the search.
    objectives: of the search, `Search.objectives`.

  Raises:
    UserError: no trial gave a reward.
  """
  # Whoever prints a table needs no Matplotlib, whose import takes longer.
  from official_nasfpn.architecture.diagram import draw_pyramid
  from official_nasfpn.search.report.reward_curve import draw_reward_curve

  overview = overview_of(trials, confirmations=confirmations)
  ranking = overview.best
  if not ranking:
    reasons = [trial.failure for trial in trials if trial.state == FAILED]
    raise UserError(
      f"None of the {len(trials)} trials in {search_dir} gave a reward. The first failed because: "
      f"{reasons[0]}. {hint_of(reasons[0]) or 'Mend that, then search in a new --search_dir.'}"
    )
  best = ranking[0]
  spec = architecture.from_gin(best.architecture)
  search = search_dir.resolve().name
  size = [spec.size_name] if spec.size_name else []
  which = (
    f"No trial of the search {search} has a reward above 0, so none is the best of {len(trials)}: "
    "this is merely"
    if nothing_learnt(trials)
    else f"The best of {len(trials)} trials of the search {search}:"
  )
  confirmed = f"# Trained again: {confirmed_in_words(best)}.\n" if best.further_rewards else ""
  provenance = (
    f"# {which} trial {best.number}, reward {best.mean_reward:.6g}.\n{confirmed}"
    f"# Architecture {best.architecture_hash}; official_nasfpn {code_version()}.\n"
  )
  write_text(search_dir / "best_architecture.gin", provenance + architecture.to_gin(spec))
  draw_pyramid(
    spec,
    search_dir / "best_architecture.png",
    title=", ".join([f"{search}, trial {best.number}, reward {best.mean_reward:.4f}", *size]),
  )
  draw_reward_curve(trials, search_dir / "reward_curve.png", title=_title(trials, search))
  result = {
    "trial": best.number,
    "reward": best.mean_reward,
    "first_reward": best.reward,
    "num_seeds": len(best.rewards),
    "deviation": best.deviation,
    "architecture_hash": best.architecture_hash,
    "nothing_learnt": nothing_learnt(trials),
    **{name: getattr(overview, name) for name in _COUNTS},
    "confirmed": [
      {"trial": trial.number, "rewards": [*trial.rewards]}
      for trial in best_trials(trials)
      if trial.further_rewards
    ],
    "failed_confirmations": len(overview.failed_confirmations),
  }
  if found := trade_offs(trials, objectives):
    from official_nasfpn.search.report.front_figure import draw_front

    if found.trials:
      draw_front(found, search_dir / "front.png", title=f"Search {search}: {found.names}")
    result |= _front_as_json(found)
  write_text(search_dir / "result.json", json.dumps(result, indent=2) + "\n")


def _front_as_json(found: TradeOffs) -> dict[str, object]:
  return {
    "objectives": [each.name for each in found.objectives],
    "hypervolume": found.hypervolume,
    "hypervolume_reference": dict(found.reference),
    "front": [
      {"trial": trial.number, "architecture_hash": trial.architecture_hash, **trial.metrics}
      for trial in found.on_front
    ],
    "sizes": size_names(found.on_front),
    "notes": sentences(found),
  }


def front_table(found: TradeOffs, search_dir: Path) -> str:
  """Returns the front of a search as text, the cheapest first."""
  sizes = size_names(found.on_front)
  rows = [[each.label for each in found.objectives] + ["trial", "architecture"]]
  for trial in found.on_front:
    path = storage.trial_dir(search_dir, trial.number) / "architecture.gin"
    values = [text_of(trial, each) for each in found.objectives]
    rows.append([*values, str(trial.number), str(path)])
  if sizes:
    rows = [[*row[:-2], size, *row[-2:]] for row, size in zip(rows, ["size", *sizes], strict=True)]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = sentences(found)
  if found.on_front:
    for *cells, path in rows:
      padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=False)]
      lines.append(f"  {'  '.join(padded)}  {path}")
    lines += [f"latency on {place}" for place in found.places]
  return "\n".join(lines)


def _title(trials: Sequence[Trial], search: str) -> str:
  if sum(trial.state == DONE for trial in trials) == len(trials) > 1:
    return f"Search {search}: {len(trials)} architectures, all different, all trained"
  return f"Search {search}: {len(trials)} trial{'' if len(trials) == 1 else 's'}"


def overview_of(
  trials: Sequence[Trial], num_best: int = 3, confirmations: Sequence[Trial] = ()
) -> Overview:
  """Returns what `TrialStore.overview` does, of trials that have been read."""
  return Overview(
    sampled=len(trials),
    unique=len({trial.architecture_hash for trial in trials}),
    trained=sum(trial.state == DONE for trial in trials),
    failed=sum(trial.state == FAILED for trial in trials),
    unfinished=sum(not trial.is_finished for trial in trials),
    worker_hours=math.fsum(trial.seconds or 0.0 for trial in (*trials, *confirmations)) / 3600,
    best=tuple(best_trials(trials)[:num_best]),
    confirming=sum(not trial.is_finished for trial in confirmations),
    failed_confirmations=tuple(trial for trial in confirmations if trial.state == FAILED),
  )


def results_table(overview: Overview, search_dir: Path) -> str:
  """Returns what a person wants to know of a search, finished or not, as text."""
  lines = [
    f"{overview.sampled} architectures sampled, {overview.unique} unique, {overview.trained} "
    f"trained, {overview.failed} failed, {duration(3600 * overview.worker_hours)} of worker time",
  ]
  is_ranking = not nothing_learnt(overview.best)
  if not is_ranking:
    lines.append(f"So far n{NOTHING_LEARNT[1:]}" if overview.unfinished else NOTHING_LEARNT)
  # One seed has no deviation, and where nothing is confirmed all have one.
  shows_seeds = any(trial.further_rewards for trial in overview.best)
  seeds = f"  {'seeds':>5}  {'deviation':>9}  {'first':>8}" if shows_seeds else ""
  sizes = size_names(overview.best)
  size = f"  {'size':>10}" if sizes else ""
  lines.append(
    f"{'rank':>4}  {'reward':>8}{seeds}{size}  {'trial':>6}  {'seconds':>8}  architecture"
  )
  for rank, trial in enumerate(overview.best, start=1):
    path = storage.trial_dir(search_dir, trial.number) / "architecture.gin"
    shown_rank = rank if is_ranking else "-"
    if shows_seeds:
      deviation = "-" if trial.deviation is None else f"{trial.deviation:.4f}"
      seeds = f"  {len(trial.rewards):>5}  {deviation:>9}  {trial.reward:>8.4f}"
    size = f"  {sizes[rank - 1]:>10}" if sizes else ""
    lines.append(
      f"{shown_rank:>4}  {trial.mean_reward:>8.4f}{seeds}{size}  {trial.number:>6}  "
      f"{trial.seconds:>8.1f}  {path}"
    )
  if shows_seeds:
    best = overview.best[0]
    lines.append(f"The best, trial {best.number}: {confirmed_in_words(best)}.")
  if overview.failed_confirmations:
    lines.append(failed_confirmations_in_words(overview.failed_confirmations))
  for name in ("best_architecture.gin", "best_architecture.png", "reward_curve.png", "front.png"):
    if (search_dir / name).is_file():
      lines.append(str(search_dir / name))
  if overview.unfinished:
    lines.append(f"{overview.unfinished} more are proposed and not finished.")
  if overview.confirming:
    lines.append(
      f"{overview.confirming} confirmation{'' if overview.confirming == 1 else 's'} of the best "
      "with other seeds are not finished: the ranking may change."
    )
  return "\n".join(lines)
