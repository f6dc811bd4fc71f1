"""Starting from the weights of another training or of a search: what fits is taken, exactly."""

import dataclasses
import random

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detector import build_detector
from official_nasfpn.modeling.detector_parts import freeze
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, open_dataset
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.start_weights import (
  CLASS_NAMES,
  SHARED_WEIGHTS,
  Start,
  Taken,
  _of_search,
  class_names_of,
  start_backbone,
  take_weights,
  weight_name,
  weights_by_part,
)
from official_nasfpn.training.training import train_detector

CLASSES = LabelMap((Category(1, "cat"), Category(2, "dog")))
CONFIG = DetectorConfig(
  backbone="R-10",
  backbone_width=0.25,
  architecture="nas_fpn",
  num_filters=8,
  num_repeats=1,
  head_num_convs=1,
  image_size=(128, 128),
)


def rows_of(start):
  return {row.part: row for row in start.parts}


def detector(seed, config=CONFIG, num_classes=2):
  tf_keras.utils.set_random_seed(seed)
  return build_detector(config, num_classes)


def values(model):
  return {
    (part, number): weight
    for part, weights in numbers_by_part(model).items()
    for number, weight in enumerate(weights)
  }


def numbers_by_part(model):
  """Returns the weights of a detector as NumPy's, by part."""
  return {
    part: [variable.numpy() for variable in variables]
    for part, variables in weights_by_part(model).items()
  }


@pytest.fixture(scope="module")
def source():
  """Returns a detector with weights of its own."""
  return detector(1)


def claimed(config, path):
  """Returns a run folder without weights."""
  folder = RunFolder(path)
  experiment = Experiment(config, InputConfig(data_dir="nowhere"), TrainingConfig(batch_size=4))
  folder.claim(experiment, CLASSES)
  return folder


def run_of(model, config, path):
  """Returns a run folder that holds the weights of a detector."""
  folder = claimed(config, path)
  checkpoint = tf.train.Checkpoint(model=model)
  tf.train.CheckpointManager(checkpoint, str(folder.checkpoints), max_to_keep=1).save()
  return folder.path


@pytest.fixture(scope="module")
def run(source, tmp_path_factory):
  """Returns a run folder that holds the weights of `source`."""
  return run_of(source, CONFIG, tmp_path_factory.mktemp("start") / "run")


@pytest.fixture(scope="module")
def search(source, tmp_path_factory):
  """Returns the directory of a search whose trials start from backbone and heads of `source`."""
  directory = tmp_path_factory.mktemp("start") / "search"
  parts = numbers_by_part(source)
  del parts["pyramid"]
  write_shared(directory, parts)
  return directory


def write_shared(directory, parts):
  """Writes numbers by part as a search with cats and dogs keeps the weights of its trials."""
  (directory / SHARED_WEIGHTS.parent).mkdir(parents=True)
  named = {
    weight_name(part, number): weight
    for part, weights in parts.items()
    for number, weight in enumerate(weights)
  }
  np.savez(
    directory / SHARED_WEIGHTS,
    fingerprint=np.array("hash"),
    **{CLASS_NAMES: np.array(class_names_of(CLASSES))},
    **named,
  )


def test_a_whole_training_is_taken(source, run):
  model = detector(2)
  start = take_weights(model, CLASSES, str(run))
  assert all(row.taken == row.total > 0 for row in start.parts)
  assert (start.kept_classes, start.new_classes) == (("cat", "dog"), ())
  expected = values(source)
  for key, value in values(model).items():
    np.testing.assert_array_equal(value, expected[key])
  image = tf.random.stateless_normal([1, 128, 128, 3], [0, 1])
  for got, wanted in zip(
    tf.nest.flatten(model(image)), tf.nest.flatten(source(image)), strict=True
  ):
    np.testing.assert_array_equal(got, wanted)


def test_of_a_search_the_pyramid_is_new(source, search):
  model = detector(2)
  before = values(model)
  table = rows_of(take_weights(model, CLASSES, str(search)))
  assert table["pyramid"].taken == 0
  expected = values(source)
  changed = 0
  for key, value in values(model).items():
    np.testing.assert_array_equal(value, (before if key[0] == "pyramid" else expected)[key])
    changed += not np.array_equal(value, before[key])
  assert changed > 10


def test_another_pyramid_takes_its_weights_by_the_place_of_the_cells(source, run):
  model = detector(
    2, dataclasses.replace(CONFIG, architecture=SearchSpace().sample(random.Random(3)))
  )
  table = rows_of(take_weights(model, CLASSES, str(run)))
  assert table["pyramid"].taken == table["pyramid"].total


OTHER_CLASSES = {
  "another order": (Category(1, "dog"), Category(2, "cat")),
  "one more": (Category(7, "cow"), Category(8, "cat"), Category(9, "dog")),
  "one less": (Category(1, "dog"),),
  "one of them": (Category(1, "cow"), Category(2, "dog")),
}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "separable"])
def two_classes(request, tmp_path_factory):
  """Returns a detector of cats and dogs whose weights all differ, its settings and its run."""
  config = dataclasses.replace(CONFIG, separable_convolutions=request.param)
  model = detector(1, config)
  for variable in model.head.variables:
    variable.assign_add(tf.random.stateless_normal(variable.shape, [3, 4], stddev=0.1))
  return model, config, run_of(model, config, tmp_path_factory.mktemp("start") / "run")


@pytest.mark.parametrize("classes", OTHER_CLASSES.values(), ids=OTHER_CLASSES)
def test_classes_of_the_same_name_keep_their_rows(two_classes, classes):
  there, config, run = two_classes
  model, label_map = detector(2, config, len(classes)), LabelMap(classes)
  image = tf.random.stateless_normal([1, 128, 128, 3], [0, 1])
  own = model(image)[-1]["class_logits"]
  start = take_weights(model, label_map, str(run))
  assert rows_of(start)["head"].new == ()
  expected, found = there(image)[-1], model(image)[-1]

  def logits(outputs, level, num_classes):
    return outputs[level].numpy().reshape(-1, num_classes)

  for level in ("3", "7"):
    theirs = logits(expected["class_logits"], level, 2)
    ours = logits(found["class_logits"], level, len(classes))
    for index, category in enumerate(classes):
      if category.name in ("cat", "dog"):
        # Sums of convolutions of another width are rounded otherwise.
        theirs_of_it = theirs[:, int(category.name == "dog")]
        np.testing.assert_allclose(ours[:, index], theirs_of_it, rtol=1e-5, atol=1e-6)
      else:
        # As improbable as at the start of a training.
        before = logits(own, level, len(classes))[:, index]
        np.testing.assert_allclose(ours[:, index].mean(), before.mean(), atol=0.5)
    np.testing.assert_array_equal(found["box_deltas"][level], expected["box_deltas"][level])
  names = {category.name for category in classes}
  assert set(start.kept_classes) == names & {"cat", "dog"}
  assert set(start.new_classes) == names - {"cat", "dog"}


def test_heads_of_every_level_keep_the_rows_of_their_classes_too(tmp_path):
  # SSDLite predicts each level by a head of its own, with a number of anchors of its own.
  config = dataclasses.replace(CONFIG, backbone="MobileNetV2", architecture="ssdlite")
  model = detector(1, config)
  for variable in model.head.variables:
    variable.assign_add(tf.random.stateless_normal(variable.shape, [3, 4], stddev=0.1))
  write_shared(tmp_path, {"head": numbers_by_part(model)["head"]})
  image = tf.random.stateless_normal([1, 128, 128, 3], [0, 1])
  before = model(image)[-1]
  take_weights(model, LabelMap((Category(1, "dog"), Category(2, "cat"))), str(tmp_path))
  after = model(image)[-1]
  assert set(after["class_logits"]) == set("456789")
  for level, logits in after["class_logits"].items():
    cats_and_dogs = before["class_logits"][level].numpy().reshape(-1, 2)
    np.testing.assert_allclose(logits.numpy().reshape(-1, 2), cats_and_dogs[:, ::-1], atol=1e-6)
    np.testing.assert_array_equal(after["box_deltas"][level], before["box_deltas"][level])


def test_of_a_search_more_than_a_thousand_weights_of_a_part_are_read_in_order(tmp_path):
  parts = {"backbone": range(1002), "early_head_1": range(3)}
  write_shared(tmp_path, parts)
  weights, names = _of_search(tmp_path)
  for part, numbers in parts.items():
    assert [int(number) for number in weights[part]] == list(numbers)
  assert names == ("cat", "dog")


def test_classes_that_are_all_new_leave_the_predictions_new(run):
  classes = LabelMap((Category(1, "cow"),))
  start = take_weights(detector(2, num_classes=1), classes, str(run))
  new = rows_of(start)["head"].new
  assert len(new) == 2
  assert all("/scores/" in name for name in new)
  assert start.sentence().endswith("; classes none kept, cow new")
  assert "classes   kept: none; new: cow" in start.table()


def test_another_width_of_the_pyramid_is_told(run):
  model = detector(2, dataclasses.replace(CONFIG, num_filters=12))
  start = take_weights(model, CLASSES, str(run))
  rows = rows_of(start)
  assert rows["backbone"].new == ()
  assert any("lateral" in name for name in rows["pyramid"].new)
  assert "new: " in start.table()


def test_of_a_training_every_checkpoint_may_be_taken(source, run):
  checkpoint = RunFolder(run).latest_checkpoint()
  model = detector(2)
  take_weights(model, CLASSES, checkpoint)
  expected = values(source)
  for key, value in values(model).items():
    np.testing.assert_array_equal(value, expected[key])


def test_frozen_layers_do_not_change_the_order_of_weights(run):
  model = detector(2)
  before = [v.name for variables in weights_by_part(model).values() for v in variables]
  freeze(model, ("stem", "group_3", "pyramid"), backbone_norms=True)
  trainable = [weight.name for weight in model.trainable_weights]
  assert [v.name for variables in weights_by_part(model).values() for v in variables] == before
  assert [weight.name for weight in model.trainable_weights] == trainable
  start = take_weights(model, CLASSES, str(run))
  assert all(row.taken == row.total for row in start.parts)


@pytest.mark.parametrize(
  ("there", "here", "expected"),
  [
    ("R-10", "R-10", "R-10"),
    ("R-50-torch", "R-50", "R-50-torch"),
    ("R-50-torch", "R-50-torch", "R-50-torch"),
    ("R-50-torch", "R-18", "R-18"),
    ("R-18", "R-50", "R-50"),
  ],
)
def test_the_backbone_computes_what_it_did(tmp_path, there, here, expected):
  claimed(dataclasses.replace(CONFIG, backbone=there, backbone_width=1.0), tmp_path / "run")
  assert start_backbone(here, str(tmp_path / "run")) == expected


def test_another_arithmetic_is_refused(tmp_path):
  claimed(dataclasses.replace(CONFIG, backbone="R-50-torch"), tmp_path / "run")
  with pytest.raises(
    UserError, match=r"is 'R-50-torch', which .* Detector\.backbone = 'R-50-keras'"
  ):
    start_backbone("R-50-keras", str(tmp_path / "run"))
  assert start_backbone("R-50", str(tmp_path / "gone")) == "R-50"


def test_another_width_leaves_the_parts_that_it_changes(run):
  model = detector(2, dataclasses.replace(CONFIG, num_repeats=2))
  assert take_weights(model, CLASSES, str(run)).sentence() == (
    "backbone taken, pyramid new, head taken"
  )


def test_what_does_not_fit_at_all_is_refused(run):
  other = dataclasses.replace(CONFIG, backbone="R-18", num_filters=12, head_num_convs=2)
  other = dataclasses.replace(other, num_repeats=2)
  with pytest.raises(UserError, match="none of its weights fits"):
    take_weights(detector(2, other), CLASSES, str(run))


def test_it_is_said_what_is_taken():
  table = (Taken("backbone", 5, 5), Taken("pyramid", 0, 3), Taken("head", 1, 2))
  assert Start(table, ("cat",), ()).sentence() == (
    "backbone taken, pyramid new, 1 of 2 weights of head taken"
  )


def test_a_damaged_file_is_named(search, tmp_path):
  (tmp_path / SHARED_WEIGHTS.parent).mkdir()
  whole = (search / SHARED_WEIGHTS).read_bytes()
  (tmp_path / SHARED_WEIGHTS).write_bytes(whole[: len(whole) // 2])
  with pytest.raises(UserError, match=r"weights\.npz cannot be read"):
    take_weights(detector(2), CLASSES, str(tmp_path))


def test_nothing_is_claimed_if_there_is_nothing_to_start_from(shapes_data, tmp_path):
  experiment, _ = open_dataset(
    Experiment(
      CONFIG,
      InputConfig(data_dir=str(shapes_data)),
      TrainingConfig(start_from=str(tmp_path / "none")),
    )
  )
  with pytest.raises(UserError, match=r"Training\.start_from = .*none': this is neither"):
    train_detector(experiment, tmp_path / "run")
  assert not (tmp_path / "run").exists()
