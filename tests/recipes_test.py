"""Every recipe of `gin/` says what it says it does."""

import itertools
from pathlib import Path

import pytest

from official_nasfpn.configuration import Stored
from official_nasfpn.search.recipe import read_recipe

FOLDER = Path(__file__).parents[1] / "gin"


@pytest.mark.parametrize(
  "path", sorted(FOLDER.rglob("*.gin")), ids=lambda path: str(path.relative_to(FOLDER))
)
def test_a_recipe_is_read_and_says_how_to_run_it(path):
  recipe = read_recipe([path])
  # Written resolved and read again, it is the same: no value was lost or rounded.
  assert read_recipe([Stored(recipe.to_gin(), "resolved")]) == recipe
  lines = path.read_text(encoding="utf-8").splitlines()
  comment = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
  name = path.relative_to(FOLDER.parent)
  assert f"--gin_file {name}" in comment or "python -m benchmarks." in comment


def test_the_shared_search_differs_in_how_trials_are_trained_alone():
  plain = read_recipe([FOLDER / "bccd_search.gin"])
  shared = read_recipe([FOLDER / "bccd_shared_search.gin"])
  differing = plain.differences(shared)
  assert differing.pop("Proxy.mode") == ("plain", "shared")
  assert differing.pop("Search.trials_per_worker")
  assert all(name.startswith("Proxy.") for name in differing), differing
