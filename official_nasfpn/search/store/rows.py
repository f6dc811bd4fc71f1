"""From rows of the database to trials, whatever somebody or a broken disk has put there.

SQLite stores any value in any column. A row that does not hold a trial becomes a failed trial that
says so, so that it costs its search that one trial, and its report no more.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa

from official_nasfpn.json_text import parse_json
from official_nasfpn.search.store.trial import DONE, FAILED, QUEUED, REUSED, RUNNING, Trial

_DAMAGED = "its row in the trial store is damaged: "
# The year 9999, up to which dates can be written.
LAST_TIME = 253_402_300_799.0
_STATES = (QUEUED, RUNNING, DONE, FAILED, REUSED)


def to_trial(row: sa.Row) -> Trial:
  """Returns the trial of a row; a failed one with the reason if the row is damaged."""
  values = dict(zip(row._fields, row, strict=True))
  values["update"] = values.pop("update_number")
  for name in _LISTS:
    values[name] = _parsed(values[name])
  values["metrics"] = _parsed(values["metrics"])
  for name, is_right in _CHECKS.items():
    if not is_right(values[name]):
      return _damaged(values, f"{name} is {_shown(row, name)}")
  if values["state"] == DONE:
    for name in ("reward", "finished_at", "seconds"):
      if values[name] is None:
        return _damaged(values, f"it is done and has no {name}")
  if values["state"] != REUSED and values["reused_from"] is not None:
    # It would show the result of another trial as its own.
    return _damaged(values, f"it is {values['state']} and reused from {values['reused_from']}")
  for name in _LISTS:
    values[name] = tuple(values[name])
  return Trial(**values)


def is_damaged(trial: Trial) -> bool:
  """Returns whether `to_trial` found a damaged row in place of the trial."""
  return trial.state == FAILED and (trial.failure or "").startswith(_DAMAGED)


def to_metrics(text: object) -> dict[str, float] | None:
  """Returns the finite numbers of a learning step's metrics; None if the row is damaged."""
  metrics = _parsed(text)
  if not isinstance(metrics, dict):
    return None
  return {name: value for name, value in metrics.items() if is_number(value)}


def _parsed(text: object) -> object:
  """Returns the value of a JSON text; None if it is none."""
  try:
    return parse_json(text) if isinstance(text, str) else None
  except ValueError:
    return None


def _damaged(values: Mapping[str, object], what: str) -> Trial:
  time = values["finished_at"]
  if not _is_time(time) or time is None:
    time = 0.0
  return Trial(
    number=values["number"],
    update=values["update"] if _is_count(values["update"]) else 0,
    choices=(),
    log_probs=(),
    architecture_hash=f"damaged {values['number']}",
    architecture="",
    state=FAILED,
    reused_from=None,
    attempt=0,
    deaths=0,
    worker=None,
    lease_expires=None,
    progress=0.0,
    reward=None,
    failure=f"{_DAMAGED}{what}",
    diverged=False,
    proposed_at=time,
    started_at=None,
    finished_at=time,
    seconds=None,
    metrics={},
    learnt_in=values["learnt_in"] if _is_count(values["learnt_in"]) else None,
    confirms=values["confirms"] if _is_count(values["confirms"]) else None,
  )


def _shown(row: sa.Row, name: str) -> str:
  text = repr(row._mapping["update_number" if name == "update" else name])
  return text if len(text) <= 40 else f"{text[:40]}..."


def is_number(value: object) -> bool:
  """Returns whether a value of the database or of JSON is a finite number that a float can hold."""
  # Whole numbers of JSON may be too large for a float.
  return (type(value) is float and math.isfinite(value)) or (
    type(value) is int and -(2**63) <= value < 2**63
  )


def _is_count(value: object) -> bool:
  return type(value) is int and 0 <= value < 2**63


def _is_time(value: object) -> bool:
  return value is None or (is_number(value) and 0 <= value <= LAST_TIME)


def _are_counts(values: Sequence[object]) -> bool:
  # Sums are fast, and what is no number has none.
  try:
    return not values or (type(sum(values)) is int and min(values) >= 0)
  except TypeError:
    return False


def _are_numbers(values: Sequence[object]) -> bool:
  try:
    return math.isfinite(math.fsum(values))
  except (TypeError, ValueError, OverflowError):
    return False


def _or_none(check: Callable[[object], bool]) -> Callable[[object], bool]:
  return lambda value: value is None or check(value)


def _is_text(value: object) -> bool:
  return isinstance(value, str)


_LISTS = ("choices", "log_probs")
_CHECKS: Mapping[str, Callable[[object], bool]] = {
  "update": _is_count,
  "choices": lambda value: isinstance(value, list) and _are_counts(value),
  "log_probs": lambda value: isinstance(value, list) and _are_numbers(value),
  "architecture_hash": _is_text,
  "architecture": _is_text,
  "state": lambda value: value in _STATES,
  "reused_from": _or_none(_is_count),
  "attempt": _is_count,
  "deaths": _is_count,
  "worker": _or_none(_is_text),
  "lease_expires": _or_none(is_number),
  "progress": is_number,
  "reward": _or_none(is_number),
  "failure": _or_none(_is_text),
  "proposed_at": lambda value: value is not None and _is_time(value),
  "started_at": _is_time,
  "finished_at": _is_time,
  "seconds": _or_none(lambda value: is_number(value) and 0 <= value <= LAST_TIME),
  "metrics": lambda value: isinstance(value, dict),
  "learnt_in": _or_none(_is_count),
  "confirms": _or_none(_is_count),
  "seed_offset": _is_count,
}
