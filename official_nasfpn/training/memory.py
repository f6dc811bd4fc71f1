"""What to do when a batch does not fit into a device's memory."""

import contextlib
import math
import re
from collections.abc import Iterator

import tensorflow as tf

from official_nasfpn.errors import UserError

_UNITS = {"bytes": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
# Weights and what other programs use are not asked for together with the rest.
_SHARE_FOR_A_STEP = 0.9


class OutOfMemory(UserError):
  """A batch does not fit into the memory of a device."""


@contextlib.contextmanager
def memory_errors(
  setting: str,
  batch_size: int,
  strategy: tf.distribute.Strategy,
  micro_batches: int = 1,
  advice: str = "",
) -> Iterator[None]:
  """Turns what TensorFlow raises within the block for want of memory into `OutOfMemory`.

  Args:
    setting: name of the setting that holds the size of the batch.
    batch_size: its value, over all replicas.
    strategy: the replicas.
    micro_batches: parts in which each replica computes its share of the batch.
    advice: a sentence on what else another size of the batch takes.
  """
  try:
    yield
  except tf.errors.ResourceExhaustedError as error:
    message = str(error)
    # A full disk is reported in the same way.
    if not re.search(r"OOM|[Oo]ut of memory", message):
      raise
    num_parts = strategy.num_replicas_in_sync * micro_batches
    size = f"{setting} = {batch_size} does not fit into the memory of {_device_name()}"
    if batch_size <= num_parts:
      remedy = "Lower Detector.image_size, num_filters or num_repeats."
    else:
      fitting = batch_that_fits(message, batch_size, num_parts, _memory_bytes())
      remedy = f'By estimate {fitting} would: --gin_param "{setting} = {fitting}".'
      if setting == "Training.batch_size":
        remedy += " The learning rate follows the batch size by itself."
    raise OutOfMemory(f"{size}. {f'{remedy} {advice}'.strip()}") from error


def batch_that_fits(message: str, batch_size: int, num_parts: int, memory_bytes: int | None) -> int:
  """Returns an estimate of the largest batch that fits.

  XLA asks for the memory of a whole step at once, which grows with the batch. Without XLA
  TensorFlow asks tensor by tensor, and half of the batch is as good a guess as any.

  Args:
    message: what TensorFlow says.
    batch_size: images over all replicas that do not fit; more than one a part.
    num_parts: parts that are computed one by one: replicas, or each replica's micro-batches.
    memory_bytes: memory that TensorFlow may use on a device; None if it is unknown.

  Returns:
    A smaller number of images, in parts of one size.
  """
  share = 0.5
  asked = re.search(r"allocate\s+([\d.]+)\s*(bytes|[KMGT]?i?B)\b", message)
  if asked and memory_bytes and asked[2] in _UNITS:
    fitting_share = _SHARE_FOR_A_STEP * memory_bytes / (float(asked[1]) * _UNITS[asked[2]])
    # The rest of the memory was taken: the estimate does not hold.
    share = fitting_share if fitting_share < 1 else share
  return max(math.floor(share * batch_size / num_parts), 1) * num_parts


def _device_name() -> str:
  gpus = tf.config.list_physical_devices("GPU")
  if not gpus:
    return "this machine"
  return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "the GPU")


def _memory_bytes() -> int | None:
  """Returns the memory that TensorFlow may use on the smallest GPU; None if it does not say."""
  if not tf.config.list_physical_devices("GPU"):
    return None
  # No public function tells.
  from tensorflow.python.client import device_lib

  try:
    devices = device_lib.list_local_devices()
  except (RuntimeError, tf.errors.OpError):  # It may need memory itself.
    return None
  return min((each.memory_limit for each in devices if each.device_type == "GPU"), default=None)
