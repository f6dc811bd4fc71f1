"""Selects trials so that one which repeats an architecture shows the result of its original."""

import sqlalchemy as sa

from official_nasfpn.search.store.schema import trials as _trials

# A reused trial shows these columns of its original, the trial that it repeats.
_RESULT = ("attempt", "reward", "failure", "diverged", "finished_at", "metrics")
originals = _trials.alias("originals")


def with_originals(*columns: sa.ColumnElement) -> sa.Select:
  """Selects columns of trials; a reused trial shows the result of its original."""
  shown = [
    # A trial that is not reused has no original, and shows its own columns.
    sa.case((_trials.c.reused_from.is_(None), column), else_=originals.c[column.name]).label(
      column.name
    )
    if column.name in _RESULT
    else column
    for column in columns
  ]
  return sa.select(*shown).select_from(joined())


def joined() -> sa.Join:
  """Returns all trials, each with its original if it is reused."""
  return _trials.outerjoin(originals, _trials.c.reused_from == originals.c.number)


def result_state() -> sa.ColumnElement:
  """Returns the state of a trial or, if it is reused, of its original."""
  return sa.func.coalesce(originals.c.state, _trials.c.state)
