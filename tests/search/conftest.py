"""Fixtures for tests of several parts of the search."""

import pytest

from tests.search.store.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres():
  """Returns a running PostgreSQL server that all tests share; a test that kills it restarts it."""
  server = PostgresServer()
  yield server
  server.close()
