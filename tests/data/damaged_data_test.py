"""Damage in prepared data, done to its files, is named by whatever reads them."""

import shutil

import pytest
import tensorflow as tf

from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.damaged_data import damage_named
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.input_pipeline import evaluation_dataset, train_dataset
from official_nasfpn.data.stored_images import stored_images
from official_nasfpn.errors import UserError

SIZE = (64, 64)


@pytest.fixture
def data(shapes_info, tmp_path):
  shutil.copytree(shapes_info.data_dir, tmp_path / "data")
  return DatasetInfo.load(tmp_path / "data")


def flip(path, place):
  """Changes a byte of a file, whose length stays."""
  content = bytearray(path.read_bytes())
  content[place] ^= 0x55
  path.write_bytes(content)


def one_line(error, path):
  """Returns the message of an error, which must name a file and the way out in one line."""
  message = str(error.value)
  assert message.startswith(str(path))
  assert len(message.splitlines()) == 1
  assert "nasfpn prepare --synthetic --num_images=60 --image_size=96 --output_dir=" in message
  return message


def read_batches(info, batches):
  with damage_named(info):
    for _ in range(100):
      next(batches)


def read_all(info, config):
  """Reads the images of a part, those of a training and those of an evaluation."""
  list(stored_images(info, ("train",)))
  with damage_named(info):
    next(iter(train_dataset(config, SIZE, 4, seed=0)))
  with damage_named(info):
    list(evaluation_dataset(config, SIZE, 4))


# In the length of the first record, in its checksum, and in the middle, an image.
@pytest.mark.parametrize("place", [3, 9, 5000])
@pytest.mark.parametrize("part", ["train", "val"])
def test_flipped_bytes_are_said_with_the_shard_and_what_to_run(data, place, part):
  path = sorted(data.data_dir.glob(f"{part}-*.tfrecord"))[1]
  flip(path, place)
  info = DatasetInfo.load(data.data_dir)
  with pytest.raises(UserError, match="is damaged after its record") as error:
    read_all(info, InputConfig(data_dir=str(data.data_dir)))
  one_line(error, path)


def test_an_image_that_was_replaced_within_a_sound_record_is_said(data):
  path = sorted(data.data_dir.glob("train-*.tfrecord"))[0]
  records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
  start = records[1].index(b"\xff\xd8\xff")
  records[1] = records[1][: start + 300] + bytes(500) + records[1][start + 800 :]
  with tf.io.TFRecordWriter(str(path)) as writer:
    for record in records:
      writer.write(record)
  config = InputConfig(data_dir=str(data.data_dir))
  batches = iter(train_dataset(config, SIZE, 4, seed=0))
  with pytest.raises(UserError, match="is damaged after its record 1: ") as error:
    read_batches(data, batches)
  one_line(error, path)


@pytest.mark.parametrize("fault", ["deleted", "cut", "a folder"])
def test_a_shard_that_goes_while_it_is_read_is_said(data, fault):
  """The next epoch opens the files anew."""
  config = InputConfig(data_dir=str(data.data_dir), shuffle_buffer=8)
  batches = iter(train_dataset(config, SIZE, 4, seed=0))
  next(batches)
  path = sorted(data.data_dir.glob("train-*.tfrecord"))[2]
  if fault == "cut":
    path.write_bytes(path.read_bytes()[:-20])
  else:
    path.unlink()
  if fault == "a folder":
    path.mkdir()
  with pytest.raises(UserError, match=r"is missing|has \d+ bytes where") as error:
    read_batches(data, batches)
  one_line(error, path)


def test_other_errors_stay_as_they_are(data):
  with pytest.raises(tf.errors.InvalidArgumentError), damage_named(data):
    tf.io.decode_image(b"no image")
  with pytest.raises(KeyError), damage_named(data):
    raise KeyError("a")
