"""Recipes and stored settings of strangers."""

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from official_nasfpn.configuration import Stored
from official_nasfpn.recipes import recipes_folder
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.training.experiment import Experiment, load_experiment
from tests.fuzz.fuzzing import examples, opened_files, unless_refused
from tests.fuzz.mutations import mutated

# Recipes that include others are read through the file system; these stand alone.
RECIPES = [
  text
  for path in sorted(recipes_folder().rglob("*.gin"))
  if "include" not in (text := path.read_text(encoding="utf-8")) and "Detector." in text
]
PIECES = [
  "\n",
  "\r\n",
  "\0",
  "=",
  "= -1",
  "= 1e999",
  "= float('nan')",
  "= ()",
  "= {}",
  "= None",
  "= True",
  "= 'auto'",
  "= @Detector()",
  "= @Detector",
  "= %macro",
  "macro = 3\n",
  "[" * 300,
  "(" * 5000,
  "9" * 5000,
  "-",
  "'",
  '"""',
  "\\\n",
  "#",
  "import os\n",
  "include 'other.gin'\n",
  "include '/etc/hostname'\n",
  "from os import path\n",
  "scope/Detector.num_filters = 3\n",
  "Detector:\n  num_filters = 3\n",
  "Detector.num_filters = 10 ** 9\n",
  "Detector.num_repeats = 1000000000000\n",
  "Detector.image_size = (1, 1)\n",
  "Detector.architecture = 'nas_fpn'\n",
  "Detector.architecture = '/etc/hostname'\n",
  "Detector.architecture = @PyramidSpec()\n",
  "Detector.architecture = 7\n",
  "Training.schedule = 'none'\n",
  "Training.frozen = ('stem', 'stern')\n",
  "Training.learning_rate_factors = {'head': -1}\n",
  "Input.scale_min = 2.0\n",
  "Search.num_trials = 0\n",
  "\ud800",
  "\u202e",
  "é\u0301",
  "\x1b[2J",
  "🦝",
]
TEXTS = st.one_of(mutated(RECIPES, PIECES), st.lists(st.sampled_from(PIECES)).map("".join))


@examples(150)
@given(TEXTS)
def test_settings_that_a_program_has_stored(text):
  with opened_files() as opened:
    experiment = unless_refused(lambda: load_experiment([Stored(text, "stored")]))
  assert opened == [], "stored settings are data: they name no file that is read"
  if experiment is not None:
    event("read")
    assert isinstance(experiment, Experiment)
    again = load_experiment([Stored(experiment.to_gin(), "written")])
    assert again == experiment


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
  return tmp_path_factory.mktemp("recipes") / "recipe.gin"


@examples(150)
@given(text=TEXTS)
def test_recipes_that_a_user_names(recipe, text):
  recipe.write_bytes(text.encode("utf-8", "surrogatepass"))
  with opened_files() as opened:
    experiment = unless_refused(lambda: load_experiment([recipe]))
  assert not [path for path, writes in opened if writes]
  if experiment is not None:
    event("read")
    assert load_experiment([Stored(experiment.to_gin(), "written")]) == experiment


@examples(100)
@given(text=st.one_of(TEXTS, st.lists(st.sampled_from(PIECES), max_size=2).map("".join)))
def test_single_bindings_on_the_command_line(text):
  with opened_files() as opened:
    found = unless_refused(lambda: read_recipe([], [text]))
  assert not [path for path, writes in opened if writes]
  event("read" if found else "not read")
