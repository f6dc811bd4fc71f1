"""The recipe of a search: reading, writing, comparing, and the recipe of a search directory."""

import dataclasses
import random
from pathlib import Path

import pytest

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.configuration import Stored
from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.algorithms.evolution import Evolution
from official_nasfpn.search.algorithms.ppo import PPO
from official_nasfpn.search.algorithms.random_search import RandomSearch
from official_nasfpn.search.config import MOVED, SearchConfig
from official_nasfpn.search.loop import begun_store
from official_nasfpn.search.recipe import check_continues, read_recipe
from official_nasfpn.search.storage import settle_recipe

BINDINGS = (
  "Detector.image_size = (256, 256)",
  "Input.data_dir = '/data/with spaces'",
  "Search.num_trials = 12",
)
# A `recipe.gin` from before algorithms had settings of their own.
FORMER = Path(__file__).parents[2] / "docs/nas_fpnlite_search/recipe.gin"


def recipe(*bindings: str):
  return read_recipe(gin_params=[*BINDINGS, *bindings])


def stored(text: str) -> Stored:
  return Stored(text, "recipe.gin")


def written(search_dir: Path) -> str:
  return (search_dir / "recipe.gin").read_text()


@pytest.mark.parametrize(
  "bindings",
  [
    (),
    ("Search.algorithm = @Evolution()", "Evolution.population_size = 7"),
    ("Search.algorithm = @RandomSearch()", "SearchSpace.num_intermediate_cells = 1"),
    ("SearchSpace.num_repeats = (1, 3)", "SearchSpace.num_filters = (8, 16)"),
    ("PPO.hidden_units = 8", "Proxy.mode = 'shared'", "Training.epochs = 2"),
    ("Reward.cost = 'multiply_adds'", "Reward.target = 1e9", "Detector.architecture = @Fpn()"),
  ],
)
def test_a_recipe_is_written_and_read(bindings):
  there = recipe(*bindings)
  assert read_recipe([stored(there.to_gin())]) == there
  assert read_recipe([stored(there.to_gin())]).version == there.version


def test_one_recipe_leaves_nothing_for_the_next():
  assert recipe("PPO.hidden_units = 8").search.algorithm == PPO(hidden_units=8)
  assert recipe().search.algorithm == PPO()


def test_a_recipe_takes_the_pyramid_of_a_trial():
  spec = SearchSpace().sample(random.Random(0))
  there = recipe().with_architecture(spec)
  assert there.experiment.detector.architecture == spec
  assert read_recipe([stored(there.to_gin())]) == there


def test_the_version_names_what_is_computed():
  free = (
    *("lease_seconds = 5.0", "max_attempts = 9", "trials_per_worker = 1", "num_trials = 99"),
    *("confirm_top = 3", "confirm_seeds = 5"),
  )
  assert recipe(*(f"Search.{binding}" for binding in free)).version == recipe().version
  for binding in ("PPO.clip_ratio = 0.3", "Search.seed = 1", "Training.epochs = 3"):
    assert recipe(binding).version != recipe().version, binding


def test_a_new_directory_gets_the_recipe(tmp_path):
  settle_recipe(recipe(), tmp_path)
  assert written(tmp_path) == recipe().to_gin()


def test_the_same_recipe_continues_however_it_is_laid_out(tmp_path):
  (tmp_path / "recipe.gin").write_text(recipe().to_gin().replace(" = ", "  =  ") + "\n# comment\n")
  settle_recipe(recipe(), tmp_path)
  assert written(tmp_path) == recipe().to_gin()


def test_another_recipe_is_refused_and_what_differs_is_named(tmp_path):
  settle_recipe(recipe(), tmp_path)
  other = recipe(
    "Detector.image_size = (256, 512)", "Search.seed = 4", "Search.algorithm = @RandomSearch()"
  )
  with pytest.raises(UserError) as refusal:
    settle_recipe(other, tmp_path)
  lines = str(refusal.value).splitlines()[1:]
  assert [line for line in lines if not line.startswith("  PPO.")] == [
    "  Detector.image_size: (256, 256) there, (256, 512) now",
    "  Search.algorithm: @PPO() there, @RandomSearch() now",
    "  Search.seed: 0 there, 4 now",
  ]
  assert "  PPO.clip_ratio: 0.2 there, (none) now" in lines
  assert written(tmp_path) == recipe().to_gin()


def test_more_trials_continue_a_search_and_fewer_do_not(tmp_path):
  settle_recipe(recipe(), tmp_path)
  more = recipe("Search.num_trials = 20")
  settle_recipe(more, tmp_path)
  assert written(tmp_path) == more.to_gin()
  with pytest.raises(UserError, match=r"Search.num_trials: 20 there, 12 now"):
    settle_recipe(recipe(), tmp_path)


def test_a_search_from_before_a_setting_was_added_goes_on(tmp_path):
  older = "".join(
    line for line in recipe().to_gin().splitlines(True) if "trials_in_flight" not in line
  )
  (tmp_path / "recipe.gin").write_text(older)
  with pytest.raises(UserError, match=r"trials_in_flight: 0 there, 40 now"):
    settle_recipe(recipe("Search.trials_in_flight = 40"), tmp_path)
  assert written(tmp_path) == older
  settle_recipe(recipe(), tmp_path)
  assert written(tmp_path) == recipe().to_gin()


def test_how_workers_are_kept_may_change(tmp_path):
  settle_recipe(recipe(), tmp_path)
  kept = ("lease_seconds = 600.0", "max_attempts = 5", "trials_per_worker = 10")
  settle_recipe(recipe(*(f"Search.{binding}" for binding in kept)), tmp_path)


def test_a_directory_with_other_files_is_refused(tmp_path):
  (tmp_path / "holiday.jpg").touch()
  with pytest.raises(UserError, match="holds files, but no search"):
    settle_recipe(recipe(), tmp_path)
  assert not (tmp_path / "recipe.gin").exists()


def test_a_store_belongs_to_one_recipe(tmp_path):
  with begun_store(tmp_path, recipe()) as store:
    assert store.recipe() == recipe().to_gin()
  for binding, message in (
    ("Detector.num_filters = 16", r"another --store.*\n  Detector.num_filters: 256 there, 16 now"),
    ("Search.num_trials = 11", r"Search.num_trials: 12 there, 11 now"),
  ):
    with pytest.raises(UserError, match=message), begun_store(tmp_path, recipe(binding)):
      pass
  more = recipe("Search.num_trials = 20")
  with begun_store(tmp_path, more) as store:
    assert store.recipe() == more.to_gin()


class TestFormerRecipes:
  """Recipes that were written before algorithms had settings of their own."""

  def test_a_stored_one_means_what_it_meant(self):
    there = read_recipe([stored(FORMER.read_text())])
    assert there.search.algorithm == PPO()
    assert (there.search.num_trials, there.space.num_intermediate_cells) == (40, 11)
    assert there.experiment.detector.architecture.num_cells

  @pytest.mark.parametrize(
    ("former", "algorithm"),
    [
      (
        "Search.algorithm = 'ppo'\nSearch.cell = 'layer_norm_lstm'\nSearch.learning_rate = 0.5\n",
        PPO(cell="layer_norm_lstm", learning_rate=0.5),
      ),
      (
        "Search.tournament_size = 3\nSearch.algorithm = 'evolution'\nSearch.learning_rate = 0.5\n",
        Evolution(tournament_size=3),
      ),
      ("Search.algorithm = 'random'\nSearch.population_size = 7\n", RandomSearch()),
    ],
  )
  def test_a_search_of_then_goes_on(self, former, algorithm, tmp_path):
    other = [line for line in recipe().to_gin().splitlines(True) if "PPO" not in line]
    (tmp_path / "recipe.gin").write_text(former + "".join(other))
    now = dataclasses.replace(
      recipe(), search=dataclasses.replace(recipe().search, algorithm=algorithm)
    )
    settle_recipe(now, tmp_path)
    assert written(tmp_path) == now.to_gin()

  @pytest.mark.parametrize(("name", "now"), MOVED.items())
  def test_a_user_is_told_the_present_name(self, name, now):
    with pytest.raises(UserError, match=f"Search no longer has a setting '{name}': it is {now}"):
      recipe(f"Search.{name} = 3")

  @pytest.mark.parametrize("value", ["'ppo'", "'annealing'", "@PPO", "3", "@SearchSpace()"])
  def test_what_is_no_algorithm_is_refused(self, value):
    known = r"@PPO\(\), @Evolution\(\) or @RandomSearch\(\)"
    with pytest.raises(UserError, match=f"is no search algorithm: write {known}"):
      recipe(f"Search.algorithm = {value}")

  def test_a_misspelt_algorithm_is_refused_with_the_nearest(self):
    with pytest.raises(UserError, match=r"Did you mean Evolution\?"):
      recipe("Search.algorithm = @Evolutoin()")


def test_a_broken_recipe_is_named(tmp_path):
  (tmp_path / "recipe.gin").write_text("Search.seed = = 4")
  with pytest.raises(UserError, match=r"recipe.gin: .*gin cannot parse it"):
    settle_recipe(recipe(), tmp_path)


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("include '{}'", "cannot include a file"),
    ("import os", "cannot import a module"),
    ("a/Search.seed = 1", "have no scopes"),
    ("seed = 1", "define no macros"),
    ("Search.seed = %seed", "a macro is not allowed here"),
  ],
)
def test_a_recipe_that_does_more_than_bind_values_is_refused(tmp_path, line, message):
  (tmp_path / "secret.gin").write_text("Search.seed = 1\n")
  search_dir = tmp_path / "search"
  search_dir.mkdir()
  hostile = recipe().to_gin() + line.replace("{}", str(tmp_path / "secret.gin"))
  (search_dir / "recipe.gin").write_text(hostile)
  for ask in (
    lambda: settle_recipe(recipe(), search_dir),
    lambda: read_recipe([storage.stored_recipe(search_dir)]),
  ):
    with pytest.raises(UserError, match=rf"recipe\.gin: .*{message}") as error:
      ask()
    assert "secret" not in str(error.value)


def test_a_recipe_that_is_a_link_is_not_followed(tmp_path):
  (tmp_path / "secret.gin").write_text(recipe().to_gin())
  search_dir = tmp_path / "search"
  search_dir.mkdir()
  (search_dir / "recipe.gin").symlink_to(tmp_path / "secret.gin")
  with pytest.raises(UserError, match=r"recipe\.gin is a symbolic link"):
    settle_recipe(recipe(), search_dir)


@pytest.mark.parametrize(
  ("cls", "field", "value"),
  [
    (SearchConfig, "algorithm", "annealing"),
    (SearchConfig, "num_trials", 0),
    (SearchConfig, "seed", -1),
    (PPO, "cell", "gru"),
    (PPO, "learning_rate", 0.0),
    (PPO, "baseline_decay", 1.0),
    (Evolution, "population_size", 0),
  ],
)
def test_settings_out_of_range_are_refused(cls, field, value):
  with pytest.raises(ValueError, match=field):
    cls(**{field: value})


def test_short_trials_are_not_stopped():
  with pytest.raises(UserError, match="Leave one of the two out"):
    recipe("Proxy.mode = 'shared'", "Search.early_stopping_quantile = 0.5")


def test_the_check_names_the_place_and_its_flag():
  with pytest.raises(UserError, match=r"^HERE holds a search with another recipe; .* --flag"):
    check_continues(recipe(), recipe("Search.seed = 1"), "HERE", "--flag")
