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
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, open_dataset
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.start_weights import (
  CLASS_NAMES,
  SHARED_WEIGHTS,
  Taken,
  class_names_of,
  take_weights,
  taken_sentence,
  weight_name,
  weights_by_part,
)
from official_nasfpn.training.training import train_detector

CLASSES = LabelMap((Category(1, "cat"), Category(2, "dog")))
SAME_NAMES_NOT = LabelMap((Category(1, "dog"), Category(2, "cat")))
CONFIG = DetectorConfig(
  backbone="R-10",
  backbone_width=0.25,
  architecture="nas_fpn",
  num_filters=8,
  num_repeats=1,
  head_num_convs=1,
  image_size=(128, 128),
)


def detector(seed, config=CONFIG, num_classes=2):
  tf_keras.utils.set_random_seed(seed)
  return build_detector(config, num_classes)


def values(model):
  return {
    (part, number): variable.numpy()
    for part, variables in weights_by_part(model).items()
    for number, variable in enumerate(variables)
  }


@pytest.fixture(scope="module")
def source():
  """Returns a detector with weights of its own."""
  return detector(1)


@pytest.fixture(scope="module")
def run(source, tmp_path_factory):
  """Returns a run folder that holds the weights of `source`."""
  folder = RunFolder(tmp_path_factory.mktemp("start") / "run")
  experiment = Experiment(CONFIG, InputConfig(data_dir="nowhere"), TrainingConfig(batch_size=4))
  folder.claim(experiment, CLASSES)
  checkpoint = tf.train.Checkpoint(model=source)
  tf.train.CheckpointManager(checkpoint, str(folder.checkpoints), max_to_keep=1).save()
  return folder.path


@pytest.fixture(scope="module")
def search(source, tmp_path_factory):
  """Returns the directory of a search whose trials start from backbone and heads of `source`."""
  directory = tmp_path_factory.mktemp("start") / "search"
  (directory / SHARED_WEIGHTS.parent).mkdir(parents=True)
  named = {
    weight_name(part, number): variable.numpy()
    for part, variables in weights_by_part(source).items()
    for number, variable in enumerate(variables)
    if part != "pyramid"
  }
  np.savez(
    directory / SHARED_WEIGHTS,
    fingerprint=np.array("hash"),
    **{CLASS_NAMES: np.array(class_names_of(CLASSES))},
    **named,
  )
  return directory


def test_a_whole_training_is_taken(source, run):
  model = detector(2)
  table = take_weights(model, CLASSES, str(run))
  assert all(row.taken == row.total > 0 for row in table)
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
  table = {row.part: row for row in take_weights(model, CLASSES, str(search))}
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
  table = {row.part: row for row in take_weights(model, CLASSES, str(run))}
  assert table["pyramid"].taken == table["pyramid"].total


@pytest.mark.parametrize(
  ("label_map", "num_classes"),
  [(SAME_NAMES_NOT, 2), (LabelMap((*CLASSES.categories, Category(3, "cow"))), 3)],
  ids=["another order", "another number"],
)
def test_other_classes_get_new_rows(source, run, label_map, num_classes):
  model = detector(2, num_classes=num_classes)
  before, expected = values(model), values(source)
  table = {row.part: row for row in take_weights(model, label_map, str(run))}
  assert table["backbone"].taken == table["backbone"].total
  kept = [
    number
    for number, variable in enumerate(weights_by_part(model)["head"])
    if "/scores/" in variable.name
  ]
  assert len(kept) == 2 == table["head"].total - table["head"].taken
  for (part, number), value in values(model).items():
    new = part == "head" and number in kept
    np.testing.assert_array_equal(value, (before if new else expected)[part, number])


def test_another_width_leaves_the_parts_that_it_changes(run):
  model = detector(2, dataclasses.replace(CONFIG, num_repeats=2))
  assert taken_sentence(take_weights(model, CLASSES, str(run))) == (
    "backbone taken, pyramid new, head taken"
  )


def test_what_does_not_fit_at_all_is_refused(run):
  other = dataclasses.replace(CONFIG, backbone="R-18", num_filters=12, head_num_convs=2)
  other = dataclasses.replace(other, num_repeats=2)
  with pytest.raises(UserError, match="none of its weights fits"):
    take_weights(detector(2, other), CLASSES, str(run))


def test_it_is_said_what_is_taken():
  table = [Taken("backbone", 5, 5), Taken("pyramid", 0, 3), Taken("head", 1, 2)]
  assert taken_sentence(table) == "backbone taken, pyramid new, 1 of 2 weights of head taken"


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
