"""The tables of a trial store, and the migration of stores of earlier versions."""

import sqlalchemy as sa

from official_nasfpn.errors import UserError

SCHEMA_VERSION = 3

metadata = sa.MetaData()

_BY_STATE = "trials_by_state"

schema = sa.Table("schema", metadata, sa.Column("version", sa.Integer, nullable=False))

trials = sa.Table(
  "trials",
  metadata,
  sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
  sa.Column("update_number", sa.Integer, nullable=False, index=True),
  sa.Column("choices", sa.Text, nullable=False),
  sa.Column("log_probs", sa.Text, nullable=False),
  sa.Column("architecture_hash", sa.Text, nullable=False, index=True),
  sa.Column("architecture", sa.Text, nullable=False),
  sa.Column("state", sa.Text, nullable=False),
  sa.Column("reused_from", sa.ForeignKey("trials.number")),
  sa.Column("attempt", sa.Integer, nullable=False, default=0),
  sa.Column("deaths", sa.Integer, nullable=False, default=0),
  sa.Column("worker", sa.Text),
  sa.Column("lease_expires", sa.Double),
  sa.Column("progress", sa.Double, nullable=False, default=0.0),
  sa.Column("reward", sa.Double),
  sa.Column("failure", sa.Text),
  sa.Column("diverged", sa.Boolean, nullable=False, default=False),
  sa.Column("proposed_at", sa.Double, nullable=False),
  sa.Column("started_at", sa.Double),
  sa.Column("finished_at", sa.Double),
  sa.Column("seconds", sa.Double),
  sa.Column("metrics", sa.Text, nullable=False, server_default="{}"),
  # The update in which the algorithm learnt from the trial.
  sa.Column("learnt_in", sa.Integer, index=True),
  # The trial that a confirmation trains again, and what it adds to the seed; see `Trial`.
  sa.Column("confirms", sa.ForeignKey("trials.number")),
  sa.Column("seed_offset", sa.Integer, nullable=False, server_default="0"),
  # Claims take the lowest queued trial; counts read only this index, not the long texts.
  sa.Index(_BY_STATE, "state", "number", "reused_from", "confirms"),
  sa.Index("trials_by_reward", "state", "reward"),
)
# Confirmations are few among many trials: the others are not in this index.
_is_confirmation = trials.c.confirms.is_not(None)
sa.Index(
  "confirmations_by_number",
  trials.c.number,
  sqlite_where=_is_confirmation,
  postgresql_where=_is_confirmation,
)

# Intermediate rewards of trials, for early stopping.
measurements = sa.Table(
  "measurements",
  metadata,
  sa.Column("trial", sa.ForeignKey("trials.number"), primary_key=True, autoincrement=False),
  sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
  sa.Column("share", sa.Double, primary_key=True, index=True),
  sa.Column("value", sa.Double, nullable=False),
  sa.Column("measured_at", sa.Double, nullable=False),
)

updates = sa.Table(
  "updates",
  metadata,
  sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
  sa.Column("metrics", sa.Text, nullable=False),
  sa.Column("learnt_at", sa.Double, nullable=False),
  # Only the latest update keeps its snapshot: at a megabyte each, they would outgrow the trials.
  sa.Column("snapshot", sa.LargeBinary),
)

# One row that describes the search, so that workers need nothing but the store.
search = sa.Table(
  "search",
  metadata,
  sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
  sa.Column("recipe", sa.Text, nullable=False),
  sa.Column("recipe_version", sa.Text, nullable=False),
  sa.Column("code_version", sa.Text, nullable=False),
  sa.Column("begun_at", sa.Double, nullable=False),
)


class NoSearchYet(UserError):
  """There is no search in a place, but one may begin there."""


def create_or_migrate(connection: sa.Connection, store: str) -> None:
  """Creates the tables, or migrates those of an earlier version.

  Args:
    connection: a connection in a transaction, so that an error leaves the store unchanged.
    store: name of the store in error messages.

  Raises:
    UserError: the store was written by a later version of this program.
  """
  version = _version(connection, store)
  if version is None:
    metadata.create_all(connection)
    connection.execute(schema.insert().values(version=SCHEMA_VERSION))
    return
  if version < 2:
    _to_version_2(connection)
  if version < 3:
    _to_version_3(connection)
  check_version(connection, store)


def check_version(connection: sa.Connection, store: str) -> None:
  """Checks the version of a store.

  Raises:
    NoSearchYet: it has no tables of ours.
    UserError: it was written by another version of this program, or the tables are not ours.
  """
  version = _version(connection, store)
  if version is None:
    raise NoSearchYet(f"{store} holds no search; start the search first.")
  if version < SCHEMA_VERSION:
    raise UserError(
      f"{store} was written by an earlier version of this program (store version {version}; this "
      f"program reads version {SCHEMA_VERSION}). Continue the search with this program: it "
      "migrates the store and keeps every trial."
    )
  if version > SCHEMA_VERSION:
    raise UserError(
      f"{store} was written by a later version of this program (store version {version}; this "
      f"program reads version {SCHEMA_VERSION}). Update this program."
    )


def _version(connection: sa.Connection, store: str) -> int | None:
  if not sa.inspect(connection).has_table(schema.name):
    return None
  version = connection.scalar(sa.select(schema.c.version))
  if version is not None and not isinstance(version, int):
    raise UserError(f"{store} has a table `schema`, but it is no trial store.")
  return version


def _to_version_2(connection: sa.Connection) -> None:
  """Adds metrics, `learnt_in` and intermediate rewards of trials, and the recipe of the search."""
  connection.exec_driver_sql("ALTER TABLE trials ADD COLUMN metrics TEXT DEFAULT '{}' NOT NULL")
  connection.exec_driver_sql("ALTER TABLE trials ADD COLUMN learnt_in INTEGER")
  # In version 1, the trials of an update were learnt from in that same update.
  connection.execute(
    trials.update()
    .where(trials.c.update_number.in_(sa.select(updates.c.number)))
    .values(learnt_in=trials.c.update_number)
  )
  connection.exec_driver_sql("DROP INDEX ix_trials_state")
  metadata.create_all(connection)
  connection.execute(schema.update().values(version=2))


def _to_version_3(connection: sa.Connection) -> None:
  """Adds what makes a trial the confirmation of another one, and all indexes that are missing."""
  connection.exec_driver_sql(
    "ALTER TABLE trials ADD COLUMN confirms INTEGER REFERENCES trials (number)"
  )
  connection.exec_driver_sql("ALTER TABLE trials ADD COLUMN seed_offset INTEGER DEFAULT 0 NOT NULL")
  # Version 2 had it with fewer columns.
  if any(index["name"] == _BY_STATE for index in sa.inspect(connection).get_indexes(trials.name)):
    connection.exec_driver_sql(f"DROP INDEX {_BY_STATE}")
  for index in sorted(trials.indexes, key=lambda index: index.name):
    index.create(connection, checkfirst=True)
  connection.execute(schema.update().values(version=3))
