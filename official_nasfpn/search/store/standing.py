"""How a search stands: its trials in numbers, the best of them, and their confirmations."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import sqlalchemy as sa

from official_nasfpn.search.store.originals import joined, originals, with_originals
from official_nasfpn.search.store.rows import LAST_TIME, is_damaged, to_trial
from official_nasfpn.search.store.schema import trials as _trials
from official_nasfpn.search.store.trial import (
  DONE,
  FAILED,
  QUEUED,
  REUSED,
  RUNNING,
  Counts,
  Overview,
  Trial,
  rank_key,
)

_FINISHED = (DONE, FAILED)
# Rows that are read at a time.
_MOST_ROWS = 1000
IS_CONFIRMATION = _trials.c.confirms.is_not(None)


def count_trials(connection: sa.Connection) -> Counts:
  """Returns the numbers of trials by state."""
  groups = (
    _trials.c.state,
    originals.c.state.label("original_state"),
    IS_CONFIRMATION.label("is_confirmation"),
  )
  query = sa.select(*groups, sa.func.count().label("count")).select_from(joined()).group_by(*groups)
  rows = connection.execute(query).all()
  trials = [row for row in rows if not row.is_confirmation]
  confirmations = [row for row in rows if row.is_confirmation]
  num_open = connection.scalar(
    sa.select(sa.func.count()).where(_trials.c.learnt_in.is_(None), ~IS_CONFIRMATION)
  )

  def count(state: str) -> int:
    return sum(row.count for row in trials if row.state == state)

  sampled = sum(row.count for row in trials)
  return Counts(
    sampled=sampled,
    finished=sum(row.count for row in trials if (row.original_state or row.state) in _FINISHED),
    done=count(DONE),
    failed=count(FAILED),
    reused=count(REUSED),
    # The first trial of each architecture is not reused, and all others are.
    unique=sampled - count(REUSED),
    running=sum(row.count for row in rows if row.state == RUNNING),
    queued=sum(row.count for row in rows if row.state == QUEUED),
    learnt=sampled - num_open,
    confirmations=sum(row.count for row in confirmations),
    confirming=sum(row.count for row in confirmations if row.state not in _FINISHED),
  )


def confirmations(connection: sa.Connection) -> list[Trial]:
  """Returns all confirmations, by number."""
  query = sa.select(_trials).where(IS_CONFIRMATION).order_by(_trials.c.number)
  return [*map(to_trial, connection.execute(query))]


def further_rewards(connection: sa.Connection) -> dict[int, tuple[float, ...]]:
  """Returns the rewards of confirmations, by the trial that they confirm and by seed offset."""
  done = [trial for trial in confirmations(connection) if trial.state == DONE]
  found: dict[int, tuple[float, ...]] = {}
  for trial in sorted(done, key=lambda trial: trial.seed_offset):
    found[trial.confirms] = (*found.get(trial.confirms, ()), trial.reward)
  return found


def with_further_rewards(trial: Trial, found: Mapping[int, tuple[float, ...]]) -> Trial:
  """Returns a trial with the rewards of its confirmations, as `further_rewards` found them."""
  if trial.reward is None or trial.number not in found:
    return trial
  # A trial that repeats a confirmed one is not confirmed itself: an architecture counts once.
  return dataclasses.replace(trial, further_rewards=found[trial.number])


def greatest_rewards(
  connection: sa.Connection, limit: int, fits: Callable[[Trial], bool]
) -> list[Trial]:
  """Returns the trials with the greatest rewards of their own, without reused or damaged ones.

  Args:
    connection: a connection in a transaction.
    limit: how many trials.
    fits: leaves out the trials for which it returns False.
  """
  found: list[Trial] = []
  if limit > 0:
    for trial in _by_reward(connection, limit):
      if not is_damaged(trial) and fits(trial):
        found.append(trial)
        if len(found) == limit:
          break
  return found


def best(connection: sa.Connection, limit: int) -> tuple[list[Trial], list[Trial]]:
  """Returns the best trials, and the damaged ones that would be among them; see `rank_key`."""
  further = further_rewards(connection)
  damaged: list[Trial] = []
  confirmed: list[Trial] = []
  of_confirmed = sa.select(_trials).where(_trials.c.number.in_([*further]), ~IS_CONFIRMATION)
  for row in connection.execute(of_confirmed):
    trial = to_trial(row)
    if trial.state == DONE:
      confirmed.append(with_further_rewards(trial, further))
    elif is_damaged(trial):
      damaged.append(trial)
  ranking = sorted(confirmed, key=rank_key)[:limit]
  if len(ranking) < limit:
    for trial in _by_reward(connection, limit):
      if trial.number in further:
        continue
      (damaged if is_damaged(trial) else ranking).append(trial)
      if len(ranking) == limit:
        break
  return ranking, damaged


def overview(connection: sa.Connection, num_best: int) -> Overview:
  """Returns how the search stands, with its best trials; reads no others."""
  counts = count_trials(connection)
  # SQLite stores any value, and an infinite one would spoil the sum.
  sound = _trials.c.seconds.between(0, LAST_TIME)
  seconds = connection.scalar(sa.select(sa.func.sum(_trials.c.seconds)).where(sound)) or 0.0
  ranking, damaged = best(connection, num_best)
  failed = [trial for trial in confirmations(connection) if trial.state == FAILED]
  damaged += filter(is_damaged, failed)
  return Overview(
    sampled=counts.sampled,
    unique=counts.unique,
    trained=counts.done,
    failed=counts.failed,
    unfinished=counts.sampled - counts.finished,
    worker_hours=seconds / 3600,
    best=tuple(ranking),
    damaged=tuple(damaged),
    confirming=counts.confirming,
    failed_confirmations=tuple(trial for trial in failed if not is_damaged(trial)),
  )


def _by_reward(connection: sa.Connection, limit: int) -> Iterator[Trial]:
  """Yields all trials that are done, the greatest reward first, of which about `limit` are needed.

  SQLite sorts what is no number above all numbers, so damaged ones come first.
  """
  query = (
    with_originals(*_trials.c)
    .where(_trials.c.state == DONE, ~IS_CONFIRMATION)
    .order_by(_trials.c.reward.desc(), _trials.c.number)
  )
  # As many as somebody wants may be more than a database can count to.
  page, first = min(limit, _MOST_ROWS), 0
  while rows := connection.execute(query.limit(page).offset(first)).all():
    yield from map(to_trial, rows)
    first += page
