"""A search directory belongs to one recipe."""

import dataclasses

import pytest

from official_nasfpn import configuration
from official_nasfpn.architecture import SearchSpace
from official_nasfpn.errors import UserError
from official_nasfpn.search.config import SearchConfig
from official_nasfpn.search.recipe import (
  check_continues,
  read_recipe,
  recipe_version,
  settle_recipe,
)

CONFIG = SearchConfig(num_trials=12)
PROXY = """
Detector.architecture = @PyramidSpec()
Detector.image_size = (256, 256)
Input.data_dir = '/data/with spaces'
"""


def recipe(proxy: str = PROXY, **changes) -> str:
  return configuration.to_gin(dataclasses.replace(CONFIG, **changes), SearchSpace()) + proxy


def test_a_new_directory_gets_the_recipe(tmp_path):
  settle_recipe(recipe(), tmp_path)
  assert (tmp_path / "recipe.gin").read_text() == recipe()


def test_the_same_recipe_continues_however_it_is_laid_out(tmp_path):
  settle_recipe(recipe(), tmp_path)
  settle_recipe(recipe().replace(" = ", "  =  ") + "\n# comment\n", tmp_path)
  assert (tmp_path / "recipe.gin").read_text() == recipe()


def test_another_recipe_is_refused_and_what_differs_is_named(tmp_path):
  settle_recipe(recipe(), tmp_path)
  other = recipe(PROXY.replace("256, 256", "256, 512") + "Training.steps = 3\n", seed=4)
  with pytest.raises(UserError) as refusal:
    settle_recipe(other, tmp_path)
  lines = str(refusal.value).splitlines()[1:]
  assert lines == [
    "  Detector.image_size: (256, 256) there, (256, 512) now",
    "  Search.seed: 0 there, 4 now",
    "  Training.steps: (none) there, 3 now",
  ]
  assert (tmp_path / "recipe.gin").read_text() == recipe()


def test_more_trials_continue_a_search_and_fewer_do_not(tmp_path):
  settle_recipe(recipe(), tmp_path)
  settle_recipe(recipe(num_trials=20), tmp_path)
  assert (tmp_path / "recipe.gin").read_text() == recipe(num_trials=20)
  with pytest.raises(UserError, match=r"Search.num_trials: 20 there, 12 now"):
    settle_recipe(recipe(), tmp_path)


def test_a_search_from_before_a_setting_was_added_goes_on(tmp_path):
  def resolve(stored):
    configuration.parse([stored])
    return configuration.to_gin(configuration.from_bindings(SearchConfig), SearchSpace())

  settings = configuration.to_gin(CONFIG, SearchSpace())
  older = "".join(line for line in settings.splitlines(True) if "trials_in_flight" not in line)
  settle_recipe(older, tmp_path)
  with pytest.raises(UserError, match=r"trials_in_flight: 0 there, 40 now"):
    settle_recipe(
      configuration.to_gin(dataclasses.replace(CONFIG, trials_in_flight=40), SearchSpace()),
      tmp_path,
      resolve,
    )
  settle_recipe(settings, tmp_path, resolve)
  assert (tmp_path / "recipe.gin").read_text() == settings


def test_how_workers_are_kept_may_change(tmp_path):
  settle_recipe(recipe(), tmp_path)
  settle_recipe(recipe(lease_seconds=600.0, max_attempts=5, trials_per_worker=10), tmp_path)


def test_a_directory_with_other_files_is_refused(tmp_path):
  (tmp_path / "holiday.jpg").touch()
  with pytest.raises(UserError, match="holds files, but no search"):
    settle_recipe(recipe(), tmp_path)
  assert not (tmp_path / "recipe.gin").exists()


def test_a_broken_recipe_is_named(tmp_path):
  (tmp_path / "recipe.gin").write_text("Search.seed = = 4")
  with pytest.raises(UserError, match=r"recipe.gin is not a resolved recipe"):
    settle_recipe(recipe(), tmp_path)


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("include '{}'", "cannot include a file"),
    ("import os", "cannot import a module"),
    ("a/Search.seed = 1", "have no scopes"),
    ("seed = 1", "define no macros"),
    ("Search.seed = %seed", "a macro has no place"),
  ],
)
def test_a_recipe_that_does_more_than_bind_values_is_refused(tmp_path, line, message):
  (tmp_path / "secret.gin").write_text("Search.seed = 1\n")
  search_dir = tmp_path / "search"
  search_dir.mkdir()
  hostile = recipe() + line.replace("{}", str(tmp_path / "secret.gin"))
  (search_dir / "recipe.gin").write_text(hostile)
  for ask in (
    lambda: settle_recipe(recipe(), search_dir),
    lambda: read_recipe(search_dir),
    lambda: recipe_version(hostile),
    lambda: check_continues(hostile, recipe(), "the store"),
  ):
    with pytest.raises(UserError, match=f"is not a resolved recipe: .*{message}") as error:
      ask()
    assert "secret" not in str(error.value)


def test_a_recipe_that_is_a_link_is_not_followed(tmp_path):
  (tmp_path / "secret.gin").write_text(recipe())
  search_dir = tmp_path / "search"
  search_dir.mkdir()
  (search_dir / "recipe.gin").symlink_to(tmp_path / "secret.gin")
  with pytest.raises(UserError, match=r"recipe\.gin is a symbolic link"):
    read_recipe(search_dir)


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("algorithm", "annealing"),
    ("cell", "gru"),
    ("num_trials", 0),
    ("learning_rate", 0.0),
    ("seed", -1),
    ("baseline_decay", 1.0),
  ],
)
def test_settings_out_of_range_are_refused(field, value):
  with pytest.raises(ValueError, match=field):
    SearchConfig(**{field: value})
