"""The front of a search with several objectives, in numbers and in words."""

import dataclasses
import functools
import itertools
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from official_nasfpn.architecture import PyramidSpec, from_gin
from official_nasfpn.errors import UserError
from official_nasfpn.printable import printable
from official_nasfpn.search import front
from official_nasfpn.search.objectives import AP, OBJECTIVES, Budget, Objective, measured, point_of
from official_nasfpn.search.store.trial import DONE, Trial

# The reference of the hypervolume lies this share of the range beyond the greatest cost, so that
# the dearest architecture counts, too (Ishibuchi et al. 2018 discuss the choice).
_BEYOND = 0.1


@dataclasses.dataclass(frozen=True)
class TradeOffs:
  """What a search has found of several objectives.

  Attributes:
    objectives: what it aims at, in the order of the recipe.
    trials: those that have measured all of it, by number.
    on_front: those of them that no other beats in all objectives, the cheapest first.
    shares: `trials` as points [N, D] of a box, 0 at its worst corner and 1 at its best. The box
      goes from AP 0 to 1, and from the least cost to a tenth of the range beyond the greatest.
    reference: the worst corner of that box by objective, in the units of its metric.
    places: what `latency_on` says of the front; more than one cannot be compared.
  """

  objectives: tuple[Objective, ...]
  trials: tuple[Trial, ...]
  on_front: tuple[Trial, ...]
  shares: np.ndarray
  reference: Mapping[str, float]
  places: tuple[str, ...]

  @property
  def costs(self) -> tuple[Objective, ...]:
    """The objectives of which less is better."""
    return tuple(each for each in self.objectives if each.is_cost)

  @property
  def names(self) -> str:
    """The objectives in words, `AP and latency`."""
    *first, last = [each.label for each in self.objectives]
    return f"{', '.join(first)} and {last}"

  @functools.cached_property
  def hypervolume(self) -> float:
    """The share of the box that all trials beat, in [0, 1]."""
    return front.hypervolume(self.shares, [0.0] * len(self.objectives))

  @functools.cached_property
  def volumes(self) -> np.ndarray:
    """The hypervolume of the first 1, 2, ... of `trials`; with many objectives it takes a while."""
    return front.hypervolumes(self.shares, [0.0] * len(self.objectives))


def trade_offs(trials: Sequence[Trial], names: Sequence[str]) -> TradeOffs | None:
  """Returns the front of a search; None where it has one objective.

  Args:
    trials: all of it.
    names: its `Search.objectives`.
  """
  if len(names) == 1:
    return None
  objectives = tuple(OBJECTIVES[name] for name in names)
  by_number = sorted(_done(trials), key=lambda trial: trial.number)
  pairs = [(trial, point_of(trial.metrics, names)) for trial in by_number]
  kept = [trial for trial, point in pairs if point is not None]
  points = np.array([point for _, point in pairs if point is not None]).reshape(-1, len(names))
  shares, worst = _shares(points, objectives)
  found = [kept[index] for index in front.non_dominated(points)]
  cheapest = next(each for each in objectives if each.is_cost)
  return TradeOffs(
    objectives=objectives,
    trials=tuple(kept),
    on_front=tuple(sorted(found, key=lambda trial: (value_of(trial, cheapest), trial.number))),
    shares=shares,
    reference={each.metric: value for each, value in zip(objectives, worst, strict=True)},
    places=tuple(dict.fromkeys(place for t in found if (place := place_of(t)))),
  )


def value_of(trial: Trial, objective: Objective) -> float:
  """Returns what a trial has measured of an objective.

  Raises:
    KeyError: it has measured nothing.
  """
  value = measured(trial.metrics, objective)
  if value is None:
    raise KeyError(objective.metric)
  return value


def text_of(trial: Trial, objective: Objective) -> str:
  """Returns what a trial has measured of an objective for people, with its noise if it has any."""
  text = objective.text(value_of(trial, objective))
  spread = measured({"latency_ms": trial.metrics.get("latency_spread_ms")}, OBJECTIVES["latency"])
  if objective.name == "latency" and spread is not None:
    text = f"{text} (spread {spread:.2f})"
  return text


def size_names(trials: Sequence[Trial]) -> list[str]:
  """Returns the sizes that the pyramid of each trial says, as `3 @ 64`; empty if none says any."""
  specs = [pyramid_of(trial) for trial in trials]
  names = [spec.size_name if spec else "" for spec in specs]
  return names if any(names) else []


def pyramid_of(trial: Trial) -> PyramidSpec | None:
  """Returns the pyramid of a trial; None if its text is damaged: its numbers are shown anyway."""
  try:
    return from_gin(trial.architecture)
  except UserError:
    return None


def place_of(trial: Trial) -> str | None:
  """Returns runtime, threads and device of a trial's latency, to be shown; None without any."""
  place = trial.metrics.get("latency_on")
  return printable(place) if isinstance(place, str) else None


def sentences(found: TradeOffs) -> list[str]:
  """Returns what a front shows, and what speaks against it."""
  if not found.trials:
    return [f"No trial has measured {found.names} yet, so there is no front."]
  count = len(found.trials)
  if len(found.on_front) == 1:
    only = found.on_front[0]
    values = [f"{each.label} {each.text(value_of(only, each))}" for each in found.objectives]
    why = "it is the only one" if count == 1 else f"none of {count} trials is better in anything"
    what = f"trial {only.number} ({', '.join(values)}): {why}."
    text = f"The front of {found.names} has one point, {what}"
  else:
    text = (
      f"{len(found.on_front)} of {count} trials are on the front of {found.names}; its hypervolume "
      f"is {found.hypervolume:.4f} of at most 1."
    )
  return [text, *_warnings(found)]


def aps_by_trial(
  trials: Sequence[Trial], confirmations: Sequence[Trial]
) -> dict[int, tuple[float, ...]]:
  """Returns the AP of each seed with which a trial was trained, its own first, by number.

  Args:
    trials: all of a search; those without an AP are left out.
    confirmations: all of it.
  """
  aps: dict[int, tuple[float, ...]] = {
    trial.number: (ap,)
    for trial in _done(trials)
    if (ap := measured(trial.metrics, AP)) is not None
  }
  for one in sorted(_done(confirmations), key=lambda one: one.seed_offset):
    ap = measured(one.metrics, AP)
    if one.confirms in aps and ap is not None:
      aps[one.confirms] = (*aps[one.confirms], ap)
  return aps


def best_within(
  trials: Sequence[Trial],
  budgets: Sequence[Budget],
  where: str,
  confirmations: Sequence[Trial] = (),
) -> Trial:
  """Returns the trial of the greatest AP within budgets; of equal ones the cheapest.

  As everywhere, confirmed ones come first, by the mean over their seeds; see `rank_key`.

  Args:
    trials: all of a search.
    budgets: all of which it must keep.
    where: the search, for error messages.
    confirmations: all of the search.

  Raises:
    UserError: no trial has measured what a budget limits, or none is within.
  """
  aps = aps_by_trial(trials, confirmations)
  known = [trial for trial in _done(trials) if trial.number in aps]
  for budget in budgets:
    limited = budget.objective
    known = [trial for trial in known if measured(trial.metrics, limited) is not None]
    if not known:
      raise UserError(
        f"{where}: no trial has measured its {limited.label}, which @{budget.text} limits. Search "
        f"in a new directory with Search.objectives = ('AP', {limited.name!r})."
      )
  kept = _within(known, budgets)
  if not kept:
    raise UserError(f"{where}: {_why_none(known, budgets)}")

  def key(trial: Trial) -> tuple[float, ...]:
    own = aps[trial.number]
    costs = (value_of(trial, budget.objective) for budget in budgets)
    return (len(own) == 1, -statistics.fmean(own), *costs, trial.number)

  return min(kept, key=key)


def _within(trials: Sequence[Trial], budgets: Sequence[Budget]) -> list[Trial]:
  """Returns the trials that keep all budgets; they must have measured what these limit."""
  return [t for t in trials if all(value_of(t, b.objective) <= b.limit for b in budgets)]


def _why_none(trials: Sequence[Trial], budgets: Sequence[Budget]) -> str:
  """Returns how far the trials are from a budget, of which none keeps all; there must be one."""
  for budget in budgets:
    others = [other for other in budgets if other is not budget]
    if near := _within(trials, others):
      limited = budget.objective
      least = min(near, key=lambda trial: (value_of(trial, limited), trial.number))
      keeps = f" that keeps {' and '.join(f'@{b.text}' for b in others)}" if others else ""
      return (
        f"no architecture{keeps} is within @{budget.text}; the least {limited.label} is "
        f"{limited.text(value_of(least, limited))}, of trial {least.number}."
      )
  # If none keeps all but one of them, whichever that is, none keeps all but the last.
  return _why_none(trials, budgets[:-1])


def _shares(
  points: np.ndarray, objectives: Sequence[Objective]
) -> tuple[np.ndarray, tuple[float, ...]]:
  """Returns points as shares of the box of the hypervolume, and the worst corner of it.

  Args:
    points: [N, D], more is better.
    objectives: [D].
  """
  shares, worst = np.empty_like(points), []
  for index, objective in enumerate(objectives):
    column = points[:, index]
    if not objective.is_cost or not len(column):
      shares[:, index] = column
      worst.append(0.0)
      continue
    span = column.max() - column.min()
    low = column.min() - _BEYOND * span
    shares[:, index] = (column - low) / (column.max() - low) if span else 1.0
    worst.append(float(-low))
  return shares, tuple(worst)


def _done(trials: Sequence[Trial]) -> list[Trial]:
  return [trial for trial in trials if trial.state == DONE]


def _warnings(found: TradeOffs) -> list[str]:
  texts = []
  if len(found.places) > 1:
    texts.append(
      "Its latencies were measured in different places, so they cannot be compared: "
      f"{'; '.join(found.places)}."
    )
  latency = OBJECTIVES["latency"]
  if latency in found.objectives:
    close = _closer_than_noise([*found.on_front])
    if close:
      steps = len(found.on_front) - 1
      are = "is" if close == 1 else "are"
      which = f"Of its {steps} steps in latency, {close} {are}"
      if steps == 1:
        which = "Its one step in latency is"
      texts.append(
        f"{which} smaller than the spread of the timed runs: such neighbours may be equally fast."
      )
  return texts


def _closer_than_noise(trials: list[Trial]) -> int:
  """Returns how many neighbours in latency differ by less than the spread of their timed runs."""
  latency = OBJECTIVES["latency"]
  known = [
    (value_of(trial, latency), spread)
    for trial in trials
    if isinstance(spread := trial.metrics.get("latency_spread_ms"), int | float)
  ]
  known.sort()
  return sum(
    later - sooner < max(one, other) for (sooner, one), (later, other) in itertools.pairwise(known)
  )
