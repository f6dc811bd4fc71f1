"""Reading experiments from recipes and from the files of a search."""

from pathlib import Path

import pytest

from official_nasfpn.architecture import CATALOG, to_gin, to_json
from official_nasfpn.configuration import Stored
from official_nasfpn.data.dataset_info import DatasetInfo, Part
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.training.experiment import load_experiment, settle_backbone
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.training import evaluate_detector, train_detector

CATS_DOGS = LabelMap((Category(1, "cat"), Category(2, "dog")))
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


def test_a_recipe_that_includes_a_searched_file_takes_its_architecture_alone(recipe, searched):
  recipe.write_text(f"include {str(searched)!r}\n{RECIPE}")
  assert load_experiment([recipe]).detector.architecture == CATALOG["panet"]
  for line in ("Training.epochs = 1", "include 'recipe.gin'", "import os"):
    searched.write_text(f"{to_gin(CATALOG['panet'])}\n{line}\n")
    with pytest.raises(UserError, match=r"architecture\.gin: an architecture "):
      load_experiment([recipe])


@pytest.mark.parametrize("quote", ['"""', "'''"])
def test_text_in_stored_settings_is_no_include(tmp_path, quote):
  secret = tmp_path / "secret.txt"
  secret.write_text("s3cret")
  text = f"Training.start_from = {quote}\ninclude {str(secret)!r}\n{quote}\n"
  training = load_experiment([Stored(text, "stored")]).training
  # A path is made whole, but nothing in it is read.
  assert training.start_from == str(Path(f"\ninclude {str(secret)!r}\n").resolve())


@pytest.mark.parametrize(("name", "write"), [("secret.gin", to_gin), ("secret.json", to_json)])
def test_stored_settings_name_no_file_to_be_read(tmp_path, recipe, name, write):
  file = tmp_path / name
  file.write_text(write(CATALOG["panet"]))
  binding = f"Detector.architecture = {str(file)!r}\n"
  with pytest.raises(UserError, match=r"^stored: Detector\.architecture names a file"):
    load_experiment([Stored(binding, "stored")])
  # In a recipe or on the command line a user may do so.
  recipe.write_text(binding)
  assert load_experiment([recipe]).detector.architecture == CATALOG["panet"]
  by_name = load_experiment([Stored("Detector.architecture = 'fpn_like'", "stored")])
  assert by_name.detector.architecture == CATALOG["fpn_like"]


def test_a_seed_leaves_room_for_those_of_confirmations():
  assert load_experiment([], ["Training.seed = 4_000_000_000"]).training.seed + 1000 < 2**32
  with pytest.raises(UserError, match=r"Training\.seed = 4294967295: input should be less than or"):
    load_experiment([], ["Training.seed = 4294967295"])


class TestRunFolder:
  @pytest.fixture
  def folder(self, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(load_experiment(), LabelMap((Category(1, "cat"),)))
    return folder

  def test_its_settings_are_read_back(self, folder):
    assert folder.load()[0] == load_experiment()
    folder.claim(load_experiment(), folder.load()[1])

  @pytest.mark.parametrize(
    ("line", "message"),
    [
      ("include '{}'", "cannot include a file"),
      ("import os", "cannot import a module"),
      ("a/Training.epochs = 1", "have no scopes"),
      ("epochs = 1", "define no macros"),
      ("Training.epochs = %epochs", "a macro is not allowed here"),
      ("Trainnig.epochs = 1", r"no settings 'Trainnig'\. Did you mean Training\?"),
      ("Training.epoch = 1", r"Did you mean Training\.epochs\?"),
      ("Detector.architecture = '{}'", "names a file"),
    ],
  )
  def test_they_bind_values_and_do_nothing_else(self, folder, tmp_path, line, message):
    (tmp_path / "secret.gin").write_text("Training.epochs = 1\n")
    with folder.config_file.open("a") as file:
      file.write(line.replace("{}", str(tmp_path / "secret.gin")) + "\n")
    for ask in (folder.load, lambda: folder.claim(load_experiment(), LabelMap(()))):
      with pytest.raises(UserError, match=message) as error:
        ask()
      assert str(error.value).startswith(f"{folder.config_file}: ")
      assert "secret" not in str(error.value)


class TestContinuing:
  """A run goes on by the recipe that it began with, also when the weights of its start are gone."""

  SETTINGS = ("Training.backbone_weights", "Training.start_from")

  def experiment(self, backbone, *settings):
    return load_experiment([], [f"Detector.backbone = {backbone!r}", *settings])

  @pytest.fixture
  def begin(self, tmp_path):
    def begin(*settings):
      folder = RunFolder(tmp_path / "run")
      folder.claim(self.experiment("R-50-torch", *settings), CATS_DOGS)
      return folder

    return begin

  @pytest.mark.parametrize("setting", SETTINGS)
  @pytest.mark.parametrize("backbone", ["R-50", "R-50-torch"])
  def test_the_weights_may_be_gone(self, begin, tmp_path, setting, backbone):
    gone = f"{setting} = {str(tmp_path / 'gone')!r}"
    folder = begin(gone)
    continued = settle_backbone(folder.continued(self.experiment(backbone, gone)), begins=False)
    assert continued.detector.backbone == "R-50-torch"
    folder.check(continued)

  @pytest.mark.parametrize(
    ("backbone", "settings"),
    [
      ("R-50", ()),
      ("R-50", ("Training.backbone_weights = '/other'",)),
      ("R-101", ("Training.backbone_weights = '/gone'",)),
      ("R-50-keras", ("Training.backbone_weights = '/gone'",)),
    ],
  )
  def test_another_backbone_is_still_refused(self, begin, backbone, settings):
    there = ["Training.backbone_weights = '/gone'"] if settings else []
    folder = begin(*there)
    experiment = folder.continued(self.experiment(backbone, *settings))
    with pytest.raises(UserError, match=rf"backbone is 'R-50-torch' there and '{backbone}' here"):
      folder.check(settle_backbone(experiment, begins=False))


OTHER_CLASSES = {
  "another order": (("dog", "cat"), "label 1 is 'dog' in the data and 'cat' in the run"),
  "another name": (("cat", "cow"), "label 2 is 'cow' in the data and 'dog' in the run"),
  "one more": (("cat", "dog", "cow"), "label 3 is 'cow' in the data and missing in the run"),
  "one less": (("cat",), "label 2 is missing in the data and 'dog' in the run"),
}


class TestClassesOfTheRun:
  @pytest.fixture
  def folder(self, tmp_path):
    folder = RunFolder(tmp_path / "run")
    settled = ["Detector.num_classes = 2", f"Input.data_dir = {str(tmp_path / 'data')!r}"]
    folder.claim(load_experiment([], settled), CATS_DOGS)
    return folder

  @pytest.mark.parametrize(("names", "difference"), OTHER_CLASSES.values(), ids=OTHER_CLASSES)
  def test_data_of_other_classes_is_refused(self, folder, tmp_path, names, difference):
    prepare(tmp_path / "data", names)
    experiment = folder.load()[0]
    before = {file: file.read_bytes() for file in folder.path.iterdir()}
    for ask in (
      lambda: train_detector(experiment, folder.path),
      lambda: evaluate_detector(folder.path),
      lambda: evaluate_detector(folder.path, experiment=experiment),
    ):
      with pytest.raises(UserError) as error:
        ask()
      assert difference in str(error.value)
      assert f"Training.start_from = {str(folder.path)!r}" in str(error.value)
    assert {file: file.read_bytes() for file in folder.path.iterdir()} == before

  def test_ids_alone_may_differ(self, folder, tmp_path):
    prepare(tmp_path / "data", ("cat", "dog"), first_id=7)
    with pytest.raises(UserError, match="has no checkpoint yet"):
      evaluate_detector(folder.path)


def prepare(data_dir, names, first_id=1):
  """Writes a prepared dataset without images."""
  data_dir.mkdir()
  categories = tuple(Category(id_, name) for id_, name in enumerate(names, start=first_id))
  DatasetInfo(data_dir, LabelMap(categories), {}, {}, {"val": Part(0, 0, "", ())}, {}).save()
  (data_dir / "val.json").write_text("{}")


GROUPS = "'stem', 'group_2', 'group_3', 'group_4', 'group_5'"


@pytest.mark.parametrize(
  "bindings",
  [
    ["Training.frozen = ('backbone', 'pyramid', 'head')"],
    [f"Training.frozen = ({GROUPS}, 'pyramid', 'head')"],
    ["Training.learning_rate_factors = {'backbone': 0, 'pyramid': 0, 'head': 0}"],
    [f"Training.frozen = ({GROUPS})", "Training.learning_rate_factors = {'pyramid': 0, 'head': 0}"],
  ],
)
def test_a_training_that_changes_nothing_is_refused(bindings):
  with pytest.raises(UserError, match=r"Training\.frozen = .*: nothing would be trained\."):
    load_experiment(["gin/quickstart.gin"], bindings)


@pytest.mark.parametrize(
  "bindings",
  [
    ["Training.frozen = ('stem', 'group_2', 'group_3', 'group_4', 'pyramid', 'head')"],
    [f"Training.frozen = ({GROUPS}, 'head')"],
    ["Training.learning_rate_factors = {'backbone': 0, 'group_5': 1, 'pyramid': 0, 'head': 0}"],
  ],
)
def test_a_training_of_one_part_is_not_refused(bindings):
  load_experiment(["gin/quickstart.gin"], bindings)
