"""The recipe of short trials, for a prepared dataset."""

import pytest

from tests.search.short_trials import RECIPE


@pytest.fixture(scope="session")
def recipe(tmp_path_factory, shapes_data):
  """Returns the path of the recipe, for a dataset of drawn shapes; not to be written to."""
  path = tmp_path_factory.mktemp("recipe") / "recipe.gin"
  path.write_text(f"{RECIPE}Input.data_dir = {str(shapes_data)!r}\n")
  return path
