"""Augmentations in the input pipeline: off, on, mixed, seeded, counted."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from official.vision.dataloaders import tf_example_decoder
from official.vision.ops import preprocess_ops
from PIL import Image

from official_nasfpn.data import input_pipeline, preprocessing
from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.input_pipeline import (
  explained_train_images,
  shuffled_records,
  train_dataset,
)
from official_nasfpn.data.preparation import prepare_dataset

SIZE = (64, 96)
ALL = {
  "mosaic": 0.5,
  "random_crop": 0.5,
  "copy_paste": 0.5,
  "mixup": 0.3,
  "color_jitter": 0.4,
  "rand_augment": 1,
}


@pytest.fixture
def plain(shapes_info):
  return InputConfig(data_dir=str(shapes_info.data_dir))


def _take(dataset, count):
  return list(dataset.take(count).as_numpy_iterator())


def _assert_same(first, second):
  for one, other in zip(first, second, strict=True):
    for key in one:
      assert one[key].tobytes() == other[key].tobytes(), key


def _former_pipeline(config, image_size, batch_size, seed):
  """Returns the batches of `train_dataset` as it was before there were augmentations."""
  stream = input_pipeline._stream_seed(seed, 0, 0)
  decoder = tf_example_decoder.TfExampleDecoder()
  size = tf.constant(image_size, tf.float32)

  def parse(index, record):
    seed = tf.stack([tf.constant(stream, tf.int64), index])
    decoded = decoder.decode(record)
    image = decoded["image"]
    single = tf.logical_not(decoded["groundtruth_is_crowd"])
    boxes = tf.boolean_mask(decoded["groundtruth_boxes"], single)
    classes = tf.cast(tf.boolean_mask(decoded["groundtruth_classes"], single), tf.int32) - 1
    scale, offset_y, offset_x, flip = tf.unstack(tf.random.stateless_uniform([4], seed))
    image, boxes = tf.cond(
      flip < 0.5,
      lambda: (
        preprocess_ops.horizontal_flip_image(image),
        preprocess_ops.horizontal_flip_boxes(boxes),
      ),
      lambda: (image, boxes),
    )
    scale = config.scale_min + scale * (config.scale_max - config.scale_min)
    scaled_size = preprocessing.fitted_size(image, tf.round(scale * size))
    offset = tf.floor(tf.maximum(scaled_size - size, 0.0) * tf.stack([offset_y, offset_x]))
    resized = tf.image.resize(image, tf.cast(scaled_size, tf.int32))
    top, left = tf.unstack(tf.cast(offset, tf.int32))
    cropped = resized[top : top + image_size[0], left : left + image_size[1]]
    image = preprocessing.pad(preprocessing.normalize(cropped), image_size)
    boxes = preprocess_ops.resize_and_crop_boxes(boxes, scaled_size, size, offset)
    visible = tf.reduce_all(boxes[:, 2:] - boxes[:, :2] >= 1.0, axis=-1)
    boxes, classes = tf.boolean_mask(boxes, visible), tf.boolean_mask(classes, visible)
    order = tf.argsort(tf.random.stateless_uniform([tf.shape(boxes)[0]], seed))[:100]
    return {
      "image": image,
      "boxes": preprocess_ops.clip_or_pad_to_fixed_size(tf.gather(boxes, order), 100, 0),
      "classes": preprocess_ops.clip_or_pad_to_fixed_size(tf.gather(classes, order), 100, -1),
    }

  records = shuffled_records(config, stream, tf.distribute.InputContext())
  return records.enumerate().map(parse).batch(batch_size)


def test_with_all_off_batches_are_those_of_before_byte_for_byte(plain):
  assert not plain.augmentations
  now = _take(train_dataset(plain, SIZE, 8, seed=3), 14)
  _assert_same(now, _take(_former_pipeline(plain, SIZE, 8, seed=3), 14))


@pytest.fixture(scope="module")
def everything(shapes_info):
  """All augmentations, and the first 400 images of their stream; tracing it takes seconds."""
  config = InputConfig(data_dir=str(shapes_info.data_dir), **ALL)
  return config, _take(explained_train_images(config, SIZE, seed=3), 400)


@pytest.mark.slow
def test_one_seed_decides_every_batch_however_many_threads_parse(everything, monkeypatch):
  config, explained = everything
  monkeypatch.setattr(input_pipeline, "_num_processors", lambda: 8)
  dataset = train_dataset(config, SIZE, 8, seed=3)
  assert dataset.element_spec == train_dataset(config.only(None), SIZE, 8, seed=3).element_spec
  for number, batch in enumerate(_take(dataset, 20)):
    rows = explained[8 * number : 8 * (number + 1)]
    _assert_same([{key: np.stack([row[key] for row in rows]) for key in batch}], [batch])


@pytest.mark.slow
def test_augmented_images_are_whole_and_their_boxes_within(everything):
  for image in everything[1]:
    present = image["classes"] >= 0
    boxes = image["boxes"][present]
    assert np.isfinite(image["image"]).all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= SIZE).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
    assert not image["boxes"][~present].any()
    assert (image["classes"] < 4).all()


@pytest.mark.slow
def test_settings_are_shares_of_the_images_and_what_was_done_is_named(everything):
  names = [{name.decode() for name in image["names"]} for image in everything[1]]
  share = {
    name: np.mean([name in each for each in names])
    for name in ("mosaic", "random crop", "copy-paste", "mixup", "colours")
  }
  assert share["mosaic"] == pytest.approx(0.5, abs=0.08)
  # Of those that are no mosaic.
  assert share["random crop"] == pytest.approx(0.25, abs=0.08)
  assert share["copy-paste"] == pytest.approx(0.5, abs=0.08)
  assert share["mixup"] == pytest.approx(0.3, abs=0.08)
  assert share["colours"] == 1
  assert not any({"mosaic", "random crop"} <= each for each in names)


def test_a_resumed_training_sees_other_images_and_always_the_same(plain):
  config = dataclasses.replace(plain, mixup=0.5)
  first, resumed, again = (
    _take(train_dataset(config, SIZE, 8, seed=3, first_step=step), 3) for step in (0, 5, 5)
  )
  _assert_same(resumed, again)
  assert not np.array_equal(first[0]["image"], resumed[0]["image"])


def test_an_image_is_mixed_with_others_in_the_order_of_the_stream(plain):
  # Each time made anew: a second look at one dataset is in another order.
  records, again = (shuffled_records(plain, 7, tf.distribute.InputContext()) for _ in range(2))
  mixed = _take(input_pipeline._with_others(records, 4, 7), 200)
  assert [row[0] for row in mixed] == _take(again, 200)
  # A group is longer than an epoch of these 48 images, so an image may meet itself.
  assert np.mean([len(set(row)) for row in mixed]) > 4.7
  firsts = {row[1] for row in mixed}
  assert len(firsts) > 40


def _dataset_of_crowded_images(folder, num_images, boxes_per_side):
  (folder / "images").mkdir(parents=True)
  annotations = []
  for number in range(num_images):
    Image.new("RGB", (96, 64)).save(folder / "images" / f"{number}.png")
    for index in range(boxes_per_side**2):
      y, x = divmod(index, boxes_per_side)
      box = [
        x * 96 / boxes_per_side,
        y * 64 / boxes_per_side,
        90 / boxes_per_side,
        60 / boxes_per_side,
      ]
      annotations.append(
        {"id": len(annotations), "image_id": number, "category_id": 1, "bbox": box}
      )
  content = {
    "images": [{"id": number, "file_name": f"{number}.png"} for number in range(num_images)],
    "annotations": [{**row, "iscrowd": 0} for row in annotations],
    "categories": [{"id": 1, "name": "thing"}],
  }
  (folder / "all.json").write_text(json.dumps(content))
  options = {"validation_fraction": 0.0, "holdout_fraction": 0.0, "num_threads": 2}
  prepare_dataset(folder / "data", folder / "all.json", folder / "images", **options)
  return InputConfig(data_dir=str(folder / "data"), train_parts=("train",))


def test_of_a_mosaic_with_too_many_boxes_a_random_choice_is_trained_on(tmp_path):
  crowded = _dataset_of_crowded_images(tmp_path, 6, boxes_per_side=5)
  config = dataclasses.replace(crowded, mosaic=1.0, max_num_boxes=30, min_visible=0.1)
  images = _take(explained_train_images(config, (256, 384), seed=0), 6)
  for image in images:
    assert image["num_boxes"] > 30
    assert (image["classes"] == 0).all()
    # From all four images, not from the first ones.
    assert len(np.unique(image["boxes"][:, 0])) > 8
    assert np.ptp(image["boxes"][:, 0]) > 128


@pytest.mark.slow
def test_images_without_boxes_go_through_everything(tmp_path):
  config = _dataset_of_crowded_images(tmp_path, 3, boxes_per_side=0)
  config = dataclasses.replace(config, **{**ALL, "mosaic": 0.3, "rand_augment": 2})
  for batch in _take(train_dataset(config, SIZE, 16, seed=0), 4):
    assert (batch["classes"] == -1).all()
    assert not batch["boxes"].any()
    assert np.isfinite(batch["image"]).all()
