"""Shares of boxes that anchors reach, and the size that is chosen for a dataset."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from official_nasfpn.configuration import Stored, stored_bindings
from official_nasfpn.data.annotated_boxes import AnnotatedBoxes
from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.input_pipeline import train_dataset
from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.anchors import flat_anchors
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.storage import continued_recipe, settle_recipe, stored_recipe
from official_nasfpn.training.anchors.fit import (
  SIZES,
  Setting,
  best_size,
  boxes_of,
  fit_anchors,
  note_on,
  note_on_anchors,
)
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, load_experiment, open_dataset
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.training import plan_training, train_detector
from tests.modeling.anchor_reach_test import iou_of

SIDE = 256
UNSCALED = InputConfig(scale_min=1.0, scale_max=1.0)


def setting(anchor_size=4.0, data=UNSCALED, **detector):
  config = DetectorConfig(image_size=(SIDE, SIDE), anchor_size=anchor_size, **detector)
  return Setting(config, data, match_iou=0.5)


def boxes_with(sides_by_class, num_boxes=200):
  """Returns boxes at random places of images of SIDE pixels; a class has one height and width."""
  rng = np.random.default_rng(0)
  rows, classes = [], []
  for index, sides in enumerate(sides_by_class.values()):
    corner = rng.uniform(0, SIDE - np.array(sides), (num_boxes, 2))
    rows.append(np.concatenate([corner, corner + sides], axis=1))
    classes += [index] * num_boxes
  return AnnotatedBoxes(
    boxes=np.concatenate(rows),
    classes=np.array(classes),
    images=np.zeros(len(classes), np.int64),
    areas=np.ones(len(classes)),
    image_sizes=np.array([[SIDE, SIDE]], float),
    file_names=("a.jpg",),
    class_names=tuple(sides_by_class),
    class_counts=(num_boxes,) * len(sides_by_class),
  )


def write_dataset(folder, sides_by_class, num_images=10):
  """Prepares images of SIDE pixels with one box of each class; returns the folder of the data."""
  (folder / "images").mkdir(parents=True)
  boxes = boxes_with(sides_by_class, num_images)
  content = {
    "images": [{"id": id_, "file_name": f"{id_}.png"} for id_ in range(num_images)],
    "categories": [{"id": 7 + index, "name": name} for index, name in enumerate(sides_by_class)],
    "annotations": [
      {
        "id": number + 1,
        "image_id": number % num_images,
        "category_id": 7 + int(index),
        "bbox": [float(left), float(top), float(right - left), float(bottom - top)],
      }
      for number, ((top, left, bottom, right), index) in enumerate(
        zip(boxes.boxes, boxes.classes, strict=True)
      )
    ],
  }
  for image in content["images"]:
    Image.new("RGB", (SIDE, SIDE)).save(folder / "images" / image["file_name"])
  (folder / "all.json").write_text(json.dumps(content))
  prepare_dataset(folder / "data", folder / "all.json", folder / "images", num_threads=1)
  return folder / "data"


# === Shares ===


def test_shares_by_class_and_together():
  boxes = boxes_with({"small": (9, 9), "large": (128, 128), "flat": (12, 120)})
  boxes = dataclasses.replace(
    boxes, class_names=(*boxes.class_names, "none"), class_counts=(3, 1, 0, 0)
  )
  fit = fit_anchors(setting(), boxes)
  assert [row.name for row in fit.classes] == ["small", "large", "flat"]
  small, large, flat = fit.classes
  # In an anchor of 32 x 32 a box has 81 / 1024 of its area. The best of a flat one cannot be worse
  # than a half, nor as good as it, times the quarter that it is out of shape.
  assert (small.reached, large.reached, flat.reached) == (0, 1, 0)
  assert small.median_iou == pytest.approx(81 / 1024)
  assert (flat.median_height, flat.median_width) == pytest.approx((12, 120))
  assert fit.reached == pytest.approx(1 / 4)
  assert fit.mean_reached == pytest.approx(1 / 3)
  assert fit.worst.reached == 0


def test_they_are_those_of_the_boxes_in_batches(shapes_data):
  detector = DetectorConfig(image_size=(128, 128), anchor_size=5.0)
  data = InputConfig(data_dir=str(shapes_data), scale_min=0.7, scale_max=0.7, horizontal_flip=False)
  experiment = Experiment(detector, data, TrainingConfig(match_iou=0.6))
  opened, dataset = open_dataset(experiment)
  fit = fit_anchors(opened.anchor_setting, boxes_of(dataset))
  num_images = dataset.num_images(data.train_parts)
  batch = next(iter(train_dataset(data, detector.image_size, num_images, seed=0)))
  boxes, classes = batch["boxes"].numpy(), batch["classes"].numpy()
  iou = iou_of(flat_anchors(detector), boxes[classes >= 0]).max(axis=1)
  classes = classes[classes >= 0]
  assert len(iou) == sum(row.num_boxes for row in fit.classes)
  for index, row in enumerate(fit.classes):
    assert row.reached == pytest.approx((iou[classes == index] >= 0.6).mean())
    assert row.median_iou == pytest.approx(np.median(iou[classes == index]), rel=1e-4)
  assert 0.2 < fit.reached < 0.95


def test_scales_of_the_training_count_and_not_scale_1_alone():
  # 32 x 32 and larger is reached by anchors of 32 pixels; at scales below 1 it is smaller.
  boxes = boxes_with({"a": (26, 26)})
  reached = [
    fit_anchors(setting(data=InputConfig(scale_min=low, scale_max=high)), boxes).reached
    for low, high in ((1.0, 1.0), (0.5, 0.5), (0.5, 1.5))
  ]
  assert reached[1] == 0 < reached[2] < reached[0]


def test_a_class_of_which_scaling_leaves_nothing_is_not_reached():
  boxes = boxes_with({"dust": (1.5, 1.5), "large": (100, 100)})
  fit = fit_anchors(setting(data=InputConfig(scale_min=0.5, scale_max=0.5)), boxes)
  assert (fit.classes[0].reached, fit.classes[0].median_iou) == (0, 0)


# === The choice ===


def test_of_equally_good_sizes_the_one_nearest_to_the_usual_is_chosen():
  large = boxes_with({"a": (128, 128), "b": (100, 140)})
  assert best_size(setting(1.0), large)[0] == 4.0
  assert best_size(setting(1.0), large, usual=2.0)[0] == 2.0


def test_small_boxes_get_small_anchors_also_where_they_are_rare():
  boxes = boxes_with({"small": (14, 14), "large": (90, 90)})
  size, fit = best_size(setting(), boxes)
  assert size < 3
  assert size in SIZES
  shares = [fit_anchors(setting(size), boxes).mean_reached for size in SIZES]
  assert fit.mean_reached >= max(shares) - 0.005
  rare = dataclasses.replace(boxes, class_counts=(1, 10_000))
  assert best_size(setting(), rare)[0] == size


# === Notes ===


def test_the_note_names_classes_that_are_out_of_reach():
  fit = fit_anchors(setting(), boxes_with({"small": (8, 8), "large": (128, 128)}))
  assert note_on(fit, 0.5) == (
    "no anchor reaches 100 % of small (an IoU of 0.5): `nasfpn anchors` with the same --gin_file, "
    "--gin_param and --data_dir says what would"
  )
  fit = fit_anchors(setting(), boxes_with(dict.fromkeys("abcde", (8, 8))))
  assert "reaches 100 % of a, 100 % of b, 100 % of c and more than 10 % of 2 other" in note_on(
    fit, 0.5
  )


def test_there_is_no_note_on_anchors_that_fit():
  assert note_on(fit_anchors(setting(), boxes_with({"large": (128, 128)})), 0.5) is None


# === Experiments, runs and searches ===


@pytest.fixture(scope="module")
def small_boxes(tmp_path_factory):
  return write_dataset(tmp_path_factory.mktemp("small"), {"small": (14, 14), "large": (90, 90)})


@pytest.fixture(scope="module")
def large_boxes(tmp_path_factory):
  return write_dataset(tmp_path_factory.mktemp("large"), {"small": (60, 60), "large": (120, 120)})


def experiment_on(data_dir, *bindings):
  return load_experiment(
    gin_params=[
      f"Detector.image_size = {(SIDE, SIDE)}",
      f"Input.data_dir = {str(data_dir)!r}",
      *bindings,
    ]
  )


AUTO = "Detector.anchor_size = 'auto'"


def test_auto_becomes_a_number_when_the_data_is_opened(small_boxes, large_boxes, capsys):
  experiment, _ = open_dataset(experiment_on(small_boxes, AUTO))
  said = capsys.readouterr().err.splitlines()
  assert experiment.detector.anchor_size in SIZES
  assert experiment.detector.anchor_size < 3
  assert said == [
    f"Detector.anchor_size = 'auto' is {experiment.detector.anchor_size:g} for {small_boxes}: "
    + said[0].partition(": ")[2]
  ]
  bindings = stored_bindings(Stored(experiment.to_gin(), "the settings"))
  assert bindings["Detector.anchor_size"] == experiment.detector.anchor_size
  assert open_dataset(experiment)[0] == experiment
  assert open_dataset(experiment_on(large_boxes, AUTO))[0].detector.anchor_size == 4.0


def test_the_same_number_whatever_parts_are_trained_on(small_boxes):
  sizes = {
    open_dataset(experiment_on(small_boxes, AUTO, f"Input.train_parts = {parts}"))[
      0
    ].detector.anchor_size
    for parts in (("train",), ("train", "holdout"), ("train", "holdout", "val"))
  }
  assert len(sizes) == 1


def test_data_without_boxes_is_refused(tmp_path, shapes_data):
  folder = tmp_path / "data"
  shutil.copytree(shapes_data, folder)
  for part in ("train", "holdout"):
    content = json.loads((folder / f"{part}.json").read_text())
    (folder / f"{part}.json").write_text(json.dumps({**content, "annotations": []}))
  with pytest.raises(UserError, match=r"train and holdout of .* have none\. Give a number"):
    open_dataset(experiment_on(folder, AUTO))
  experiment, dataset = open_dataset(experiment_on(folder))
  assert note_on_anchors(experiment.anchor_setting, dataset) is None


def test_a_run_keeps_its_number_when_the_data_has_changed(small_boxes, large_boxes, tmp_path):
  folder = RunFolder(tmp_path / "run")
  experiment, dataset = open_dataset(folder.continued(experiment_on(small_boxes, AUTO)))
  folder.claim(experiment, dataset.label_map)
  size = experiment.detector.anchor_size
  assert stored_bindings(folder.config())["Detector.anchor_size"] == size
  again, _ = open_dataset(folder.continued(experiment_on(large_boxes, AUTO)))
  assert again.detector.anchor_size == size != 4.0
  # A number that is given is not 'auto'.
  given = folder.continued(experiment_on(small_boxes, "Detector.anchor_size = 8.0"))
  with pytest.raises(UserError, match=r"Detector\.anchor_size is .* there and 8\.0 here"):
    folder.refuse_another(open_dataset(given)[0])


def test_a_search_keeps_its_number_when_the_data_has_changed(small_boxes, large_boxes, tmp_path):
  def recipe(data_dir):
    return read_recipe(
      gin_params=[
        f"Detector.image_size = {(SIDE, SIDE)}",
        f"Input.data_dir = {str(data_dir)!r}",
        AUTO,
      ]
    )

  def resolved(data_dir):
    return proxy_task.resolved(continued_recipe(recipe(data_dir), tmp_path))

  there = resolved(small_boxes)
  settle_recipe(there, tmp_path)
  size = there.experiment.detector.anchor_size
  assert stored_bindings(stored_recipe(tmp_path))["Detector.anchor_size"] == size
  assert resolved(small_boxes) == there
  settle_recipe(resolved(small_boxes), tmp_path)
  assert resolved(large_boxes).experiment.detector.anchor_size == size != 4.0


@pytest.mark.slow
def test_a_training_says_it_at_its_start_and_goes_on_with_its_number(
  small_boxes, large_boxes, tiny_detector, tmp_path, capsys
):
  data_dir, run = tmp_path / "data", tmp_path / "run"
  shutil.copytree(small_boxes, data_dir)
  experiment = Experiment(
    dataclasses.replace(tiny_detector, image_size=(SIDE, SIDE), anchor_size="auto"),
    InputConfig(data_dir=str(data_dir)),
    TrainingConfig(batch_size=2, epochs=0.5, warmup_epochs=0.0, decay_epochs=()),
  )
  train_detector(experiment, run, evaluate=False)
  said = capsys.readouterr().err
  assert said.count("Detector.anchor_size = 'auto' is ") == 1
  assert said.count(f"% of small (an IoU of 0.5): `nasfpn anchors --model_dir {run}` says") == 1
  assert said.index("no anchor reaches") < said.index("the first step is done")
  size = RunFolder(run).load()[0].detector.anchor_size
  assert size < 3

  for part in ("train", "holdout"):
    shutil.copy(large_boxes / f"{part}.json", data_dir)
  assert open_dataset(experiment)[0].detector.anchor_size != size
  capsys.readouterr()
  train_detector(experiment, run, evaluate=False)
  assert "anchor" not in capsys.readouterr().err
  assert RunFolder(run).load()[0].detector.anchor_size == size


def test_the_plan_says_what_no_anchor_reaches(small_boxes, large_boxes, tiny_detector):
  def plan(data_dir, anchor_size):
    detector = dataclasses.replace(tiny_detector, image_size=(SIDE, SIDE), anchor_size=anchor_size)
    data = InputConfig(data_dir=str(data_dir))
    return plan_training(Experiment(detector, data, TrainingConfig(batch_size=2))).as_text()

  assert "\nanchors          no anchor reaches 100 % of small (" in plan(small_boxes, 8.0)
  assert "\nanchors " not in plan(large_boxes, 4.0)
