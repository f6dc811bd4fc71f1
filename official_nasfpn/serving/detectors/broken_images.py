"""Which images of a batch TensorFlow cannot decode."""

import re
from collections.abc import Sequence

import tensorflow as tf

from official_nasfpn.errors import UserError

# Names of graph nodes, which TensorFlow writes around a reason.
_NODES = re.compile(r"\{\{.*?\}\}|\[Op:.*?\]")


def refusal(encoded: Sequence[bytes]) -> UserError | None:
  """Returns an error that names the images that cannot be decoded; None if all can be.

  Args:
    encoded: a batch on which a detector failed.
  """
  broken = {}
  for index, image in enumerate(encoded):
    try:
      tf.io.decode_image(image, channels=3, expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
      broken[index] = _NODES.sub("", error.message).strip().rstrip(".")
  if not broken:
    return None
  first = min(broken)
  others = f" Nor can images {', '.join(map(str, list(broken)[1:]))}." if len(broken) > 1 else ""
  return UserError(
    f"Image {first} of {len(encoded)}, counted from 0, of {len(encoded[first])} bytes, cannot be "
    f"decoded: {broken[first]}.{others}"
  )
