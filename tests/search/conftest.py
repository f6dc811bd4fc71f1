"""Fixtures for tests of several parts of the search."""

import pytest

from tests.search.short_trials import RECIPE
from tests.search.store.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres():
  """Returns a running PostgreSQL server that all tests share; a test that kills it restarts it."""
  server = PostgresServer()
  yield server
  server.close()


@pytest.fixture(scope="session")
def recipe(tmp_path_factory, shapes_data):
  """Returns the path of a recipe of short trials on drawn shapes; tests must not write to it."""
  path = tmp_path_factory.mktemp("recipe") / "recipe.gin"
  path.write_text(f"{RECIPE}Input.data_dir = {str(shapes_data)!r}\n")
  return path
