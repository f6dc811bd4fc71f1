"""A damaged file of prepared data is named, whatever reads it and whenever."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from official.vision.dataloaders import tf_example_decoder

from official_nasfpn.data.dataset_info import PARTS, DatasetInfo
from official_nasfpn.errors import UserError
from official_nasfpn.progress import say

# What TensorFlow raises of a file that is damaged, deleted, locked, or on a disk that fails.
_ERRORS = (
  tf.errors.DataLossError,
  tf.errors.FailedPreconditionError,
  tf.errors.InvalidArgumentError,
  tf.errors.NotFoundError,
  tf.errors.PermissionDeniedError,
  tf.errors.UnknownError,
)


@contextlib.contextmanager
def damage_named(dataset: DatasetInfo, advice: str = "") -> Iterator[None]:
  """Turns what TensorFlow raises within the block into a `UserError`, if a file is the reason.

  TensorFlow's own error does not say which file it is: all of them are read.

  Args:
    dataset: the data that is read within the block.
    advice: a sentence on what became of the work so far.

  Raises:
    UserError: names the file, and how to make the data again.
  """
  try:
    yield
  except _ERRORS as error:
    say(f"reading failed: looking for a damaged file in {dataset.data_dir}")
    if problem := _problem(dataset):
      raise UserError(f"{problem} {advice}".rstrip()) from error
    raise


def _problem(dataset: DatasetInfo) -> str | None:
  try:
    dataset.check_files()
  except UserError as error:
    return str(error)
  decode = tf_example_decoder.TfExampleDecoder().decode
  for path in dataset.shard_paths([part for part in PARTS if part in dataset.parts]):
    number = 0
    try:
      for record in tf.data.TFRecordDataset(path):
        decode(record)
        number += 1
    except tf.errors.OpError as error:
      reason = error.message.splitlines()[0].partition(" [Op:")[0].rstrip(".")
      return f"{path} is damaged after its record {number}: {reason}. {dataset.remedy}"
  return None
