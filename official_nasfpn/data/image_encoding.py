"""Image files as they go into TFRecords: byte for byte where TensorFlow reads them right."""

import io
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps

# Pillow takes very large images for attacks; these are the user's own files.
Image.MAX_IMAGE_PIXELS = None


class BrokenImageError(Exception):
  """Neither TensorFlow nor Pillow can decode the image."""


@dataclass(frozen=True)
class EncodedImage:
  """An image that `tf.io.decode_image(..., channels=3)` reads as [height, width, 3].

  Attributes:
    data: the encoded bytes.
    format: `jpeg`, `png`, or `bmp` of a video's frame.
    width: in pixels.
    height: in pixels.
    turned: whether it was turned upright as its EXIF orientation says.
    reencoded: whether TensorFlow could not have read the file as it was.
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
  are stored as PNG: `TfExampleDecoder` fails on GIF, WebP and TIFF, and `decode_image` takes the
  palette indices of a BMP for colours.

  TensorFlow ignores the EXIF orientation, while the tools that boxes are drawn with follow it. So
  the image is turned upright, unless the annotated size shows that the boxes were drawn on the
  pixels as they lie in the file.

  Args:
    data: content of the image file.
    annotated_size: width and height by the annotations, if they tell.

  Raises:
    BrokenImageError: the image cannot be decoded to its end.
  """
  size = _size_in_tensorflow(data)
  orientation = _exif_orientation(data)
  if size is not None and not _must_turn(orientation, size, annotated_size):
    return EncodedImage(data, _format(data), *size)
  image = _decode(data)
  turned = _must_turn(orientation, image.size, annotated_size)
  if turned:
    image = ImageOps.exif_transpose(image)
  pixels = _rgb(image)
  # A photograph stays a JPEG: as PNG it would take ten times the space.
  format_ = "jpeg" if size is not None and _format(data) == "jpeg" else "png"
  options = {"quality": 95, "subsampling": 0} if format_ == "jpeg" else {}
  buffer = io.BytesIO()
  pixels.save(buffer, format_, **options)
  return EncodedImage(buffer.getvalue(), format_, *pixels.size, turned, reencoded=size is None)


def _format(data: bytes) -> str:
  if data.startswith(b"\xff\xd8\xff"):
    return "jpeg"
  if data.startswith(b"\x89PNG\r\n\x1a\n"):
    return "png"
  return "other"


def _size_in_tensorflow(data: bytes) -> tuple[int, int] | None:
  """Returns width and height if TensorFlow decodes the whole image right."""
  if _format(data) == "other":
    return None
  try:
    height, width, _ = tf.io.decode_image(data, channels=3).shape
  except tf.errors.OpError:
    return None
  return width, height


def _exif_orientation(data: bytes) -> int:
  """Returns 1 (upright) to 8; 5 to 8 exchange width and height."""
  try:
    with Image.open(io.BytesIO(data)) as image:
      orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
  # Pillow's parsers raise whatever they stumble over in a damaged file.
  except Exception:
    return 1
  return orientation if orientation in range(1, 9) else 1


def _must_turn(
  orientation: int, size: tuple[int, int], annotated_size: tuple[int, int] | None
) -> bool:
  sides_tell = orientation >= 5 and size[0] != size[1]
  return orientation != 1 and not (sides_tell and annotated_size == size)


def _decode(data: bytes) -> Image.Image:
  try:
    image = Image.open(io.BytesIO(data))
    image.load()
  except Exception as error:
    raise BrokenImageError(str(error)) from error
  return image


def _rgb(image: Image.Image) -> Image.Image:
  """Returns 8-bit RGB pixels; of 16 bits the upper 8, as TensorFlow does."""
  if image.mode.startswith("I;16"):
    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
  if image.mode in ("I", "F"):
    raise BrokenImageError("pixels of 32 bits have no agreed reading as 8 bits")
  if "transparency" in image.info:
    image = image.convert("RGBA")
  return image.convert("RGB")
