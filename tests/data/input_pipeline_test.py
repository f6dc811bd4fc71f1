"""Batches for training and evaluation."""

import dataclasses
import json
import re

import numpy as np
import pytest
import tensorflow as tf
from official.vision.dataloaders import retinanet_input, tf_example_decoder
from official.vision.ops import preprocess_ops
from PIL import Image

from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.dataset_info import FILLER_ID, DatasetInfo
from official_nasfpn.data.input_pipeline import (
  evaluation_dataset,
  shuffled_records,
  train_dataset,
)
from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.errors import UserError

SIZE = (64, 64)
PLAIN = {"scale_min": 1.0, "scale_max": 1.0, "horizontal_flip": False}
ALL_TRAIN = {"validation_fraction": 0.0, "holdout_fraction": 0.0, "num_threads": 2}


@pytest.fixture
def config(shapes_info):
  return InputConfig(data_dir=str(shapes_info.data_dir))


def _take(dataset, count):
  return [{key: value.numpy() for key, value in batch.items()} for batch in dataset.take(count)]


def _assert_same(first, second):
  for a, b in zip(first, second, strict=True):
    for key in a:
      np.testing.assert_array_equal(a[key], b[key])


def _host(index, num_hosts, num_replicas=None):
  return tf.distribute.InputContext(num_hosts, index, num_replicas or num_hosts)


# === Training ===


def test_train_batches_are_static_and_of_the_promised_types(config):
  spec = train_dataset(config, (64, 128), 6, seed=0).element_spec
  assert spec == {
    "image": tf.TensorSpec((6, 64, 128, 3), tf.float32),
    "boxes": tf.TensorSpec((6, 100, 4), tf.float32),
    "classes": tf.TensorSpec((6, 100), tf.int32),
  }


def test_nobody_waits_for_a_thread_that_tunes(config):
  for dataset in (
    train_dataset(config, (128, 128), 4, 0),
    evaluation_dataset(config, (128, 128), 4),
  ):
    assert dataset.options().autotune.enabled is False


def test_one_seed_decides_every_batch(config):
  first = _take(train_dataset(config, SIZE, 8, seed=3), 14)
  _assert_same(first, _take(train_dataset(config, SIZE, 8, seed=3), 14))
  other = _take(train_dataset(config, SIZE, 8, seed=4), 1)
  assert not np.array_equal(first[0]["image"], other[0]["image"])


def test_resumed_run_sees_another_stream(config):
  # Model Garden replays the beginning after every restart.
  start = _take(train_dataset(config, SIZE, 8, seed=0), 1)[0]
  resumed = _take(train_dataset(config, SIZE, 8, seed=0, first_step=100), 1)[0]
  assert not np.array_equal(start["boxes"], resumed["boxes"])


def _key(boxes):
  """Identifies an image by its boxes, which augmentation leaves alone in these tests."""
  return np.sort(np.round(boxes.ravel(), 2)).tobytes()


def test_every_epoch_has_every_image_once_in_a_new_order(config):
  config = dataclasses.replace(config, **PLAIN)
  batches = _take(train_dataset(config, SIZE, 8, seed=0), 18)
  keys = [_key(boxes) for batch in batches for boxes in batch["boxes"]]
  epochs = [keys[start : start + 48] for start in (0, 48, 96)]
  assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
  assert len(set(epochs[0])) > 40
  assert epochs[0] != epochs[1] != epochs[2]


def test_images_of_a_dataset_larger_than_the_buffer_come_at_any_time_of_an_epoch(tmp_path):
  """All files read at once, an image's place would be that of its file in every epoch."""
  num_images, num_epochs = 320, 6
  _write_images(tmp_path, num_images)
  prepare_dataset(
    tmp_path / "data",
    tmp_path / "all.json",
    tmp_path / "images",
    **{**ALL_TRAIN, "num_shards": 16},
  )
  config = InputConfig(data_dir=str(tmp_path / "data"), train_parts=("train",), shuffle_buffer=20)
  records = shuffled_records(config, 0, tf.distribute.InputContext())
  names = {"image/source_id": tf.io.FixedLenFeature([], tf.string)}
  found = records.batch(num_images).map(
    lambda batch: tf.io.parse_example(batch, names)["image/source_id"]
  )
  orders = [batch.astype(int) for batch in found.take(num_epochs).as_numpy_iterator()]
  for order in orders:
    assert set(order) == set(range(num_images))
  places = [np.argsort(order) for order in orders]
  correlations = np.corrcoef(places)[np.triu_indices(num_epochs, k=1)]
  assert abs(correlations.mean()) < 0.2
  assert abs(correlations).max() < 0.8


def _write_images(folder, num_images):
  (folder / "images").mkdir()
  names = [f"{id_}.png" for id_ in range(num_images)]
  for name in names:
    Image.new("RGB", (8, 8)).save(folder / "images" / name)
  content = {
    "images": [{"id": id_, "file_name": name} for id_, name in enumerate(names)],
    "annotations": [],
    "categories": [{"id": 1, "name": "thing"}],
  }
  (folder / "all.json").write_text(json.dumps(content))


def test_augmentation_differs_between_epochs(config):
  config = dataclasses.replace(config, train_parts=("holdout",), horizontal_flip=False)
  batches = _take(train_dataset(config, SIZE, 10, seed=0), 2)
  first, second = ({boxes.tobytes() for boxes in batch["boxes"]} for batch in batches)
  assert len(first & second) <= 1  # Images without boxes look alike.


def test_parts_choose_the_images(config, shapes_info):
  config = dataclasses.replace(config, train_parts=("holdout",), evaluation_part="holdout", **PLAIN)
  trained = _take(train_dataset(config, SIZE, 10, seed=0), 1)[0]
  evaluated = _take(evaluation_dataset(config, SIZE, 10), 1)[0]
  assert sorted(map(_key, trained["boxes"])) == sorted(map(_key, evaluated["boxes"]))


def test_without_augmentation_training_sees_what_evaluation_sees(config):
  config = dataclasses.replace(config, train_parts=("val",), **PLAIN)
  trained = _take(train_dataset(config, SIZE, 12, seed=0), 1)[0]
  evaluated = _take(evaluation_dataset(config, SIZE, 12), 1)[0]
  pixels = {image.tobytes() for image in trained["image"]}
  assert pixels == {image.tobytes() for image in evaluated["image"]}


def _make(folder, images, boxes_of):
  """Prepares a dataset of the given uint8 images, with boxes and crowd flags per image."""
  (folder / "images").mkdir(parents=True)
  annotations = []
  for id_, image in enumerate(images):
    Image.fromarray(image).save(folder / "images" / f"{id_}.png")
    for box, is_crowd in boxes_of(id_):
      annotations.append(
        {"image_id": id_, "category_id": 8, "bbox": box, "iscrowd": is_crowd, "id": 0}
      )
  content = {
    "images": [{"id": id_, "file_name": f"{id_}.png"} for id_ in range(len(images))],
    "annotations": annotations,
    "categories": [{"id": 8, "name": "eight"}],
  }
  (folder / "all.json").write_text(json.dumps(content))
  prepare_dataset(folder / "data", folder / "all.json", folder / "images", **ALL_TRAIN)
  return InputConfig(data_dir=str(folder / "data"), train_parts=("train",), evaluation_part="val")


@pytest.fixture(scope="module")
def rectangle(tmp_path_factory):
  """One black image with one white rectangle, a box around it."""
  image = np.zeros((100, 160, 3), np.uint8)
  image[30:60, 20:80] = 255
  folder = tmp_path_factory.mktemp("rectangle")
  return _make(folder, [image], lambda id_: [([20, 30, 60, 30], 0)])


def _white(image):
  """Returns ymin, xmin, ymax, xmax of what is white, to half a pixel."""
  brightness = image * preprocess_ops.STDDEV_NORM + preprocess_ops.MEAN_NORM
  rows, columns = np.nonzero(brightness.mean(-1) > 0.5)
  # Padding is grey after undoing the normalisation, but never that bright.
  return np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])


@pytest.mark.parametrize("scales", [(0.8, 1.2), (0.3, 2.5)])
def test_boxes_follow_the_pixels_through_scaling_cropping_and_flipping(rectangle, scales):
  config = dataclasses.replace(rectangle, scale_min=scales[0], scale_max=scales[1])
  checked = 0
  for batch in _take(train_dataset(config, (128, 160), 40, seed=0), 3):
    for image, boxes, classes in zip(batch["image"], batch["boxes"], batch["classes"], strict=True):
      if classes[0] == -1:
        continue  # Cropped away.
      checked += 1
      assert classes.tolist() == [0] + [-1] * 99
      np.testing.assert_allclose(_white(image), boxes[0], atol=1.5)
      assert not boxes[1:].any()
  assert checked > 80


def test_jitter_and_flip_cover_their_ranges(rectangle):
  images = np.concatenate(
    [batch["boxes"][:, 0] for batch in _take(train_dataset(rectangle, (100, 160), 50, seed=1), 4)]
  )
  whole = images[(images[:, 1] > 1) & (images[:, 3] < 159)]
  scale = (whole[:, 3] - whole[:, 1]) / 60
  assert scale.min() == pytest.approx(0.8, abs=0.03)
  assert scale.max() == pytest.approx(1.2, abs=0.06)
  small = whole[scale < 0.99]
  # Left of the middle as drawn, right of it when flipped; smaller images stay at the top left.
  flipped = (small[:, 1] + small[:, 3]) / 2 > 80 * (small[:, 3] - small[:, 1]) / 60
  assert 0.3 < flipped.mean() < 0.7


def test_cropping_offsets_vary(rectangle):
  config = dataclasses.replace(rectangle, scale_min=1.5, scale_max=1.5, horizontal_flip=False)
  boxes = _take(train_dataset(config, (100, 160), 50, seed=0), 1)[0]["boxes"][:, 0]
  # The image is 50 rows and 80 columns too large; the box begins in row 45, column 30.
  assert len(np.unique(boxes[:, 0])) > 10
  assert np.ptp(boxes[:, 0]) > 38
  assert len(np.unique(boxes[:, 3])) > 10
  assert np.ptp(boxes[:, 3]) > 65


def test_crowds_are_not_trained_on(tmp_path):
  images = [np.zeros((50, 50, 3), np.uint8)]
  config = _make(tmp_path, images, lambda id_: [([1, 1, 20, 20], 1), ([5, 5, 30, 30], 0)])
  config = dataclasses.replace(config, evaluation_part="train", **PLAIN)
  for dataset in (
    train_dataset(config, (50, 50), 1, seed=0),
    evaluation_dataset(config, (50, 50), 1),
  ):
    (batch,) = _take(dataset, 1)
    np.testing.assert_allclose(batch["boxes"][0, 0], [5, 5, 35, 35], rtol=1e-6)
    assert batch["classes"][0, 1] == -1


def test_more_boxes_than_fit_are_chosen_from_at_random(tmp_path):
  # tensorflow/tpu#311, google/automl#93, tensorflow/models#11076: training stopped hours in.
  images = [np.zeros((200, 200, 3), np.uint8)]
  boxes = [([i, i, 10, 10], 0) for i in range(150)]
  config = _make(tmp_path, images, lambda id_: boxes)
  config = dataclasses.replace(config, **PLAIN)
  first, second = _take(train_dataset(config, (200, 200), 1, seed=0), 2)
  for batch in (first, second):
    assert (batch["classes"] == 0).all()
    assert len(np.unique(batch["boxes"][0, :, 0])) == 100
  assert set(first["boxes"][0, :, 0]) != set(second["boxes"][0, :, 0])


def test_images_without_boxes_are_trained_on(tmp_path):
  images = [np.zeros((50, 50, 3), np.uint8)] * 3
  config = _make(tmp_path, images, lambda id_: [])
  (batch,) = _take(train_dataset(config, SIZE, 3, seed=0), 1)
  assert (batch["classes"] == -1).all()
  assert not batch["boxes"].any()


@pytest.mark.parametrize("num_shards", [3, 22])
def test_hosts_share_the_training_images(tmp_path, shapes_info, num_shards):
  """Three files for two hosts are shared by example, twenty-two by file."""
  annotations, images = shapes_info.data_dir / "annotations.json", shapes_info.data_dir / "images"
  prepare_dataset(tmp_path / "data", annotations, images, num_shards=num_shards, **ALL_TRAIN)
  config = InputConfig(data_dir=str(tmp_path / "data"), train_parts=("train",), **PLAIN)
  keys = []
  for host in range(2):
    dataset = train_dataset(config, SIZE, 60, seed=0, input_context=_host(host, 2))
    assert dataset.element_spec["image"].shape[0] == 30
    batches = _take(dataset, 1)
    keys.append({_key(boxes) for boxes in batches[0]["boxes"] if boxes.any()})
  assert not keys[0] & keys[1]
  assert len(keys[0] | keys[1]) > 50


def test_hosts_augment_differently(tmp_path):
  # Model Garden draws the same scales on every host.
  images = [np.zeros((100, 100, 3), np.uint8)] * 2
  config = _make(tmp_path, images, lambda id_: [([20, 30, 60, 30], 0)])
  first, second = (
    _take(train_dataset(config, SIZE, 8, seed=0, input_context=_host(host, 2)), 1)[0]["boxes"]
    for host in range(2)
  )
  assert not np.isclose(first[:, 0], second[:, 0]).all(axis=-1).any()


# === Evaluation ===


def test_evaluation_batches_are_static_and_of_the_promised_types(config):
  spec = evaluation_dataset(config, (64, 128), 5).element_spec
  assert spec == {
    "image": tf.TensorSpec((5, 64, 128, 3), tf.float32),
    "boxes": tf.TensorSpec((5, 100, 4), tf.float32),
    "classes": tf.TensorSpec((5, 100), tf.int32),
    "image_id": tf.TensorSpec((5,), tf.int64),
    "original_size": tf.TensorSpec((5, 2), tf.float32),
    "scaled_size": tf.TensorSpec((5, 2), tf.float32),
  }


@pytest.mark.parametrize("num_hosts", [1, 5])
def test_every_image_is_evaluated_once_whatever_the_batch_size(config, shapes_info, num_hosts):
  content = json.loads(shapes_info.annotation_file("val").read_text())
  batch_size = 5 * num_hosts
  seen, num_batches = [], set()
  for host in range(num_hosts):
    batches = _take(evaluation_dataset(config, SIZE, batch_size, _host(host, num_hosts)), 99)
    num_batches.add(len(batches))
    seen.extend(id_ for batch in batches for id_ in batch["image_id"])
  # Every host runs the same number of steps, or collectives would wait for ever.
  assert num_batches == {-(-12 // batch_size)}
  assert sorted(id_ for id_ in seen if id_ != FILLER_ID) == sorted(
    row["id"] for row in content["images"]
  )
  assert len(seen) % batch_size == 0


def test_several_replicas_of_one_host_share_its_batches(config):
  batches = _take(evaluation_dataset(config, SIZE, 8, _host(0, 1, num_replicas=2)), 99)
  assert [len(batch["image_id"]) for batch in batches] == [4] * 4
  assert sum((batch["image_id"] != FILLER_ID).sum() for batch in batches) == 12


def test_boxes_lead_back_to_the_annotations(config, shapes_info):
  content = json.loads(shapes_info.annotation_file("val").read_text())
  (batch,) = _take(evaluation_dataset(config, SIZE, 12), 1)
  images = {row["id"]: row for row in content["images"]}
  for i, image_id in enumerate(batch["image_id"]):
    row = images[image_id]
    assert batch["original_size"][i].tolist() == [row["height"], row["width"]]
    expected = [
      (shapes_info.label_map.index_of(box["category_id"]), *box["bbox"])
      for box in content["annotations"]
      if box["image_id"] == image_id
    ]
    scale = batch["original_size"][i] / batch["scaled_size"][i]
    boxes = batch["boxes"][i] * np.tile(scale, 2)
    actual = [
      (index, x, y, right - x, bottom - y)
      for index, (y, x, bottom, right) in zip(batch["classes"][i], boxes, strict=True)
      if index >= 0
    ]
    np.testing.assert_allclose(actual, np.reshape(expected, (-1, 5)), atol=1e-3)


def test_equals_model_gardens_parser_on_real_images(real_data, tmp_path):
  coco = real_data / "coco_val128"
  prepare_dataset(
    tmp_path / "data", coco / "annotations/instances_val2017.json", coco / "val2017", num_threads=2
  )
  info = DatasetInfo.load(tmp_path / "data")
  assert info.num_images(("train", "holdout", "val")) == 128
  assert sum(part.num_boxes for part in info.parts.values()) == 898
  assert info.label_map.num_classes == 80
  assert info.label_map.category_id(79) == 90
  image_size = (128, 256)
  parser = retinanet_input.Parser(
    list(image_size), 3, 7, 3, [0.5, 1.0, 2.0], 4.0, dtype="float32", max_num_instances=100
  )
  config = InputConfig(data_dir=str(info.data_dir))
  (ours,) = _take(evaluation_dataset(config, image_size, 10), 1)
  decoder = tf_example_decoder.TfExampleDecoder()
  parse = parser.parse_fn(is_training=False)
  records = {}
  for record in tf.data.TFRecordDataset(info.shard_paths(("val",))):
    image, labels = parse(decoder.decode(record))
    records[int(labels["groundtruths"]["source_id"])] = image, labels["groundtruths"]
  for i, image_id in enumerate(ours["image_id"]):
    image, truth = records[int(image_id)]
    np.testing.assert_allclose(ours["image"][i], image, atol=5e-6)
    single = (truth["is_crowds"].numpy() == 0) & (truth["classes"].numpy() >= 0)
    np.testing.assert_array_equal(
      ours["classes"][i][: single.sum()] + 1, truth["classes"].numpy()[single]
    )
    scale = ours["scaled_size"][i] / ours["original_size"][i]
    np.testing.assert_allclose(
      ours["boxes"][i][: single.sum()],
      truth["boxes"].numpy()[single] * np.tile(scale, 2),
      atol=1e-3,
    )


# === Bad input ===


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"data_dir": "/nowhere"}, "'/nowhere' holds no prepared dataset"),
    ({"train_parts": ("training",), "evaluation_part": "validation"}, "no part '(train|valid)"),
  ],
)
def test_what_cannot_be_read_is_explained(config, values, message):
  config = dataclasses.replace(config, **values)
  with pytest.raises(UserError, match=message):
    train_dataset(config, SIZE, 2, seed=0)
  with pytest.raises(UserError, match=message):
    evaluation_dataset(config, SIZE, 2)


def test_empty_part_is_explained(rectangle):
  with pytest.raises(UserError, match=re.escape("has no images in val")):
    evaluation_dataset(rectangle, SIZE, 2)
