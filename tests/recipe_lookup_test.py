"""Where recipes are found, by whatever name they are given."""

import shutil

import pytest

from official_nasfpn import configuration, recipes
from official_nasfpn.errors import UserError
from official_nasfpn.training.experiment import load_experiment


@pytest.fixture(params=["checkout", "installation"])
def folder(request, tmp_path, monkeypatch):
  """Returns the recipes' folder of a checkout, then of a package that brings its own."""
  monkeypatch.chdir(tmp_path)
  if request.param == "checkout":
    return recipes.recipes_folder()
  package = tmp_path / "site-packages" / "official_nasfpn"
  shutil.copytree(recipes.recipes_folder(), package / "gin")
  monkeypatch.setattr(recipes, "_PACKAGE", package)
  return package / "gin"


@pytest.mark.parametrize(
  ("name", "file"),
  [
    ("gin/bccd_search.gin", "bccd_search.gin"),
    ("gin/bccd_search", "bccd_search.gin"),
    ("./bccd_search.gin", "bccd_search.gin"),
    ("bccd_search", "bccd_search.gin"),
    ("gin/paper/ssdlite.gin", "paper/ssdlite.gin"),
    ("paper/ssdlite", "paper/ssdlite.gin"),
  ],
)
def test_a_recipe_is_found_from_any_folder(folder, name, file):
  assert recipes.find_recipe(name) == folder / file


def test_what_recipes_include_is_found_too(folder):
  assert load_experiment(["paper/fpn_r101_1024"]).detector.backbone == "R-101"
  assert load_experiment(["paper/fpn_r101_1024"]).detector.image_size == (1024, 1024)
  assert folder.is_dir()


def test_a_recipe_of_the_user_s_may_include_one_of_the_package(folder, tmp_path):
  mine = tmp_path / "mine.gin"
  mine.write_text("include 'gin/paper/fpn_r101_1024.gin'\nTraining.epochs = 3\n")
  experiment = load_experiment([mine])
  assert (experiment.detector.backbone, experiment.training.epochs) == ("R-101", 3)
  mine.write_text("include 'gin/paper/fpn_r101_102.gin'\n")
  with pytest.raises(UserError, match=r"nor a recipe of this package\.$"):
    load_experiment([mine])


def test_a_file_of_the_user_s_goes_first(folder, tmp_path):
  (tmp_path / "gin").mkdir()
  (tmp_path / "gin" / "bccd_search.gin").write_text("Training.epochs = 3\n")
  assert recipes.find_recipe("gin/bccd_search.gin").resolve().parent == tmp_path / "gin"
  assert load_experiment(["gin/bccd_search.gin"]).training.epochs == 3


@pytest.mark.parametrize(
  ("name", "nearest"),
  [
    ("gin/bccd_serch.gin", "gin/bccd_search.gin"),
    ("quickstrat", "gin/quickstart.gin"),
    ("gin/nasfpn_r50_102.gin", "gin/paper/nasfpn_r50_1024.gin"),
    ("other/bccd_search.gin", "gin/bccd_search.gin"),
  ],
)
def test_the_nearest_is_named_where_there_is_none(folder, name, nearest):
  with pytest.raises(UserError) as refusal:
    configuration.parse([name])
  assert str(refusal.value) == (
    f"There is no gin file {name!r}, and no recipe of that name in {folder}. Did you mean "
    f"{nearest}? `nasfpn recipes` lists them."
  )


def test_an_absolute_path_is_taken_as_it_is(folder, tmp_path):
  with pytest.raises(UserError, match=r"^There is no gin file '/.*/bccd_search\.gin'\.$"):
    recipes.find_recipe(tmp_path / "bccd_search.gin")


def test_an_installation_without_its_recipes_says_so(tmp_path, monkeypatch):
  # Beside the package lies the library of the folder's name, which is not to be taken for it.
  (tmp_path / "gin").mkdir()
  monkeypatch.setattr(recipes, "_PACKAGE", tmp_path / "official_nasfpn")
  monkeypatch.chdir(tmp_path)
  complaint = f"no recipes: there is no folder {tmp_path / 'official_nasfpn' / 'gin'}. Install"
  with pytest.raises(UserError) as refusal:
    recipes.recipes_folder()
  assert complaint in str(refusal.value)
  with pytest.raises(UserError) as refusal:
    recipes.find_recipe("gin/bccd_search.gin")
  assert str(refusal.value).startswith("There is no gin file 'gin/bccd_search.gin'. This install")
  assert complaint in str(refusal.value)


def test_all_are_listed_with_how_they_begin(folder, capsys):
  recipes.main(["nasfpn recipes"])
  *lines, _, place = capsys.readouterr().out.splitlines()
  assert [line.split()[0] for line in lines] == recipes.recipe_names()
  assert {path.stem for path in folder.rglob("*.gin")} == {
    line.split()[0].rsplit("/", 1)[-1].removesuffix(".gin") for line in lines
  }
  (ssdlite,) = (line for line in lines if "ssdlite.gin" in line)
  assert ssdlite.split(None, 1) == [
    "gin/paper/ssdlite.gin",
    "MobileNetV2 with SSDLite on COCO, 320 pixels",
  ]
  assert place == f"They lie in {folder}."
