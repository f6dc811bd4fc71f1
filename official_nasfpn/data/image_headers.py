"""What an image file says of itself before it is decoded: its size, and how it is turned.

Preparing, detecting, the check of a dataset and the readers of formats that have shares of an
image's sides ask here, so that they take the same files for images.
"""

import contextlib
import io
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from official_nasfpn.data.pixels import BrokenImageError, must_turn, orientation_of

# What TensorFlow decodes at most, so that nothing larger can be trained with.
MAX_TRAINING_PIXELS = (1 << 29) - 1
# What a JPEG, PNG, GIF, BMP or WebP begins with: what an export decodes. Two bytes each.
IMAGE_STARTS = (b"\xff\xd8", b"\x89P", b"GI", b"BM", b"RI")
# What deflate, with which PNG is compressed, shrinks at most.
_DEFLATE_RATIO = 1032
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Parts of a PNG that may hold EXIF or XMP, before the pixels or behind them.
_PNG_NOTES = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
# What files of TIFF begin with, in both orders of bytes, and of BigTIFF.
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# The length of a PNG's signature and of what follows up to the kind of its colours.
_PNG_START = 26

_PILLOW_LIMIT = threading.Lock()


def open_image(image: bytes | Path) -> Image.Image:
  """Opens an image of any size; check `declared_size` before decoding what others have sent.

  Pillow's guard against decompression bombs stays on for all else: its limit is lifted only while
  this header is read.

  Args:
    image: a file, or its bytes.
  """
  with _without_pillow_limit():
    return Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)


def image_format(data: bytes) -> str:
  """Returns `jpeg`, `png` or `other`, by the first bytes of an image file."""
  if data.startswith(b"\xff\xd8\xff"):
    return "jpeg"
  if data.startswith(b"\x89PNG\r\n\x1a\n"):
    return "png"
  return "other"


def declared_size(image: bytes | Path) -> tuple[int, int] | None:
  """Returns the width and height that an image file declares; nothing is decoded.

  None where that cannot be told.

  Args:
    image: a file, or its bytes.
  """
  try:
    start = _start(image)
    # Pillow reads further than the header of a PNG, and would not say the size of a damaged one.
    if image_format(start) == "png" and len(start) >= 24:
      width, height = struct.unpack(">II", start[16:24])
      return width, height
    with open_image(image) as opened:
      return opened.width, opened.height
  # Pillow's parsers raise whatever they stumble over in a damaged file.
  except Exception:
    return None


def declared_orientation(image: bytes | Path) -> int:
  """Returns what EXIF says: 1 (upright) to 8; 5 to 8 exchange width and height.

  1 where that cannot be told.

  Args:
    image: a file, or its bytes.
  """
  try:
    # To look behind the pixels of a PNG, Pillow decodes them.
    if image_format(_start(image)) == "png" and not _has_notes(image):
      return 1
    with open_image(image) as opened:
      return orientation_of(opened)
  # Pillow's parsers raise whatever they stumble over in a damaged file.
  except Exception:
    return 1


def upright_size(
  file: Path, annotated_size: tuple[int, int] | None = None
) -> tuple[int, int] | None:
  """Returns width and height of an image as it is trained on, turned or not as `must_turn` says.

  Only the header is read. None where it cannot be.

  Args:
    file: the image.
    annotated_size: width and height by the annotations, if they tell.
  """
  size = declared_size(file)
  if size is None or size[0] * size[1] > MAX_TRAINING_PIXELS:
    return size
  orientation = declared_orientation(file)
  if orientation < 5 or not must_turn(orientation, size, annotated_size):
    return size
  # Pillow turns TIFF by itself, and its size is that of the turned image from the start.
  return size if _start(file).startswith(_TIFF) else (size[1], size[0])


def refuse_bomb(data: bytes, max_pixels: int = MAX_TRAINING_PIXELS) -> None:
  """Refuses a file that is small and would grow large, before it is decoded.

  Args:
    data: content of the image file.
    max_pixels: an image that declares more is refused.

  Raises:
    BrokenImageError: it has too many pixels, or fewer bytes than its pixels take.
  """
  declared = declared_size(data)
  if declared is None:
    return
  width, height = declared
  if width * height > max_pixels:
    raise BrokenImageError(
      f"it declares {width} x {height} pixels, and at most {max_pixels:,} are decoded"
    )
  if len(data) < (needed := _least_bytes(data)):
    raise BrokenImageError(
      f"it has {len(data)} bytes, and the {width} x {height} pixels that it declares "
      f"take {needed:,} or more"
    )


def _start(image: bytes | Path) -> bytes:
  with _opened(image) as file:
    return file.read(_PNG_START)


def _has_notes(image: bytes | Path) -> bool:
  """Returns whether a PNG has more than pixels; to the end, or to where it is damaged."""
  with _opened(image) as file:
    file.seek(8)
    while len(head := file.read(8)) == 8:
      length, kind = struct.unpack(">I4s", head)
      if kind in _PNG_NOTES:
        return True
      # A checksum follows.
      file.seek(length + 4, io.SEEK_CUR)
  return False


def _opened(image: bytes | Path) -> BinaryIO:
  return io.BytesIO(image) if isinstance(image, bytes) else image.open("rb")


def _least_bytes(data: bytes) -> int:
  """Returns how many bytes the pixels that a PNG declares take at least; 0 for other formats."""
  if image_format(data) != "png" or len(data) < _PNG_START:
    return 0
  width, height, depth, kind = struct.unpack(">IIBB", data[16:_PNG_START])
  bits: int = width * height * depth * _PNG_CHANNELS.get(kind, 1)
  return bits // 8 // _DEFLATE_RATIO


@contextlib.contextmanager
def _without_pillow_limit() -> Iterator[None]:
  # One thread at a time: the limit is the process's, and must be found as it was left.
  with _PILLOW_LIMIT:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
      yield
    finally:
      Image.MAX_IMAGE_PIXELS = limit
