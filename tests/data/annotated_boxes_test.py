"""Boxes from the annotations against those of the input pipeline."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from official.vision.ops import preprocess_ops

from official_nasfpn.data import preprocessing
from official_nasfpn.data.annotated_boxes import AnnotatedBoxes, read_boxes
from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.input_pipeline import evaluation_dataset, train_dataset
from official_nasfpn.errors import UserError

SIZE = (128, 64)


@pytest.fixture
def boxes(shapes_info):
  return read_boxes(shapes_info, ["val"])


def in_order(boxes, classes):
  """Returns a box and its class a row, in an order that does not depend on how they were found."""
  rows = np.column_stack([np.asarray(classes), np.round(boxes, 2)])
  return rows[np.lexsort(rows.T)]


def of_pipeline(dataset, num_images):
  """Returns the boxes and classes of the first images of a dataset, without padding."""
  batch = next(iter(dataset.unbatch().batch(num_images)))
  real = batch["classes"].numpy() >= 0
  return batch["boxes"].numpy()[real], batch["classes"].numpy()[real]


def test_at_scale_1_they_are_those_of_an_evaluation(shapes_info, boxes):
  config = InputConfig(data_dir=str(shapes_info.data_dir))
  num_images = shapes_info.num_images(["val"])
  expected = of_pipeline(evaluation_dataset(config, SIZE, 4), num_images)
  found, visible = boxes.in_network(SIZE)
  assert visible.all()
  assert len(found) > 20
  np.testing.assert_allclose(
    in_order(found, boxes.classes), in_order(*expected), atol=0.02
  )  # Rounded to hundredths.


@pytest.mark.parametrize("scale", [0.3, 0.55, 0.8])
def test_at_smaller_scales_they_are_those_of_a_training(shapes_info, boxes, scale):
  config = InputConfig(
    data_dir=str(shapes_info.data_dir),
    train_parts=("val",),
    scale_min=scale,
    scale_max=scale,
    horizontal_flip=False,
  )
  num_images = shapes_info.num_images(["val"])
  expected = of_pipeline(train_dataset(config, SIZE, num_images, seed=0), num_images)
  found, visible = boxes.in_network(SIZE, scale)
  np.testing.assert_allclose(
    in_order(found[visible], boxes.classes[visible]), in_order(*expected), atol=0.02
  )


def test_of_an_enlarged_image_the_middle_is_taken(boxes):
  scale = 1.7
  found, visible = boxes.in_network(SIZE, scale)
  assert 0 < visible.sum() < len(visible)
  size = tf.constant(SIZE, tf.float32)
  for image, original in enumerate(boxes.image_sizes):
    here = boxes.images == image
    pixels = tf.zeros([*original.astype(int), 3])
    scaled = preprocessing.fitted_size(pixels, tf.round(scale * size))
    offset = tf.floor(tf.maximum(scaled - size, 0) * 0.5)
    relative = (boxes.boxes[here] / np.tile(original, 2)).astype(np.float32)
    expected = preprocess_ops.resize_and_crop_boxes(relative, scaled, size, offset)
    np.testing.assert_allclose(found[here], expected, atol=1e-3)


def test_boxes_of_which_nothing_is_left_are_not_visible(boxes):
  _, visible = boxes.in_network((4, 4))
  assert not visible.all()


def test_crowds_are_left_out(shapes_info, tmp_path):
  folder = tmp_path / "data"
  shutil.copytree(shapes_info.data_dir, folder)
  content = json.loads((folder / "val.json").read_text())
  content["annotations"][0]["iscrowd"] = 1
  (folder / "val.json").write_text(json.dumps(content))
  found = read_boxes(DatasetInfo.load(folder), ["val"])
  assert len(found.boxes) == len(content["annotations"]) - 1
  assert sum(found.class_counts) == len(found.boxes)


@pytest.mark.parametrize("text", ['{"images": [', '{"images": []}', '{"images": [{}]}'])
def test_damaged_annotations_are_named(shapes_info, tmp_path, text):
  folder = tmp_path / "data"
  shutil.copytree(shapes_info.data_dir, folder)
  (folder / "val.json").write_text(text)
  with pytest.raises(UserError, match=r"val\.json is damaged"):
    read_boxes(DatasetInfo.load(folder), ["train", "val"])


def test_a_sample_has_about_as_many_boxes_of_every_class():
  counts = (900, 90, 9, 0)
  classes = np.repeat(np.arange(4), counts)
  boxes = AnnotatedBoxes(
    boxes=np.random.default_rng(0).uniform(size=(999, 4)),
    classes=classes,
    images=np.zeros(999, np.int64),
    areas=np.ones(999),
    image_sizes=np.ones((1, 2)),
    file_names=("a.jpg",),
    class_names=("a", "b", "c", "none"),
    class_counts=counts,
  )
  assert boxes.sample(999, 1) is boxes
  sample = boxes.sample(100, min_per_class=40)
  assert np.bincount(sample.classes).tolist() == [40, 40, 9]
  assert sample.class_counts == counts
  assert set(map(tuple, sample.boxes)) < set(map(tuple, boxes.boxes))
  again = boxes.sample(100, min_per_class=40)
  assert all(
    np.array_equal(getattr(sample, field.name), getattr(again, field.name))
    for field in dataclasses.fields(sample)
  )
