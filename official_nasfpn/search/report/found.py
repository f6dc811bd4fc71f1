"""What a search has found so far, by rank: asked while it runs or when it has ended."""

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import sqlalchemy as sa

from official_nasfpn import architecture
from official_nasfpn.architecture import PyramidSpec
from official_nasfpn.errors import UserError
from official_nasfpn.progress import say
from official_nasfpn.search import storage
from official_nasfpn.search.objectives import parse_budget
from official_nasfpn.search.report.trade_offs import aps_by_trial, best_within, place_of, text_of
from official_nasfpn.search.store.rows import is_damaged
from official_nasfpn.search.store.trial import DONE, Overview, Trial, rank_key
from official_nasfpn.search.store.trial_store import TrialStore

# Damaged rows that are named; further ones are counted.
_NUM_NAMED = 5


def read_trials(search_dir: Path, store: str | None = None) -> list[Trial]:
  """Returns all trials of a search.

  Args:
    search_dir: of a search, running or not; nothing is written there.
    store: the `confirmed` address of `storage.store_place`.

  Raises:
    UserError: there is no search, or one of another version of this program.
  """
  return [*read_search(search_dir, store).trials]


def read_reward_curves(
  search_dir: Path, store: str | None = None
) -> dict[int, list[tuple[float, float]]]:
  """Returns the intermediate rewards of a search's trials, as `TrialStore.reward_curves` does.

  Args:
    search_dir: of a search, running or not; nothing is written there.
    store: the `confirmed` address of `storage.store_place`.

  Raises:
    UserError: there is no search, or one of another version of this program.
  """
  with _opened(search_dir, store) as opened:
    return opened.reward_curves()


def read_overview(search_dir: Path, num_best: int, store: str | None = None) -> Overview:
  """Returns how a search stands, with its best trials; reads no others.

  Args:
    search_dir: of a search, running or not; nothing is written there.
    num_best: how many trials.
    store: the `confirmed` address of `storage.store_place`.

  Raises:
    UserError: there is no search, or one of another version of this program.
  """
  with _opened(search_dir, store) as opened:
    overview = opened.overview(num_best)
    warn_of_damage(opened.name, overview.damaged)
    return overview


def sorted_out(trials: Iterable[Trial]) -> tuple[list[Trial], list[Trial]]:
  """Returns the trials whose rows hold them, and those whose rows are damaged."""
  good: list[Trial] = []
  damaged: list[Trial] = []
  for trial in trials:
    (damaged if is_damaged(trial) else good).append(trial)
  return good, damaged


def in_words(damaged: Sequence[Trial]) -> str:
  """Returns which rows are damaged, and how; there must be one."""
  count = len(damaged)
  named = [
    f"trial {trial.number} ({str(trial.failure).partition(': ')[2]})"
    for trial in damaged[:_NUM_NAMED]
  ]
  more = [f"and {count - _NUM_NAMED} more"] if count > _NUM_NAMED else []
  rows = "1 damaged row is" if count == 1 else f"{count} damaged rows are"
  return f"{rows} left out: {', '.join([*named, *more])}."


def warn_of_damage(store: str, damaged: Sequence[Trial]) -> None:
  """Says on standard error which trials are left out, if any are."""
  if damaged:
    say(f"warning: {store}: {in_words(damaged)}")


@dataclasses.dataclass(frozen=True)
class FoundSearch:
  """What the store of a search holds.

  Attributes:
    trials: all whose rows hold them, by number.
    damaged: those whose rows do not.
    metrics: what each update's learning measured, by update number.
    confirmations: all whose rows hold them, by number.
    reward_curves: the intermediate rewards of trials, as `TrialStore.reward_curves` returns them.
  """

  trials: Sequence[Trial]
  damaged: Sequence[Trial]
  metrics: Mapping[int, Mapping[str, float]]
  confirmations: Sequence[Trial] = ()
  reward_curves: Mapping[int, Sequence[tuple[float, float]]] = dataclasses.field(
    default_factory=dict
  )


def read_search(search_dir: Path, store: str | None = None) -> FoundSearch:
  """Returns all that the store of a search holds, and says which trials are damaged.

  Args:
    search_dir: of a search, running or not; nothing is written there.
    store: the `confirmed` address of `storage.store_place`.

  Raises:
    UserError: there is no search, or one of another version of this program.
  """
  with _opened(search_dir, store) as opened:
    trials, damaged = sorted_out(opened.trials())
    confirmations, damaged_too = sorted_out(opened.confirmations())
    damaged += damaged_too
    warn_of_damage(opened.name, damaged)
    curves = opened.reward_curves()
    return FoundSearch(trials, damaged, opened.metrics(), confirmations, curves)


def best_trials(trials: Sequence[Trial]) -> list[Trial]:
  """Returns the trials that gave a reward, the best first; reused ones are left out.

  Confirmed ones come first, by the mean over their seeds; see `store.trial.rank_key`.
  """
  return sorted((trial for trial in trials if trial.state == DONE), key=rank_key)


def confirmed_in_words(trial: Trial) -> str:
  """Returns what the confirmations of a trial have shown; it must have one."""
  return (
    f"first reward {trial.reward:.4f}, confirmed {trial.mean_reward:.4f} +- {trial.deviation:.4f} "
    f"over {len(trial.rewards)} seeds"
  )


def failed_confirmations_in_words(failed: Sequence[Trial]) -> str:
  """Returns which confirmations failed, and why; there must be one."""
  named = [
    f"number {trial.number}, of trial {trial.confirms} ({trial.failure})"
    for trial in failed[:_NUM_NAMED]
  ]
  more = [f"and {len(failed) - _NUM_NAMED} more"] if len(failed) > _NUM_NAMED else []
  are = (
    "1 confirmation failed and is"
    if len(failed) == 1
    else f"{len(failed)} confirmations failed and are"
  )
  return f"{are} left out of the means: {', '.join([*named, *more])}."


# What is said of a search whose rewards are all 0, instead of naming a best architecture.
NOTHING_LEARNT = """\
Nothing was learnt: no trial found an object, so no architecture is better than another. The usual
reasons, in this order:
  - too few epochs for the data: raise Training.epochs
  - boxes that no anchor reaches: `nasfpn anchors --search_dir` says how many they are, and which
    Detector.anchor_size or Detector.image_size reaches them
  - scores that stay at or below Detector.score_threshold
  - a learning rate or annotations that let nothing be learnt
`nasfpn search --plan` shows with two trials whether a change helps; search in a new directory."""


def nothing_learnt(trials: Sequence[Trial]) -> bool:
  """Returns whether trials have rewards, and none is above 0."""
  ranking = best_trials(trials)
  return bool(ranking) and ranking[0].reward <= 0


def found_architecture(where: str, store: str | None = None) -> PyramidSpec:
  """Returns an architecture that a search has found; warns if its reward is 0.

  Args:
    where: `SEARCH_DIR` for the best so far, `SEARCH_DIR#RANK`, such as `runs/search#3`, or
      `SEARCH_DIR@BUDGET` for the greatest AP within a budget, such as `runs/search@20ms`; several
      may follow one another, and `objectives.parse_budget` says what they look like.
    store: the `confirmed` address of `storage.store_place`.

  Raises:
    UserError: there is no search, no such rank, or nothing within the budget.
  """
  search_dir, rank, budgets = _split(where)
  if budgets:
    trial = trial_within(search_dir, budgets, store)
  else:
    trial = found_trial(search_dir, rank, store)
  if trial.reward <= 0:
    say(
      f"warning: {where}: trial {trial.number} found no object (its reward is 0): nothing speaks "
      "for its architecture. `nasfpn search --status` says why that may be."
    )
  # Parsed as data: a text in a shared place is never executed.
  return architecture.from_gin(trial.architecture, where=f"{where}, trial {trial.number}")


def names_search(where: str) -> bool:
  """Returns whether a text is the `where` of `found_architecture`: whether its folder is there."""
  return _split(where)[0].is_dir()


def _split(where: str) -> tuple[Path, int, list[str]]:
  """Returns the folder of a search, the rank and the texts of the budgets."""
  # A folder may have a # in its name.
  if where and Path(where).is_dir():
    return Path(where), 1, []
  if match := re.fullmatch(r"(.+)#(\d+)", where):
    return Path(match[1]), int(match[2]), []
  # And an @.
  parts = where.split("@")
  for count in range(len(parts), 0, -1):
    folder = "@".join(parts[:count])
    if folder and Path(folder).is_dir():
      return Path(folder), 1, parts[count:]
  return Path(where), 1, []


def trial_within(search_dir: Path, budgets: Sequence[str], store: str | None = None) -> Trial:
  """Returns the trial of the greatest AP within budgets, and says what it costs.

  Confirmed ones come first; see `trade_offs.best_within`.

  Args:
    search_dir: directory of the search.
    budgets: such as `20ms`; see `objectives.parse_budget`.
    store: the `confirmed` address of `storage.store_place`.

  Raises:
    UserError: a text is no budget, there is no search, or nothing in it is within.
  """
  limits = [parse_budget(text) for text in budgets]
  found = read_search(search_dir, store)
  trial = best_within(found.trials, limits, str(search_dir), found.confirmations)
  (aps,) = aps_by_trial([trial], found.confirmations).values()
  seeds = f" over {len(aps)} seeds" if len(aps) > 1 else ""
  costs = ", ".join(f"{b.objective.label} {text_of(trial, b.objective)}" for b in limits)
  on = place_of(trial)
  place = f" on {on}" if on and any(b.objective.name == "latency" for b in limits) else ""
  say(f"{search_dir}: trial {trial.number}, AP {fmean(aps):.4f}{seeds}, {costs}{place}.")
  return trial


def found_trial(search_dir: Path, rank: int = 1, store: str | None = None) -> Trial:
  """Returns the trial of an architecture that a search has found.

  Args:
    search_dir: directory of the search.
    rank: 1 for the best trial so far, 2 for the next; see `best_trials`.
    store: the `confirmed` address of `storage.store_place`.

  Raises:
    UserError: there is no search, or no such rank.
  """
  overview = read_overview(search_dir, max(rank, 1), store)
  if not 1 <= rank <= len(overview.best):
    raise UserError(
      f"{search_dir}: there is no rank {rank}; {overview.trained} trials have a reward."
    )
  return overview.best[rank - 1]


@contextlib.contextmanager
def _opened(search_dir: Path, confirmed: str | None) -> Iterator[TrialStore]:
  place = storage.store_place(search_dir, confirmed)
  store = TrialStore(place, reads_only=True)
  try:
    store.check_version()
    yield store
  except (sa.exc.DBAPIError, OSError) as error:
    if not isinstance(place, Path):
      raise
    reason = getattr(error, "orig", error)
    raise UserError(f"{place} cannot be read: {reason}.") from error
  finally:
    store.close()
