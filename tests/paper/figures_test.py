"""The figures: what they read, what they draw, what they refuse."""

import dataclasses
import io
import json
import random
import shutil

import pytest
from PIL import Image

from official_nasfpn.architecture import CATALOG, SearchSpace, canonical_hash, to_gin
from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.modeling import DetectorConfig
from official_nasfpn.paper import figures, measured
from official_nasfpn.paper.published import FIGURE_8, FIGURE_9A, FIGURE_9B, TABLE_1
from official_nasfpn.search.storage import database_path
from official_nasfpn.search.store.trial_store import NewTrial, TrialStore
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.run_folder import RunFolder

CONFIG = DetectorConfig(
  backbone="R-10",
  backbone_width=0.25,
  num_filters=16,
  num_repeats=1,
  head_num_convs=1,
  image_size=(128, 128),
  num_classes=3,
)


LABEL_MAP = LabelMap(tuple(Category(index + 1, name) for index, name in enumerate("xyz")))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """Returns a folder with two seeds of 1 repeat, one run of 2 repeats, and one without result."""
  folder = tmp_path_factory.mktemp("runs")
  for name, repeats, seed, ap in (("a", 1, 0, 0.3), ("b", 1, 1, 0.4), ("c", 2, 0, 0.5)):
    detector = dataclasses.replace(CONFIG, num_repeats=repeats)
    experiment = Experiment(detector, InputConfig(), TrainingConfig(seed=seed))
    RunFolder(folder / name).claim(experiment, LABEL_MAP)
    (folder / name / "evaluation.json").write_text(json.dumps({"metrics": {"AP": ap}}))
  (folder / "unfinished").mkdir()
  (folder / "unfinished" / "config.gin").touch()
  return folder


@pytest.fixture(scope="module")
def models(runs):
  return measured.read_models(measured.group_runs(measured.find_runs([runs])), with_latency=False)


def test_runs_that_differ_in_their_seed_are_one_model(models):
  one, two = models
  assert one.aps == (30, 40)
  assert one.ap == 35
  assert one.spread == pytest.approx(50**0.5)
  assert (two.aps, two.spread) == ((50,), 0)
  assert one.series == two.series == "nas_fpn, R-10 x 0.25, 16 filters, 128 pixels, 50 epochs"
  # Seven cells more.
  assert two.parameters - one.parameters == pytest.approx(7 * (9 * 16**2 + 3 * 16) / 1e6)


def numbers_at_points(axes):
  """Returns what is written at which place of the axes."""
  return {text.get_position(): text.get_text() for text in axes.texts}


def legend_of(axes):
  return [text.get_text() for text in axes.get_legend().get_texts()]


def test_capacity_and_accuracy_show_every_point(models, tmp_path):
  one, two = models
  published, ours = figures.capacity_figure(models).axes
  assert len(published.texts) == sum(point.num_repeats is not None for point in FIGURE_8)
  expected = {(one.flops / 2, 35): "1", (two.flops / 2, 50): "2"}
  assert numbers_at_points(ours) == expected
  (points,) = (container.lines[0].get_xydata().tolist() for container in ours.containers)
  assert points == [list(place) for place in expected]
  assert ours.get_title().splitlines()[0].startswith("ours, nas_fpn, R-10 x 0.25, 16 filters")
  assert ours.get_ylabel() == "AP, %"

  axes = figures.accuracy_figure(models).axes
  latency, multiply_adds, parameters = axes[6:]
  assert [text.get_text() for text in latency.texts] == ["not measured"]
  assert numbers_at_points(multiply_adds) == expected
  assert numbers_at_points(parameters) == {(one.parameters, 35): "1", (two.parameters, 50): "2"}

  for draw, name in (
    (figures.draw_capacity, "capacity.png"),
    (figures.draw_accuracy, "accuracy.png"),
  ):
    draw(models, tmp_path / name)
    with Image.open(tmp_path / name) as picture:
      assert min(picture.size) > 500


def test_a_single_run_has_axes_from_0_and_a_span(models):
  single = dataclasses.replace(models[1], exits=(measured.MeasuredExit(2, (0.0,), 20.0),))
  exits = (measured.MeasuredExit(1, (0.0,), 9.0), measured.MeasuredExit(2, (0.0,), 18.0))
  anytime = dataclasses.replace(single, exits=exits)
  drawn = (
    figures.capacity_figure([single]).axes[1],
    *figures.accuracy_figure([single]).axes[6:],
    figures.exits_figure([anytime]).axes[0],
  )
  for axes in drawn:
    low, high = axes.get_ylim()
    assert high - low >= 10
    assert -1 <= low < 0
    left, right = axes.get_xlim()
    assert left < axes.dataLim.xmin
    assert right > axes.dataLim.xmax
    assert right - left >= 9 or left == 0


def test_what_all_have_in_common_is_said_once(models):
  """Three widths of a searched pyramid: its hash is in the title, the widths in the legend."""
  spec = SearchSpace().sample(random.Random(0))
  several = [
    dataclasses.replace(
      models[0],
      config=dataclasses.replace(CONFIG, architecture=spec, num_filters=width),
    )
    for width in (16, 32, 64)
  ]
  ours = figures.capacity_figure(several).axes[1]
  assert legend_of(ours) == ["16 filters", "32 filters", "64 filters"]
  assert canonical_hash(spec) in ours.get_title()
  assert legend_of(figures.capacity_figure(models).axes[1]) == ["ours"]


def test_runs_that_differ_in_their_seed_are_one_group(tmp_path):
  factors = ({"backbone": 0.1}, {"backbone": 0.1}, {"backbone": 0.2}, None)
  for seed, learning_rate_factors in enumerate(factors):
    training = TrainingConfig(seed=seed, learning_rate_factors=learning_rate_factors)
    folder = RunFolder(tmp_path / str(seed))
    folder.claim(Experiment(CONFIG, InputConfig(), training), LABEL_MAP)
  groups = measured.group_runs([tmp_path / str(seed) for seed in range(4)])
  assert [[run.name for run in group.runs] for group in groups] == [["0", "1"], ["2"], ["3"]]
  assert groups[1].experiment.training.learning_rate_factors == {"backbone": 0.2}


def run_with(folder, ap, detector=CONFIG, seed=0, conditions=None, learning_rate=0.08, **settings):
  """Makes an evaluated run with settings of its input."""
  training = TrainingConfig(seed=seed, learning_rate=learning_rate)
  RunFolder(folder).claim(Experiment(detector, InputConfig(**settings), training), LABEL_MAP)
  content = {"metrics": {"AP": ap}, "conditions": conditions}
  (folder / "evaluation.json").write_text(json.dumps(content))


def models_in(folder):
  groups = measured.group_runs(measured.find_runs([folder]))
  return measured.read_models(groups, with_latency=False)


def legend_and_places(models):
  """Returns the AP of each point of a line, by the line's label."""
  axes = figures.capacity_figure(models).axes[1]
  return {
    label: container.lines[0].get_ydata().tolist()
    for label, container in zip(legend_of(axes), axes.containers, strict=True)
  }


def test_runs_with_other_data_or_augmentations_are_other_models(tmp_path):
  run_with(tmp_path / "0", 0.3, data_dir="/data/one")
  run_with(tmp_path / "1", 0.4, data_dir="/data/one", seed=1)
  run_with(tmp_path / "2", 0.5, data_dir="/data/one", mosaic=0.5)
  run_with(tmp_path / "3", 0.1, data_dir="/data/two", train_parts=("train",))
  models = models_in(tmp_path)
  assert [model.aps for model in models] == [(30, 40), (50,), (10,)]
  assert legend_and_places(models) == {
    "data one, train_parts train + holdout, mosaic 0": [35],
    "data one, train_parts train + holdout, mosaic 0.5": [50],
    "data two, train_parts train, mosaic 0": [10],
  }


def test_repeats_are_on_one_line_for_each_setting_of_the_input(tmp_path):
  deep = dataclasses.replace(CONFIG, num_repeats=2)
  for mosaic in (0.0, 0.5):
    for detector in (CONFIG, deep):
      name, ap = f"{detector.num_repeats} {mosaic}", 0.1 * detector.num_repeats + mosaic
      run_with(tmp_path / name, ap, detector, mosaic=mosaic)
  places = legend_and_places(models_in(tmp_path))
  assert list(places) == ["mosaic 0", "mosaic 0.5"]
  assert places["mosaic 0"] == pytest.approx([10, 20])
  assert places["mosaic 0.5"] == pytest.approx([60, 70])


def test_training_settings_are_named_where_two_points_would_have_one_place(tmp_path):
  deep = dataclasses.replace(CONFIG, num_repeats=2)
  run_with(tmp_path / "0", 0.3)
  run_with(tmp_path / "1", 0.5, deep, learning_rate=0.04)
  assert legend_and_places(models_in(tmp_path)) == {"ours": [30, 50]}
  run_with(tmp_path / "2", 0.4, learning_rate=0.04)
  assert legend_and_places(models_in(tmp_path)) == {
    "learning_rate 0.08": [30],
    "learning_rate 0.04": [40, 50],
  }


def test_data_that_was_moved_is_the_same_and_data_that_was_replaced_is_not(shapes_data, tmp_path):
  runs, copy = tmp_path / "runs", tmp_path / "copy"
  shutil.copytree(shapes_data, copy)
  run_with(runs / "0", 0.3, data_dir=str(shapes_data))
  run_with(runs / "1", 0.4, data_dir=str(copy), seed=1)
  (model,) = models_in(runs)
  assert model.aps == (30, 40)
  # Beside other data it has one name.
  run_with(runs / "2", 0.5, dataclasses.replace(CONFIG, num_repeats=2), data_dir=str(copy))
  run_with(runs / "3", 0.1, data_dir="/data/other")
  names = [("data data",), ("data data",), ("data other",)]
  assert [model.differs for model in models_in(runs)] == names
  shutil.rmtree(runs / "2")
  shutil.rmtree(runs / "3")
  # Where the data is gone, nothing says that it was the same.
  shutil.rmtree(copy)
  assert [model.differs for model in models_in(runs)] == [("data data",), ("data copy",)]

  replaced = tmp_path / "replaced"
  for number, digest in enumerate(("ab" * 32, "cd" * 32)):
    conditions = {"annotations_sha256": digest, "images_sha256": None}
    run_with(replaced / str(number), 0.3, seed=number, data_dir="/d", conditions=conditions)
  one, two = models_in(replaced)
  assert one.differs[0].startswith("data /d, evaluated on ")
  assert one.series != two.series


def test_exits_are_drawn_one_point_each(tmp_path):
  detector = dataclasses.replace(CONFIG, num_repeats=3, exit_heads="shared")
  for seed, aps in enumerate([(0.1, 0.2, 0.3), (0.3, 0.4, 0.5)]):
    folder = RunFolder(tmp_path / str(seed))
    folder.claim(Experiment(detector, InputConfig(), TrainingConfig(seed=seed)), LABEL_MAP)
    metrics = [{"AP": ap} for ap in aps]
    content = {"metrics": metrics[-1], "exit_metrics": metrics}
    folder.evaluation_file.write_text(json.dumps(content))
  groups = measured.group_runs(measured.find_runs([tmp_path]))
  (model,) = measured.read_models(groups, with_latency=False)
  assert [exit_.number for exit_ in model.exits] == [1, 2, 3]
  assert [exit_.ap for exit_ in model.exits] == pytest.approx([20, 30, 40])
  assert model.ap == pytest.approx(40)
  timed = [dataclasses.replace(exit_, latency_ms=10.0 * exit_.number) for exit_ in model.exits]
  model = dataclasses.replace(model, exits=tuple(timed))
  other = dataclasses.replace(
    model, config=dataclasses.replace(detector, exit_heads="last"), exits=tuple(timed[-1:])
  )
  figure = figures.exits_figure([model, other])
  (axes,) = figure.axes
  assert [text.get_text() for text in axes.texts] == ["1", "2", "3", "3"]
  points = axes.containers[0].lines[0].get_xydata()
  assert points.ravel() == pytest.approx([10, 20, 20, 30, 30, 40])
  (legend,) = figure.legends
  assert [text.get_text() for text in legend.get_texts()] == [
    "anytime (shared heads)",
    "ours, one exit, 3 repeats",
  ]
  figures.draw_exits([model], tmp_path / "exits.png")
  with Image.open(tmp_path / "exits.png") as picture:
    assert min(picture.size) > 500


def test_the_published_points_agree_with_table_1():
  # The same network is in both: R-50, 7 @ 256 at 640 and R-50 with FPN.
  by_recipe = {row.recipe: row for row in TABLE_1}
  seven = [p for p in FIGURE_8 if p.series == "NAS-FPN R-50 @ 256" and p.num_repeats == 7]
  assert seven[0].flops == pytest.approx(by_recipe["nasfpn_r50_640"].flops, rel=1e-3)
  fpn = [p for p in FIGURE_8 if p.series == "FPN R-50 @ 256" and p.num_repeats == 1]
  assert fpn[0].flops == pytest.approx(by_recipe["fpn_r50_640"].flops, rel=1e-3)
  wide = [p for p in FIGURE_9A if p.series == "AmoebaNet @ 384, 1280" and p.num_repeats == 7]
  row = by_recipe["nasfpn_amoebanet_384_1280"]
  assert wide[0].flops == pytest.approx(row.flops, rel=1e-3)
  assert wide[0].parameters - row.parameters == pytest.approx(4.1, abs=0.01)
  for series, repeats, recipe in (
    ("NAS-FPNLite @ 48", 3, "nasfpnlite_3x48"),
    ("NAS-FPNLite @ 64", 7, "nasfpnlite_7x64"),
    ("FPNLite @ 64", 1, "fpnlite_64"),
    ("FPNLite @ 128", 1, "fpnlite_128"),
  ):
    (light,) = (p for p in FIGURE_9B if (p.series, p.num_repeats) == (series, repeats))
    assert (light.parameters, light.flops) == (
      by_recipe[recipe].parameters,
      by_recipe[recipe].flops,
    )


def test_folders_without_a_result_are_refused(runs):
  with pytest.raises(UserError, match="No evaluated run"):
    measured.find_runs([runs / "unfinished"])


@pytest.fixture
def search_dir(tmp_path):
  """Returns a search of four trials with rewards 0.1, 0.3, 0.2 and a failure."""
  store = TrialStore(database_path(tmp_path))
  store.create()
  specs = [CATALOG["nas_fpn"], CATALOG["fpn_like"], CATALOG["panet"], CATALOG["bifpn_like"]]
  for number, spec in enumerate(specs, start=1):
    store.propose([NewTrial(number, 1, (), (), str(number), to_gin(spec))])
  for reward in (0.1, 0.3, 0.2):
    trial = store.claim("worker")
    store.report_reward(trial.number, trial.attempt, reward)
  store.report_failure(4, store.claim("worker").attempt, "NaN loss", diverged=True)
  store.close()
  return tmp_path


def test_the_program_draws_a_search(search_dir, run_program):
  output = search_dir / "search.png"
  arguments = ("--figure=search", f"--search_dir={search_dir}", f"--output={output}")
  finished = run_program("figures", *arguments)
  assert finished.returncode == 0, finished.stderr
  assert finished.stdout == f"{output}\n"
  with Image.open(output) as picture:
    assert picture.width > 1000


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--figure=capacity", "--output=x.txt"], "an image ends in .png"),
    (["--figure=capacity", "--output=nowhere/x.png"], "there is no folder nowhere"),
    (["--figure=capacity", "--output=x.png"], "needs --runs"),
    (["--figure=capacity", "--output=x.png", "--runs=gin"], "No evaluated run"),
    (["--figure=search", "--output=x.png"], "needs --search_dir"),
    (["--figure=search", "--output=x.png", "--search_dir=gin"], "There is no search in gin"),
  ],
)
def test_bad_input_is_one_clear_line(arguments, message, run_program):
  finished = run_program("figures", *arguments)
  assert finished.returncode == 1
  assert message in finished.stderr
  assert finished.stderr.count("\n") == 1


def test_input_that_cannot_be_read_is_not_taken_for_the_output(runs, tmp_path, run_program):
  run = tmp_path / "runs" / "a"
  shutil.copytree(runs / "a", run)
  (run / "label_map.json").unlink()
  (run / "label_map.json").mkdir()
  output = tmp_path / "x.png"
  arguments = ["--figure=capacity", f"--output={output}", f"--runs={run}"]
  finished = run_program("figures", *arguments)
  assert finished.returncode == 1
  assert "label_map.json cannot be read: Is a directory" in finished.stderr
  assert "x.png" not in finished.stderr

  output.mkdir()
  finished = run_program("figures", "--figure=capacity", f"--output={output}", f"--runs={runs}")
  assert finished.returncode == 1
  assert f"--output {output} is a folder" in finished.stderr


@pytest.mark.parametrize("text", ["", "[1]"])
def test_an_evaluation_that_is_damaged_is_named(runs, tmp_path, text):
  shutil.copytree(runs / "a", tmp_path / "a")
  (tmp_path / "a" / "evaluation.json").write_text(text)
  with pytest.raises(UserError, match=r"evaluation\.json cannot be read .*--mode evaluate"):
    measured.group_runs(measured.find_runs([tmp_path]))


def test_a_detector_is_timed_with_prepared_data_whose_images_are_gone(shapes_data, tmp_path):
  data = tmp_path / "data"
  shutil.copytree(shapes_data, data)
  shutil.rmtree(DatasetInfo.load(data).images_dir("val"))
  config = InputConfig(data_dir=str(data))
  images = measured._images(config)
  assert len(images) == min(10, DatasetInfo.load(data).num_images(["val"]))
  assert all(Image.open(io.BytesIO(image)).size for image in images)
  with pytest.raises(UserError, match="holds no prepared dataset"):
    measured._images(dataclasses.replace(config, data_dir=str(tmp_path / "gone")))


def test_a_wide_pyramid_is_drawn_beside_nas_fpn(tmp_path):
  spec = SearchSpace(3, 6, 11, intermediate_levels=(4,)).sample(random.Random(0))
  figures.draw_search([("one", spec)], tmp_path / "search.png")
  with Image.open(tmp_path / "search.png") as picture:
    assert picture.width > 1000


@pytest.mark.slow
def test_a_run_s_latency_is_that_of_its_own_saved_model(shapes_data, tmp_path, run_program):
  recipe = tmp_path / "tiny.gin"
  recipe.write_text(
    "Detector.backbone = 'R-10'\nDetector.backbone_width = 0.25\nDetector.num_filters = 8\n"
    "Detector.num_repeats = 1\nDetector.head_num_convs = 1\nDetector.image_size = (128, 128)\n"
    "Training.batch_size = 2\nTraining.epochs = 0.1\n"
  )
  run = tmp_path / "run"
  trained = run_program(
    "train", f"--gin_file={recipe}", f"--data_dir={shapes_data}", f"--model_dir={run}"
  )
  assert trained.returncode == 0, trained.stderr
  evaluation = json.loads((run / "evaluation.json").read_text())
  (model,) = measured.read_models(measured.group_runs([run]), with_latency=True)
  assert model.aps == (100 * evaluation["metrics"]["AP"],)
  assert 0 < model.latency_ms < 10_000
