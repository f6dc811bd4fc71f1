"""Image files as they go into TFRecords: byte for byte where TensorFlow reads them right."""

import contextlib
import io
import os
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError

from official_nasfpn.data.pixels import BrokenImageError as BrokenImageError
from official_nasfpn.data.pixels import must_turn, orientation_of, to_rgb

# What deflate, with which PNG is compressed, shrinks at most.
_DEFLATE_RATIO = 1032
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# What TensorFlow decodes at most, so that nothing larger can be trained with.
MAX_TRAINING_PIXELS = (1 << 29) - 1
# What is decoded to detect in, by whoever it was sent: as bytes, 0.8 GB. A file of a hundred bytes
# can declare more.
MAX_DETECTION_PIXELS = 1 << 28

_PILLOW_LIMIT = threading.Lock()


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
  declared = declared_size(data)
  if declared and declared[0] * declared[1] > max_pixels:
    raise BrokenImageError(
      f"it declares {declared[0]} x {declared[1]} pixels, and at most {max_pixels:,} are decoded"
    )
  if len(data) < (needed := _least_bytes(data)):
    raise BrokenImageError(
      f"it has {len(data)} bytes, and the {declared[0]} x {declared[1]} pixels that it declares "
      f"take {needed:,} or more"
    )
  in_tensorflow = _in_tensorflow(data)
  size = None if in_tensorflow is None else in_tensorflow.shape[1::-1]
  orientation = _exif_orientation(data)
  if size is not None and not must_turn(orientation, size, annotated_size):
    look(in_tensorflow)
    return EncodedImage(data, _format(data), *size)
  image = _decode(data)
  turned = must_turn(orientation, image.size, annotated_size)
  if turned:
    image = ImageOps.exif_transpose(image)
  pixels = to_rgb(image)
  look(np.asarray(pixels))
  # A photograph stays a JPEG: as PNG it would take ten times the space.
  format_ = "jpeg" if size is not None and _format(data) == "jpeg" else "png"
  options = {"quality": 95, "subsampling": 0} if format_ == "jpeg" else {}
  buffer = io.BytesIO()
  pixels.save(buffer, format_, **options)
  return EncodedImage(buffer.getvalue(), format_, *pixels.size, turned, reencoded=size is None)


def declared_size(data: bytes) -> tuple[int, int] | None:
  """Returns the width and height that an image file declares; nothing is decoded.

  None where that cannot be told.
  """
  # Pillow reads further than the header of a PNG, and would not say the size of a damaged one.
  if _format(data) == "png" and len(data) >= 24:
    return struct.unpack(">II", data[16:24])
  try:
    with open_image(data) as image:
      return image.size
  # Pillow's parsers raise whatever they stumble over in a damaged file.
  except Exception:
    return None


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


def open_image(data: bytes) -> Image.Image:
  """Opens an image of any size; check `declared_size` before decoding what others have sent.

  Pillow's guard against decompression bombs stays on for all else: its limit is lifted only while
  this header is read.
  """
  with _without_pillow_limit():
    return Image.open(io.BytesIO(data))


@contextlib.contextmanager
def _without_pillow_limit() -> Iterator[None]:
  # One thread at a time: the limit is the process's, and must be found as it was left.
  with _PILLOW_LIMIT:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
      yield
    finally:
      Image.MAX_IMAGE_PIXELS = limit


def _format(data: bytes) -> str:
  if data.startswith(b"\xff\xd8\xff"):
    return "jpeg"
  if data.startswith(b"\x89PNG\r\n\x1a\n"):
    return "png"
  return "other"


def _least_bytes(data: bytes) -> int:
  """Returns how many bytes the pixels that a PNG declares take at least; 0 for other formats."""
  if _format(data) != "png" or len(data) < 26:
    return 0
  width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
  return width * height * depth * _PNG_CHANNELS.get(kind, 1) // 8 // _DEFLATE_RATIO


def _in_tensorflow(data: bytes) -> np.ndarray | None:
  """Returns the pixels, uint8 [height, width, 3], if TensorFlow decodes the whole image right."""
  if _format(data) == "other":
    return None
  try:
    return tf.io.decode_image(data, channels=3).numpy()
  except tf.errors.OpError:
    return None


def _exif_orientation(data: bytes) -> int:
  """Returns 1 (upright) to 8; 5 to 8 exchange width and height."""
  try:
    with open_image(data) as image:
      return orientation_of(image)
  # Pillow's parsers raise whatever they stumble over in a damaged file.
  except Exception:
    return 1


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
