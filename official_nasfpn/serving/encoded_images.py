"""The images of a call, as an export and a model server take them. No TensorFlow."""

from collections.abc import Sequence

from official_nasfpn.errors import UserError


def check_encoded(encoded: Sequence[bytes]) -> list[bytes]:
  """Returns a list of encoded images as bytes.

  Raises:
    UserError: it is no list, or has something else than the bytes of a file.
  """
  if isinstance(encoded, bytes | bytearray | memoryview | str):
    raise UserError("Give a list of encoded images; put a single one into brackets.")
  for index, image in enumerate(encoded):
    if not isinstance(image, bytes | bytearray | memoryview):
      raise UserError(
        f"Image {index} of {len(encoded)}, counted from 0, is of type {type(image).__name__}: "
        "give the bytes of a JPEG or PNG file, as `Path.read_bytes` reads them."
      )
  return [bytes(image) for image in encoded]
