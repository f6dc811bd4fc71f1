"""Image files as they go into TFRecords: byte for byte where TensorFlow reads them right."""

import io
from dataclasses import dataclass

import tensorflow as tf
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError


class BrokenImageError(Exception):
  """Neither TensorFlow nor Pillow can decode the image."""


@dataclass(frozen=True)
class EncodedImage:
  """An image that `tf.io.decode_image(..., channels=3)` reads as [height, width, 3].

  Attributes:
    data: the encoded bytes.
    format: `jpeg` or `png`.
    width: in pixels.
    height: in pixels.
    turned: whether it was turned upright as its EXIF orientation says.
    reencoded: whether it is in another format than the file was.
  """

  data: bytes
  format: str
  width: int
  height: int
  turned: bool = False
  reencoded: bool = False


def encode_image(data: bytes, annotated_size: tuple[int, int] | None) -> EncodedImage:
  """Returns an image file in a form that TensorFlow reads right, decoded once to prove it.

  JPEG and PNG stay as they are, grey, CMYK, palette, transparent and 16-bit ones too. Other formats
  are stored as PNG: `TfExampleDecoder` fails on GIF and WebP, `decode_image` reads the palette
  indices of a BMP for colours.

  TensorFlow ignores the EXIF orientation, while the tools that boxes are drawn with follow it. So
  the image is turned upright, unless the JSON's size shows that the boxes were made on the pixels
  as they lie in the file.

  Args:
    data: content of the image file.
    annotated_size: width and height by the annotations, if they tell.

  Raises:
    BrokenImageError: the image cannot be decoded to its end.
  """
  format_ = _format(data)
  orientation = _exif_orientation(data)
  if format_ is not None:
    try:
      height, width, _ = tf.io.decode_image(data, channels=3).shape
    except tf.errors.InvalidArgumentError:
      return _reencode(data, turn=orientation != 1, format_="png")
    swaps_sides = orientation >= 5
    as_in_file = swaps_sides and annotated_size == (width, height) and width != height
    if orientation == 1 or as_in_file:
      return EncodedImage(data, format_, width, height)
  return _reencode(data, turn=orientation != 1, format_=format_ or "png")


def _format(data: bytes) -> str | None:
  if data.startswith(b"\xff\xd8\xff"):
    return "jpeg"
  if data.startswith(b"\x89PNG\r\n\x1a\n"):
    return "png"
  return None


def _exif_orientation(data: bytes) -> int:
  """Returns 1 (upright) to 8; 5 to 8 exchange width and height."""
  try:
    with Image.open(io.BytesIO(data)) as image:
      orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
  except (OSError, ValueError, SyntaxError):
    return 1
  return orientation if orientation in range(1, 9) else 1


def _reencode(data: bytes, turn: bool, format_: str) -> EncodedImage:
  try:
    with Image.open(io.BytesIO(data)) as image:
      image.load()
      upright = ImageOps.exif_transpose(image) if turn else image
      pixels = upright.convert("RGB")
  except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
    raise BrokenImageError(str(error)) from error
  buffer = io.BytesIO()
  # A photograph stays a JPEG: as PNG it would take ten times the space.
  options = {"quality": 95, "subsampling": 0} if format_ == "jpeg" else {}
  pixels.save(buffer, format_, **options)
  return EncodedImage(
    buffer.getvalue(),
    format_,
    pixels.width,
    pixels.height,
    turned=turn,
    reencoded=_format(data) != format_,
  )
