"""Image files as they go into TFRecords: byte for byte where TensorFlow reads them right."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError

from official_nasfpn.data.image_headers import (
  MAX_TRAINING_PIXELS,
  declared_orientation,
  image_format,
  open_image,
  refuse_bomb,
)
from official_nasfpn.data.pixels import BrokenImageError as BrokenImageError
from official_nasfpn.data.pixels import must_turn, to_rgb

# What is decoded to detect in, by whoever it was sent: as bytes, 0.8 GB. A file of a hundred bytes
# can declare more.
MAX_DETECTION_PIXELS = 1 << 28


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


def read_image(
  image: str | os.PathLike | bytes, annotated_size: tuple[int, int] | None = None
) -> EncodedImage:
  """Returns an image as a detector is to get it: the same bytes as `prepare_data` would store.

  Args:
    image: a file, or its bytes. Formats that TensorFlow cannot decode are encoded anew; an EXIF
      orientation is applied, as in training.
    annotated_size: width and height by the annotations, if there are any.

  Raises:
    BrokenImageError: it is no image, or a damaged one, or cannot be read, or has more than
      `MAX_DETECTION_PIXELS`.
  """
  try:
    data = image if isinstance(image, bytes) else Path(image).read_bytes()
    return encode_image(data, annotated_size, MAX_DETECTION_PIXELS)
  except OSError as error:
    raise BrokenImageError(f"cannot be read: {error.strerror}") from error


def encode_image(
  data: bytes,
  annotated_size: tuple[int, int] | None,
  max_pixels: int = MAX_TRAINING_PIXELS,
  look: Callable[[np.ndarray], object] = lambda pixels: None,
) -> EncodedImage:
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
    max_pixels: an image that declares more is refused before it is decoded.
    look: is called with the pixels, uint8 [height, width, 3]; of what is stored as JPEG anew, with
      those before that.

  Raises:
    BrokenImageError: the image cannot be decoded to its end, or has too many pixels.
  """
  refuse_bomb(data, max_pixels)
  in_tensorflow = _in_tensorflow(data)
  size = None if in_tensorflow is None else in_tensorflow.shape[1::-1]
  orientation = declared_orientation(data)
  if size is not None and not must_turn(orientation, size, annotated_size):
    look(in_tensorflow)
    return EncodedImage(data, image_format(data), *size)
  image = _decode(data)
  turned = must_turn(orientation, image.size, annotated_size)
  if turned:
    image = ImageOps.exif_transpose(image)
  pixels = to_rgb(image)
  look(np.asarray(pixels))
  # A photograph stays a JPEG: as PNG it would take ten times the space.
  format_ = "jpeg" if size is not None and image_format(data) == "jpeg" else "png"
  options = {"quality": 95, "subsampling": 0} if format_ == "jpeg" else {}
  buffer = io.BytesIO()
  pixels.save(buffer, format_, **options)
  return EncodedImage(buffer.getvalue(), format_, *pixels.size, turned, reencoded=size is None)


def decoded_picture(data: bytes) -> Image.Image:
  """Returns the pixels that training and detection see of an encoded image.

  Pillow would show some files otherwise, such as those of 16 bits, and would not show them all.

  Args:
    data: as in `EncodedImage`.
  """
  return Image.fromarray(tf.io.decode_image(data, channels=3, expand_animations=False).numpy())


def is_misread(data: bytes) -> bool:
  """Returns whether TensorFlow takes the palette of a BMP for colours, without an error."""
  if not data.startswith(b"BM"):
    return False
  try:
    with open_image(data) as image:
      return image.mode == "P"
  # Of a damaged file TensorFlow says what is wrong.
  except Exception:
    return False


def _in_tensorflow(data: bytes) -> np.ndarray | None:
  """Returns the pixels, uint8 [height, width, 3], if TensorFlow decodes the whole image right."""
  if image_format(data) == "other":
    return None
  try:
    return tf.io.decode_image(data, channels=3).numpy()
  except tf.errors.OpError:
    return None


def _decode(data: bytes) -> Image.Image:
  try:
    image = open_image(data)
    image.load()
  except UnidentifiedImageError as error:
    # Pillow's own message names a buffer in memory.
    raise BrokenImageError("not in any known image format") from error
  except Exception as error:
    raise BrokenImageError(str(error)) from error
  return image
