"""Image files of strangers: small ones of every kind, damaged."""

import contextlib
import io
import math
from collections.abc import Iterator
from unittest import mock

import numpy as np
import tensorflow as tf
from hypothesis import event, given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from official_nasfpn.data import image_headers
from official_nasfpn.data.image_encoding import BrokenImageError, encode_image
from tests.fuzz.fuzzing import check_sentence, examples
from tests.fuzz.mutations import mutated

MOST_PIXELS = 1 << 14


def _file(mode, format_, **options):
  pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
  image = Image.fromarray(pixels, "RGBA") if mode != "I;16" else None
  if image is None:
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) << 8)
  elif mode == "P":
    image = image.convert("RGB").quantize(8)
  else:
    image = image.convert(mode)
  stream = io.BytesIO()
  image.save(stream, format_, **options)
  return stream.getvalue()


def _turned():
  exif = Image.Exif()
  exif[0x0112] = 6
  return _file("RGB", "jpeg", exif=exif)


FILES = [
  *(_file(mode, "png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
  *(_file(mode, "jpeg") for mode in ("L", "RGB", "CMYK")),
  _file("RGB", "jpeg", progressive=True),
  _turned(),
  *(_file(mode, "bmp") for mode in ("1", "L", "P", "RGB")),
  *(_file(mode, "gif") for mode in ("L", "P")),
  *(_file(mode, "webp") for mode in ("RGB", "RGBA")),
  *(_file(mode, "tiff") for mode in ("1", "L", "RGB", "CMYK", "I;16")),
  _file("RGB", "tiff", compression="tiff_lzw"),
  *(_file(mode, "ppm") for mode in ("L", "RGB")),
]
PIECES = [
  b"\0",
  b"\xff",
  b"\0\0\0\0",
  b"\xff\xff\xff\xff",
  b"\x7f\xff\xff\xff",
  b"\0\0\0\1",
  b"\xff\xd8\xff",
  b"\xff\xd9",
  b"IHDR",
  b"IDAT",
  b"IEND",
  b"Exif\0\0MM\0*",
  b"GIF89a",
  b"RIFF\xff\xff\xff\xffWEBP",
  b"II*\0",
]


@contextlib.contextmanager
def decoded_pixels() -> Iterator[list[int]]:
  """Yields a list that gets the pixels of all that is decoded in the block.

  Of Pillow they are counted before it decodes, so that what fails half-way counts, too.
  """
  counts: list[int] = []
  load, decode = ImageFile.ImageFile.load, tf.io.decode_image

  def counted_load(image):
    counts.append(math.prod(image.size))
    return load(image)

  def counted_decode(*arguments, **options):
    pixels = decode(*arguments, **options)
    counts.append(math.prod(pixels.shape[:-1]))
    return pixels

  with (
    mock.patch.object(ImageFile.ImageFile, "load", counted_load),
    mock.patch.object(tf.io, "decode_image", counted_decode),
  ):
    yield counts


@examples(400)
@given(st.one_of(mutated(FILES, PIECES), st.binary(max_size=64)))
def test_an_image_is_read_whole_or_refused(data):
  declared = image_headers.declared_size(data)
  is_large = declared is not None and math.prod(declared) > MOST_PIXELS
  image = None
  with decoded_pixels() as counts:
    try:
      image = encode_image(data, None, MOST_PIXELS)
    except BrokenImageError as error:
      check_sentence(error)
  assert not (is_large and counts)
  assert all(count <= MOST_PIXELS for count in counts)
  # Once to read it, once to prove what is stored, each perhaps by both libraries.
  assert len(counts) <= 4
  if image is None:
    event("refused for its size" if is_large else "refused")
    return
  event(f"read as {image.format}")
  pixels = tf.io.decode_image(image.data, channels=3, expand_animations=False)
  assert pixels.shape == (image.height, image.width, 3)
  assert image.height * image.width <= MOST_PIXELS
