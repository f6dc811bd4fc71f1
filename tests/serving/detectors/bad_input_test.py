"""Unusual and damaged input to an export: it works, or the error names the image at fault."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from official_nasfpn.errors import UserError
from official_nasfpn.serving.detectors.detector import Detector
from official_nasfpn.serving.formats import FORMATS


def encode(image, format_="JPEG", **options):
  buffer = io.BytesIO()
  image.save(buffer, format_, **options)
  return buffer.getvalue()


@pytest.fixture(scope="module", params=FORMATS)
def detector(request, saved_detector, exported_file):
  if request.param == "saved_model":
    return saved_detector
  return Detector(exported_file(request.param))


@pytest.fixture(scope="module")
def signatures(export_dir):
  model = tf.saved_model.load(str(export_dir / "1"))
  yield model.signatures
  del model  # Its variables are needed up to here.


class TestWhatIsNoImage:
  CASES = (
    ("empty", b"", "Input is empty"),
    ("text", b"no image at all", "Unknown image file format"),
    ("truncated JPEG", None, "Invalid JPEG data"),
    ("truncated PNG", None, "Invalid PNG"),
  )

  @pytest.mark.parametrize(("kind", "data", "reason"), CASES, ids=[case[0] for case in CASES])
  def test_it_is_named_by_its_position(self, detector, photo, kind, data, reason):
    good = encode(photo(90, 60))
    if data is None:
      data = encode(photo(90, 60), kind.split()[-1])[:200]
    with pytest.raises(UserError, match=rf"^Image 2 of 3, .* {len(data)} bytes, .*{reason}"):
      detector([good, good, data])
    assert detector([good])["num_detections"][0] > 0

  def test_no_image_gives_no_rows(self, detector, saved_detector):
    found, expected = detector([]), saved_detector([])
    shapes = {name: (array.shape, array.dtype) for name, array in found.items()}
    assert shapes == {name: (array.shape, array.dtype) for name, array in expected.items()}
    assert shapes["boxes"] == ((0, 20, 4), np.float32)

  def test_what_is_no_list_of_bytes_is_refused(self, detector, photo):
    good = encode(photo(90, 60))
    for single in (good, bytearray(good), "photo.jpg"):
      with pytest.raises(UserError, match=r"^Give a list of encoded images; put a single"):
        detector(single)
    message = r"^Image 1 of 2, counted from 0, is of type str: give the bytes of a JPEG or PNG file"
    with pytest.raises(UserError, match=message):
      detector([good, "photo.jpg"])
    found = detector([memoryview(good)])
    np.testing.assert_array_equal(found["scores"], detector([good])["scores"])

  def test_several_are_all_named(self, detector, photo):
    good = encode(photo(90, 60))
    with pytest.raises(UserError, match=r"^Image 0 of 4, .* Nor can images 2, 3\.$"):
      detector([b"", good, b"text", good[:100]])

  @pytest.mark.parametrize("data", [b"", b"no image at all"])
  def test_the_graph_itself_names_what_has_no_known_format(self, signatures, photo, data):
    good = encode(photo(90, 60))
    images = tf.constant([good, data, good, data])
    message = r"no JPEG, PNG, GIF, BMP or WebP image at position\] \[1 3\]"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
      signatures["serving_default"](image_bytes=images)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_named(signatures, value):
  images = np.full([3, 128, 256, 3], 100, np.float32)
  images[1, 5, 6, 0] = value
  with pytest.raises(
    tf.errors.InvalidArgumentError, match=r"no finite numbers at position\] \[1\]"
  ):
    signatures["without_nms"](images=tf.constant(images))
  assert np.isfinite(signatures["without_nms"](images=tf.constant(images[::2]))["scores"]).all()


class TestUnusualImages:
  def test_one_pixel(self, detector):
    found = detector([encode(Image.new("RGB", (1, 1), "red"), "PNG")])
    assert np.isfinite(found["scores"]).all()
    assert (found["boxes"] <= 1).all()

  @pytest.mark.slow
  def test_a_hundred_million_pixels(self, detector, photo):
    # ONNX converts all pixels to floats, twice: it would need 4 GB for these.
    width, height = (6000, 4500) if detector.format == "onnx" else (12000, 9000)
    found = detector([encode(photo(width, height))])
    count = found["num_detections"][0]
    assert count > 0
    assert found["boxes"][0, :count].max() > 1000
    assert (found["boxes"][0, :count] <= [height, width, height, width]).all()

  def test_grey_is_what_its_rgb_is(self, detector, photo):
    grey = photo(90, 60).convert("L")
    found = detector([encode(grey, "PNG"), encode(grey.convert("RGB"), "PNG")])
    np.testing.assert_array_equal(found["scores"][0], found["scores"][1])

  def test_cmyk_is_what_its_rgb_is_nearly(self, detector, photo):
    cmyk = encode(photo(90, 60).convert("CMYK"), quality=100)
    rgb = tf.io.decode_image(cmyk, channels=3).numpy()
    found = detector([cmyk, encode(Image.fromarray(rgb), "PNG")])
    np.testing.assert_allclose(found["scores"][0], found["scores"][1], atol=1e-6)

  def test_a_bmp_whose_palette_would_be_taken_for_colours_is_refused(self, detector, photo):
    good, grey = encode(photo(90, 60), "BMP"), encode(photo(90, 60).convert("L"), "BMP")
    with pytest.raises(UserError, match=r"^Image 1 of 2, counted from 0, is a BMP with a palette"):
      detector([good, encode(photo(90, 60).quantize(8), "BMP")])
    as_rgb = encode(photo(90, 60).convert("L").convert("RGB"), "PNG")
    found = detector([grey, as_rgb])
    np.testing.assert_array_equal(found["scores"][0], found["scores"][1])

  def test_an_exif_orientation_is_not_followed(self, detector, photo):
    # As documented: boxes are in pixels of the encoded image. `detect` rotates images first.
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(photo(90, 60), exif=exif)
    found = detector([turned, encode(photo(90, 60))])
    np.testing.assert_array_equal(found["boxes"][0], found["boxes"][1])

  def test_a_batch_of_mixed_sizes_and_formats(self, detector, photo):
    images = [encode(photo(90, 60)), encode(photo(31, 200), "PNG"), encode(photo(64, 64), "BMP")]
    together = detector(images)
    for row, image in enumerate(images):
      alone = detector([image])
      np.testing.assert_allclose(together["scores"][row], alone["scores"][0], atol=1e-5)


@pytest.mark.slow
def test_thousands_of_mutated_images_end_in_boxes_or_in_a_refusal(saved_detector, photo):
  picture = photo(40, 30)
  originals = [
    encode(picture),
    encode(picture, progressive=True),
    encode(picture.convert("L")),
    encode(picture.convert("CMYK")),
    encode(picture, "PNG"),
    encode(picture.convert("P"), "PNG"),
    encode(picture.convert("RGBA"), "PNG"),
    encode(picture, "GIF"),
    encode(picture, "BMP"),
    encode(picture, "WEBP"),
  ]
  num_found, refusals = 0, []
  for seed in range(3000):
    data = mutate(originals[seed % len(originals)], np.random.default_rng(seed))
    try:
      found = saved_detector([data])
    except UserError as error:
      refusals.append(str(error))
    else:
      assert np.isfinite(found["boxes"]).all(), f"seed {seed}"
      num_found += 1
  # If all outcomes were the same, the mutations would be too weak or too strong for a test.
  assert min(num_found, len(refusals)) > 300
  assert all(refusal.startswith("Image 0 of 1") for refusal in refusals)


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
  """Returns a file with one to three changes: bits or bytes changed, lost, added, or cut off."""
  data = bytearray(data)
  for _ in range(rng.integers(1, 4)):
    at = int(rng.integers(len(data)))
    match rng.integers(10):
      case 0:
        del data[max(at, 1) :]
      case 1:
        del data[at : at + int(rng.integers(1, 9))]
      case 2:
        data[at:at] = rng.bytes(int(rng.integers(1, 9)))
      case 3 | 4 | 5:
        data[at] = int(rng.integers(256))
      case _:
        data[at] ^= 1 << int(rng.integers(8))
    if not data:
      break
  return bytes(data)


def test_exits_refuse_alike(anytime_detector, photo):
  detector = anytime_detector
  images = [encode(photo(90, 60)), b"text"]
  with pytest.raises(UserError, match=r"^Image 1 of 2"):
    detector(images, exit_number=1)
  with pytest.raises(UserError, match=r"^Image 1 of 2"):
    detector(images, budget_ms=100)
