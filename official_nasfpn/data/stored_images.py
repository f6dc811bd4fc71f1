"""The encoded images of prepared data."""

from collections.abc import Iterator, Sequence

import tensorflow as tf

from official_nasfpn.data.damaged_data import damage_named
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.input_pipeline import without_autotuning


def stored_images(dataset: DatasetInfo, parts: Sequence[str]) -> Iterator[tuple[int, bytes]]:
  """Yields the id and the encoded bytes of every image of some parts, in the order of the files.

  Args:
    dataset: prepared data.
    parts: names of its parts.

  Raises:
    UserError: a file is damaged.
  """
  features = {
    "image/source_id": tf.io.FixedLenFeature([], tf.string),
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
  }
  paths = dataset.shard_paths(parts)
  if not paths:
    return
  records = iter(without_autotuning(tf.data.TFRecordDataset(paths)))
  while True:
    # What is raised where the image is used is none of this.
    with damage_named(dataset):
      record = next(records, None)
    if record is None:
      return
    example = tf.io.parse_single_example(record, features)
    yield int(example["image/source_id"].numpy()), example["image/encoded"].numpy()
