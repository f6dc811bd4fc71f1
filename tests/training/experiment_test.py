"""Recipes, and the files of a search among them."""

import pytest

from official_nasfpn.architecture import CATALOG, to_gin
from official_nasfpn.errors import UserError
from official_nasfpn.training.experiment import load_experiment

RECIPE = "Detector.num_filters = 64\n"


@pytest.fixture
def recipe(tmp_path):
  path = tmp_path / "recipe.gin"
  path.write_text(RECIPE)
  return path


@pytest.fixture
def searched(tmp_path):
  path = tmp_path / "trials" / "000123" / "architecture.gin"
  path.parent.mkdir(parents=True)
  path.write_text("# Search mine, trial 123.\n" + to_gin(CATALOG["panet"]))
  return path


def test_a_searched_architecture_is_taken_by_any_recipe(recipe, searched):
  detector = load_experiment([recipe, searched]).detector
  assert detector.architecture == CATALOG["panet"]
  assert detector.num_filters == 64


@pytest.mark.parametrize(
  "line",
  [
    "import os",
    "include 'recipe.gin'",
    "Training.epochs = 1",
    "Input.data_dir = '/elsewhere'",
    "Detector.architecture = @Fpn()",
    "elsewhere/PyramidSpec.min_level = 3",
    "epochs = 3",
    "PyramidSpec.min_level = %epochs",
  ],
)
@pytest.mark.parametrize("name", ["architecture.gin", "best_architecture.gin"])
def test_a_searched_file_that_does_more_is_refused(recipe, searched, name, line):
  path = searched.rename(searched.with_name(name))
  path.write_text(path.read_text() + line + "\n")
  with pytest.raises(UserError, match=str(path)):
    load_experiment([recipe, path])
