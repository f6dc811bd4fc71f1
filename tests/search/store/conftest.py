"""Fixtures for tests of stores: an empty one in each kind of database."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from official_nasfpn.search.store.address import parse_url
from official_nasfpn.search.store.trial_store import TrialStore


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path) -> Path | str:
  """Returns the address of an empty store, for each kind of database."""
  if request.param == "sqlite":
    return tmp_path / "search.db"
  return request.getfixturevalue("postgres").new_database()


@pytest.fixture
def open_store(place):
  stores = []

  def open_(lease_seconds: float = 60.0, max_attempts: int = 3, **arguments) -> TrialStore:
    stores.append(TrialStore(place, lease_seconds, max_attempts, **arguments))
    stores[-1].create()
    return stores[-1]

  yield open_
  for store in stores:
    store.close()


@pytest.fixture
def execute(place):
  """Returns a function that runs SQL in the store's database."""
  engine = sa.create_engine(parse_url(place))

  def execute_(statement: str) -> None:
    with engine.begin() as connection:
      connection.exec_driver_sql(statement)

  yield execute_
  engine.dispose()
