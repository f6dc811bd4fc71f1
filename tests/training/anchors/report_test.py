"""The report on anchors, its suggestion, its picture and its program."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from official_nasfpn.errors import UserError
from official_nasfpn.training.anchors.figure import anchors_figure
from official_nasfpn.training.anchors.fit import boxes_of, fit_anchors
from official_nasfpn.training.anchors.report import report_anchors
from official_nasfpn.training.experiment import load_experiment, open_dataset
from tests.training.anchors.fit_test import SIDE, write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """Cells, and what is hard to find: dots, specks and poles."""
  classes = {"cell": (60, 60), "dot": (11, 11), "speck": (2.5, 3), "pole": (120, 20)}
  return write_dataset(tmp_path_factory.mktemp("cells"), classes, num_images=12)


def experiment_on(data, *bindings):
  image_size = f"Detector.image_size = {(SIDE, SIDE)}"
  return load_experiment(gin_params=[image_size, f"Input.data_dir = {str(data)!r}", *bindings])


@pytest.fixture(scope="module")
def report(data):
  return report_anchors(experiment_on(data))


def test_boxes_are_on_the_levels_of_their_size(report):
  assert [row.level for row in report.levels] == [3, 4, 5, 6, 7]
  assert report.levels[0].anchor_sides == pytest.approx((32, 32 * 2 ** (2 / 3)))
  # Of 10 images for training: dots and specks have no better anchors than those of level 3.
  num_images = report.num_boxes // 4
  assert report.levels[0].num_boxes >= 2 * num_images
  assert sum(row.num_boxes for row in report.levels) == report.num_boxes == report.num_sampled
  assert report.levels[4].box_sides is None


def test_boxes_that_are_too_small_are_named(report):
  (tiny,) = report.tiny
  assert (tiny.class_name, tiny.num_boxes) == ("speck", report.num_boxes // 4)
  assert len(tiny.examples) == 3
  assert all(name.endswith(".png") for name in tiny.examples)
  assert "Too small: a side below 4 pixels" in report.as_text()
  assert tiny.examples[0] in report.as_text()


def test_what_the_suggestion_says_is_what_it_gives(report, data):
  assert report.suggested_gin
  lines = report.suggested_gin.splitlines()
  again = report_anchors(experiment_on(data, *lines))
  assert again.candidates[0] == report.suggestion
  assert again.fit.mean_reached == report.suggestion.mean_reached
  assert again.fit.mean_reached >= report.fit.mean_reached + 0.02
  assert lines == report.as_text().partition("Suggestion")[2].splitlines()[1 : 1 + len(lines)]


def test_larger_images_are_offered_with_their_price(report, data):
  assert report.larger
  assert report.larger.image_size == (512, 512)
  assert "they take 4 times as long:\nDetector.image_size = (512, 512)\n" in report.as_text()
  again = report_anchors(experiment_on(data, *report.gin_of(report.larger).splitlines()))
  assert again.fit.mean_reached == report.larger.mean_reached


def test_anchors_that_fit_are_left_alone(tmp_path):
  data = write_dataset(tmp_path, {"cell": (60, 60), "wall": (100, 140)})
  report = report_anchors(experiment_on(data))
  assert report.suggestion == report.candidates[0]
  assert (report.suggested_gin, report.larger) == ("", None)
  assert report.as_text().splitlines()[-2].startswith("The anchors fit: ")


def test_anchors_that_reach_nothing_are_not_said_to_fit(tmp_path):
  data = write_dataset(tmp_path, {"speck": (2, 2)})
  report = report_anchors(experiment_on(data, "Input.scale_min = 1.0", "Input.scale_max = 1.0"))
  assert report.suggestion == report.candidates[0]
  assert "The anchors do not fit: they reach 0.0 %" in report.as_text()
  assert "The anchors fit" not in report.as_text()


def test_long_boxes_get_long_anchors(tmp_path):
  data = write_dataset(tmp_path, {"pole": (160, 20)})
  report = report_anchors(experiment_on(data))
  assert min(report.suggestion.aspect_ratios) < 0.3
  assert report.suggestion.reached > report.fit.reached + 0.2


def test_a_pyramid_with_anchors_of_its_own_gets_no_other(data):
  report = report_anchors(
    experiment_on(
      data,
      "Detector.architecture = 'ssdlite'",
      "Detector.backbone = 'MobileNetV2'",
      "Detector.num_repeats = 1",
    )
  )
  assert {row.anchor_size for row in report.candidates} == {None}
  assert len({row.image_size for row in report.candidates}) == len(report.candidates) == 3
  assert "its own" in report.as_text()
  with pytest.raises(UserError, match="has anchors of its own"):
    experiment_on(
      data,
      "Detector.architecture = 'ssdlite'",
      "Detector.backbone = 'MobileNetV2'",
      "Detector.num_repeats = 1",
      "Detector.anchor_size = 'auto'",
    )


def test_the_picture_has_every_box_and_every_anchor(data):
  experiment, dataset = open_dataset(experiment_on(data))
  boxes = boxes_of(dataset)
  figure = anchors_figure(experiment.anchor_setting, boxes)
  shapes, reach = figure.axes
  points = [each.get_offsets() for each in shapes.collections]
  assert sum(map(len, points)) == len(boxes.boxes) + 5 * 9
  assert [text.get_text() for text in shapes.get_legend().get_texts()] == [
    *("cell", "dot", "speck", "pole", "anchors")
  ]
  # At five scales; those of which an enlarged image's crop leaves nothing are not drawn.
  iou = np.concatenate([each.get_offsets()[:, 1] for each in reach.collections])
  assert 4 * len(boxes.boxes) < len(iou) <= 5 * len(boxes.boxes)
  fit = fit_anchors(experiment.anchor_setting, boxes)
  assert (iou >= 0.5).mean() == pytest.approx(fit.reached, abs=0.02)


def test_many_classes_share_a_colour(data):
  experiment, dataset = open_dataset(experiment_on(data))
  boxes = boxes_of(dataset)
  many = dataclasses.replace(
    boxes,
    classes=np.arange(len(boxes.boxes)) % 9,
    class_names=tuple("abcdefghi"),
    class_counts=(4,) * 9,
  )
  figure = anchors_figure(experiment.anchor_setting, many)
  labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
  assert labels == ["a", "b", "c", "d", "e", "4 other classes", "anchors"]


def test_the_program(data, tmp_path, run_program):
  picture = tmp_path / "anchors.png"
  finished = run_program(
    "anchors",
    "--gin_file=gin/bccd_search.gin",
    f"--data_dir={data}",
    "--gin_param=Detector.anchor_size = 'auto'",
    f"--figure={picture}",
  )
  assert finished.returncode == 0, finished.stderr
  assert finished.stderr.count("Detector.anchor_size = 'auto' is ") == 1
  assert "A box is reached if an anchor has an IoU of 0.5 or more" in finished.stdout
  assert max(map(len, finished.stdout.splitlines()[1:])) <= 110
  with Image.open(picture) as image:
    assert image.width > 1000


def test_the_program_as_json(data, run_program):
  finished = run_program(
    "anchors", "--gin_file=gin/quickstart.gin", f"--data_dir={data}", "--format=json"
  )
  assert finished.returncode == 0, finished.stderr
  content = json.loads(finished.stdout)
  assert content["fit"]["classes"][0]["name"] == "cell"
  assert content["suggestion"] in content["candidates"]
  assert content["suggested_gin"].startswith("Detector.")


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "Give a recipe with --gin_file, or --model_dir of"),
    (["--gin_file=gin/quickstart.gin", "--model_dir=x"], "Give a recipe with --gin_file, or"),
    (["--model_dir=tests"], "tests is not a run folder"),
    (["--search_dir=tests"], "There is no search in tests"),
    (["--gin_file=gin/quickstart.gin"], "No data: give --data_dir"),
    (["--gin_file=gin/quickstart.gin", "--figure=x.txt"], "an image ends in .png, .svg, .pdf"),
    (["--gin_file=gin/quickstart.gin", "--figure=no/x.png"], "there is no folder no"),
  ],
)
def test_bad_input_is_one_clear_line(arguments, message, run_program):
  finished = run_program("anchors", *arguments)
  assert finished.returncode == 1
  assert message in finished.stderr
  assert "Traceback" not in finished.stderr
