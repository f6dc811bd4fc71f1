"""Every kind of image file, read back through Model Garden's decoder."""

import io
import random
import struct
import time
import zlib

import numpy as np
import pytest
import tensorflow as tf
from official.vision.dataloaders import tf_example_decoder
from PIL import Image, UnidentifiedImageError

from official_nasfpn.data.doctor.examination import open_upright
from official_nasfpn.data.drawing import draw_boxes
from official_nasfpn.data.image_encoding import (
  MAX_DETECTION_PIXELS,
  BrokenImageError,
  decoded_picture,
  encode_image,
  read_image,
)
from official_nasfpn.data.image_headers import declared_size, open_image, upright_size
from tests.decompression_bomb import decompression_bomb

# Four quarters; every check below looks at their middles, away from JPEG's blur.
COLOURS = np.array([[(200, 30, 30), (30, 30, 200)], [(30, 200, 30), (220, 220, 60)]], np.uint8)
PICTURE = COLOURS.repeat(32, axis=0).repeat(48, axis=1)
RGB = Image.fromarray(PICTURE)
GREY = RGB.convert("L")
DECODER = tf_example_decoder.TfExampleDecoder()


def _file(image, format_, **options):
  buffer = io.BytesIO()
  image.save(buffer, format_, **options)
  return buffer.getvalue()


def _decoded(encoded):
  """Returns what training sees of an encoded image."""
  feature = {
    "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded.data])),
    "image/source_id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"1"])),
  }
  example = tf.train.Example(features=tf.train.Features(feature=feature))
  image = DECODER.decode(tf.constant(example.SerializeToString()))["image"].numpy()
  assert image.dtype == np.uint8
  assert image.shape == (encoded.height, encoded.width, 3)
  return image


def _quarters(image):
  height, width, _ = image.shape
  return image[height // 4 :: height // 2, width // 4 :: width // 2][:2, :2].astype(int)


AS_GREY = np.asarray(GREY)[..., None].repeat(3, axis=-1)
SIXTEEN_BITS = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)


@pytest.mark.parametrize(
  ("data", "expected"),
  [
    pytest.param(_file(RGB, "JPEG"), PICTURE, id="jpeg"),
    pytest.param(_file(RGB, "JPEG", progressive=True), PICTURE, id="progressive jpeg"),
    pytest.param(_file(GREY, "JPEG"), AS_GREY, id="grey jpeg"),
    pytest.param(_file(RGB.convert("CMYK"), "JPEG"), PICTURE, id="cmyk jpeg"),
    pytest.param(_file(RGB, "MPO"), PICTURE, id="multi-picture jpeg of a phone"),
    pytest.param(_file(RGB, "PNG"), PICTURE, id="png"),
    pytest.param(_file(GREY, "PNG"), AS_GREY, id="grey png"),
    pytest.param(_file(GREY.convert("LA"), "PNG"), AS_GREY, id="grey png with alpha"),
    pytest.param(_file(RGB.convert("RGBA"), "PNG"), PICTURE, id="png with alpha"),
    pytest.param(_file(RGB.quantize(8), "PNG"), PICTURE, id="palette png"),
    pytest.param(
      _file(RGB.quantize(8), "PNG", transparency=bytes([9, 9])), PICTURE, id="transparent palette"
    ),
    pytest.param(_file(SIXTEEN_BITS, "PNG"), AS_GREY, id="16-bit png"),
  ],
)
def test_jpeg_and_png_are_stored_byte_for_byte(data, expected):
  encoded = encode_image(data, None)
  assert encoded.data == data
  assert not encoded.reencoded
  np.testing.assert_allclose(_quarters(_decoded(encoded)), _quarters(expected), atol=10)


@pytest.mark.parametrize(
  ("data", "expected"),
  [
    pytest.param(_file(RGB, "WEBP", quality=95), PICTURE, id="webp"),
    pytest.param(_file(RGB, "GIF"), PICTURE, id="gif"),
    pytest.param(_file(RGB, "BMP"), PICTURE, id="bmp"),
    pytest.param(_file(RGB.quantize(8), "BMP"), PICTURE, id="palette bmp"),
    pytest.param(_file(RGB, "TIFF"), PICTURE, id="tiff"),
    pytest.param(_file(SIXTEEN_BITS, "TIFF"), AS_GREY, id="16-bit tiff of a microscope"),
    pytest.param(_file(RGB.convert("CMYK"), "TIFF"), PICTURE, id="cmyk tiff"),
    pytest.param(
      _file(RGB.quantize(8), "GIF", transparency=1), PICTURE, id="gif with transparency"
    ),
  ],
)
def test_other_formats_are_stored_as_png(data, expected):
  encoded = encode_image(data, None)
  assert (encoded.format, encoded.reencoded) == ("png", True)
  np.testing.assert_allclose(_quarters(_decoded(encoded)), _quarters(expected), atol=10)


def _deep_png(pixels):
  """Returns a PNG of uint16 [height, width, 3 or 4], which Pillow cannot write."""

  def chunk(kind, data):
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum

  height, width, channels = pixels.shape
  header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
  rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
  return (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", header)
    + chunk(b"IDAT", zlib.compress(rows))
    + chunk(b"IEND", b"")
  )


DEEP = PICTURE.astype(np.uint16) * 257
DEEP_GREY = np.asarray(GREY).astype(np.uint16) * 257
BLACK_AND_WHITE = np.asarray(GREY.convert("1").convert("RGB"))
PGM = b"P5\n96 64\n65535\n" + DEEP_GREY.astype(">u2").tobytes()


@pytest.mark.parametrize(
  ("data", "expected"),
  [
    pytest.param(_file(SIXTEEN_BITS, "PNG"), AS_GREY, id="16-bit grey png"),
    pytest.param(_file(SIXTEEN_BITS, "TIFF"), AS_GREY, id="16-bit grey tiff"),
    pytest.param(
      _file(Image.frombytes("I;16B", GREY.size, DEEP_GREY.astype(">u2").tobytes()), "TIFF"),
      AS_GREY,
      id="16-bit grey tiff of the other byte order",
    ),
    pytest.param(PGM, AS_GREY, id="16-bit pgm"),
    pytest.param(_deep_png(DEEP), PICTURE, id="16-bit png"),
    pytest.param(_deep_png(np.dstack([DEEP, DEEP[..., 0]])), PICTURE, id="16-bit png with alpha"),
    pytest.param(_file(GREY.convert("1"), "PNG"), BLACK_AND_WHITE, id="1-bit png"),
    pytest.param(_file(GREY.convert("1"), "TIFF"), BLACK_AND_WHITE, id="1-bit tiff"),
    pytest.param(
      _file(RGB.quantize(8), "PNG", transparency=bytes([9, 99])), PICTURE, id="palette with alpha"
    ),
    pytest.param(_file(RGB.convert("CMYK"), "JPEG"), PICTURE, id="cmyk jpeg"),
    pytest.param(_file(RGB.convert("CMYK"), "TIFF"), PICTURE, id="cmyk tiff"),
    pytest.param(_file(RGB.convert("YCbCr"), "TIFF"), PICTURE, id="ycbcr tiff"),
    # Eight bits of LAB cannot say every colour.
    pytest.param(
      _file(RGB.convert("LAB"), "TIFF"),
      np.asarray(RGB.convert("LAB").convert("RGB")),
      id="lab tiff",
    ),
  ],
)
def test_what_is_drawn_on_and_checked_is_what_training_sees(data, expected):
  seen = _decoded(read_image(data))
  np.testing.assert_array_equal(decoded_picture(read_image(data).data), seen)
  is_dithered = expected is BLACK_AND_WHITE
  if is_dithered:
    np.testing.assert_array_equal(seen, expected)
  else:
    np.testing.assert_allclose(_quarters(seen), _quarters(expected), atol=10)
  checked = np.asarray(open_upright(data, None))
  np.testing.assert_allclose(_quarters(checked), _quarters(seen), atol=10)
  # A picture that a person has opened.
  boxes = np.zeros([0, 4]), np.zeros([0], int), []
  own = np.asarray(draw_boxes(Image.open(io.BytesIO(data)), *boxes, min_side=1))
  np.testing.assert_allclose(_quarters(own), _quarters(seen), atol=10)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_known_range_are_refused_everywhere(mode):
  picture = Image.new(mode, (8, 8))
  data = _file(picture, "TIFF")
  message = "pixels of 32 bits have no agreed reading as 8 bits; save it with 8 or 16 bits"
  for read in (lambda: encode_image(data, None), lambda: read_image(data)):
    with pytest.raises(BrokenImageError, match=message):
      read()
  with pytest.raises(BrokenImageError, match=message):
    draw_boxes(picture, np.zeros([0, 4]), np.zeros([0], int), [])


def _with_orientation(image, orientation, format_="JPEG"):
  exif = Image.Exif()
  exif[0x0112] = orientation
  return _file(image, format_, exif=exif, quality=95)


# What a camera stores so that its orientation tag turns it into PICTURE.
LYING = {1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}


@pytest.mark.parametrize("orientation", LYING)
def test_image_is_turned_upright_like_the_tools_show_it(orientation):
  lying = RGB
  for operation in LYING[orientation]:
    lying = lying.transpose(Image.Transpose(operation))
  encoded = encode_image(_with_orientation(lying, orientation), RGB.size)
  assert (encoded.width, encoded.height) == RGB.size
  assert (encoded.turned, encoded.format) == (orientation != 1, "jpeg")
  np.testing.assert_allclose(_quarters(_decoded(encoded)), _quarters(PICTURE), atol=10)


def test_image_annotated_as_it_lies_in_the_file_is_not_turned():
  data = _with_orientation(RGB, 6)
  assert encode_image(data, RGB.size).data == data
  assert encode_image(data, RGB.size[::-1]).turned


def test_orientation_counts_in_other_formats_too():
  lying = RGB.transpose(Image.Transpose.ROTATE_90)
  encoded = encode_image(_with_orientation(lying, 6, "WEBP"), RGB.size)
  assert encoded.turned
  assert encoded.reencoded
  np.testing.assert_allclose(_quarters(_decoded(encoded)), _quarters(PICTURE), atol=10)


@pytest.mark.parametrize("stated", [None, RGB.size, RGB.size[::-1]])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_shares_are_of_the_sides_that_training_sees(tmp_path, orientation, format_, stated):
  data = _with_orientation(RGB, orientation, format_)
  (tmp_path / "picture").write_bytes(data)
  encoded = encode_image(data, stated)
  assert upright_size(tmp_path / "picture", stated) == (encoded.width, encoded.height)
  assert open_upright(data, stated).size == (encoded.width, encoded.height)


def test_a_png_that_pillow_cannot_open_and_training_can_has_a_size(tmp_path):
  data = bytearray(_with_orientation(RGB, 6, "PNG"))
  data[data.index(b"eXIf") + 8] ^= 255
  with pytest.raises(UnidentifiedImageError):
    Image.open(io.BytesIO(data))
  (tmp_path / "picture").write_bytes(data)
  assert upright_size(tmp_path / "picture") == RGB.size
  assert encode_image(bytes(data), None).data == data


JPEG, PNG = _file(RGB, "JPEG"), _file(RGB, "PNG")


@pytest.mark.parametrize(
  "data",
  [
    pytest.param(b"", id="empty"),
    pytest.param(b"<html>404</html>", id="a web page"),
    pytest.param(JPEG[: len(JPEG) // 2], id="half a jpeg"),
    pytest.param(JPEG[:-2], id="jpeg without its end"),
    pytest.param(PNG[: len(PNG) // 2], id="half a png"),
    pytest.param(_file(RGB, "BMP")[:500], id="half a bmp"),
    pytest.param(_file(Image.new("F", (8, 8)), "TIFF"), id="floating point tiff"),
  ],
)
def test_broken_images_are_told_apart(data):
  with pytest.raises(BrokenImageError):
    encode_image(data, None)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_bytes_give_an_image_or_a_broken_image_and_never_another_error():
  rng = random.Random(0)
  for data in (JPEG, PNG, _file(RGB, "TIFF"), _file(RGB, "WEBP"), _with_orientation(RGB, 6)):
    for _ in range(40):
      damaged = bytearray(data)
      for _ in range(rng.randint(1, 20)):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
      try:
        encoded = encode_image(bytes(damaged), RGB.size)
      except BrokenImageError:
        continue
      _decoded(encoded)


class TestDecompressionBombs:
  def test_one_is_refused_by_its_header_in_one_sentence(self):
    bomb = decompression_bomb(60_000, 60_000)
    assert len(bomb) < 500_000
    message = r"^it declares 60000 x 60000 pixels, and at most [\d,]+ are decoded$"
    start = time.monotonic()
    for read in (lambda: encode_image(bomb, None), lambda: read_image(bomb)):
      with pytest.raises(BrokenImageError, match=message):
        read()
    # Decoding it takes minutes, and 11 GB.
    assert time.monotonic() - start < 5

  @pytest.mark.parametrize("format_", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
  def test_the_size_is_told_without_decoding(self, format_):
    assert declared_size(_file(RGB, format_)) == RGB.size
    assert declared_size(b"<html>404</html>") is None

  def test_pillows_own_guard_is_on_again_after_every_image(self):
    assert Image.MAX_IMAGE_PIXELS == 89_478_485
    data = decompression_bomb(20_000, 10_000)
    with pytest.raises(Image.DecompressionBombError):
      Image.open(io.BytesIO(data))
    assert open_image(data).size == (20_000, 10_000)
    with pytest.raises(BrokenImageError):
      encode_image(_file(RGB, "BMP")[:500], None)
    with pytest.raises(Image.DecompressionBombError):
      Image.open(io.BytesIO(data))

  def test_the_limit_can_be_set(self):
    with pytest.raises(BrokenImageError, match="it declares 96 x 64 pixels, and at most 6,143"):
      encode_image(PNG, None, max_pixels=6143)
    assert encode_image(PNG, None, max_pixels=6144).data == PNG

  @pytest.mark.parametrize(("depth", "kind"), [(1, 0), (8, 2), (16, 6), (8, 3)])
  def test_a_png_without_the_bytes_that_it_declares_is_not_decoded(self, depth, kind):
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, depth, kind, 0, 0, 0)
    chunks = b"\0\0\0\x0d" + header + struct.pack(">I", zlib.crc32(header))
    end = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    start = time.monotonic()
    with pytest.raises(BrokenImageError, match=r"it has \d+ bytes, and the 20000 x 20000 pixels"):
      encode_image(b"\x89PNG\r\n\x1a\n" + chunks + bytes(50) + end, None)
    assert time.monotonic() - start < 5

  def test_the_smallest_whole_png_has_bytes_enough(self):
    for width, height in ((1, 1), (9_000, 4_000), (7, 30_000)):
      data = decompression_bomb(width, height)
      assert (encode_image(data, None).width, len(data) < 10_000) == (width, True)

  def test_the_size_of_a_large_image_is_told_without_decoding_it(self, tmp_path):
    file = tmp_path / "picture.png"
    # More than Pillow's guard lets through, and a bomb.
    for width in (20_000, 60_000):
      file.write_bytes(decompression_bomb(width, 10_000))
      start = time.monotonic()
      assert upright_size(file) == (width, 10_000)
      assert time.monotonic() - start < 0.1

  def test_the_check_of_a_dataset_takes_what_training_takes(self, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", RGB.width * RGB.height // 3)
    with pytest.raises(Image.DecompressionBombError):
      Image.open(io.BytesIO(PNG))
    assert open_upright(PNG, None).size == RGB.size
    with pytest.raises(BrokenImageError, match="it declares 60000 x 10000 pixels"):
      open_upright(decompression_bomb(60_000, 10_000), None)

  def test_the_users_own_large_images_are_read(self):
    # More than Pillow's guard lets through.
    data = decompression_bomb(10_000, 9_000)
    assert Image.MAX_IMAGE_PIXELS < 10_000 * 9_000 < MAX_DETECTION_PIXELS
    encoded = read_image(data)
    assert (encoded.width, encoded.height) == (10_000, 9_000)
