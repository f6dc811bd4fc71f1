"""What tests of several parts of the search share."""

import pytest

from tests.search.store.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres():
  """Returns a running PostgreSQL server, one for all tests; who kills it starts it again."""
  server = PostgresServer()
  yield server
  server.close()
