"""Intermediate rewards of trials, by the share of the training that was done."""

import sqlalchemy as sa

from official_nasfpn.search.store.leases import unfinished
from official_nasfpn.search.store.rows import is_number
from official_nasfpn.search.store.schema import measurements as _measurements
from official_nasfpn.search.store.schema import trials as _trials


def record(
  connection: sa.Connection,
  number: int,
  attempt: int,
  share: float,
  value: float,
  now: sa.ColumnElement | float,
) -> list[float]:
  """Records a measurement unless the attempt has lost its trial; see `TrialStore.measure`.

  Returns:
    The values of all other trials at the same share, each from its latest attempt.
  """
  this = (
    _measurements.c.trial == number,
    _measurements.c.attempt == attempt,
    _measurements.c.share == share,
  )
  owned = connection.scalar(
    sa.select(sa.func.count()).select_from(_trials).where(*unfinished(number, attempt))
  )
  if owned:
    values = {"value": value, "measured_at": now}
    if not connection.execute(_measurements.update().where(*this).values(**values)).rowcount:
      connection.execute(
        _measurements.insert().values(trial=number, attempt=attempt, share=share, **values)
      )
  others = (
    sa.select(_measurements.c.value)
    .join(_trials, _measurements.c.trial == _trials.c.number)
    .where(_measurements.c.attempt == _trials.c.attempt)
    .where(_measurements.c.share == share, _measurements.c.trial != number)
    .order_by(_measurements.c.trial)
  )
  return list(connection.scalars(others))


def curves(connection: sa.Connection) -> dict[int, list[tuple[float, float]]]:
  """Returns shares and values of each trial's latest attempt; see `TrialStore.reward_curves`."""
  query = (
    sa.select(_measurements.c.trial, _measurements.c.share, _measurements.c.value)
    .join(_trials, _measurements.c.trial == _trials.c.number)
    .where(_measurements.c.attempt == _trials.c.attempt)
    .order_by(_measurements.c.trial, _measurements.c.share)
  )
  found: dict[int, list[tuple[float, float]]] = {}
  for trial, share, value in connection.execute(query):
    # A damaged row costs its trial this one point.
    if is_number(share) and is_number(value):
      found.setdefault(trial, []).append((share, value))
  return found
