"""The class `Detector`: its input, its output, and what loading it needs."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageColor

from official_nasfpn.data.drawing import PALETTE
from official_nasfpn.errors import UserError
from official_nasfpn.serving.detectors.detector import Detector
from official_nasfpn.serving.formats import FORMATS

LOAD = """
import sys
from official_nasfpn.serving import Detector
from official_nasfpn.serving.detect.detection_run import run_detection
print(Detector(sys.argv[1]).label_map.name(1))
for name in ("official", "official_nasfpn.modeling", "official_nasfpn.architecture"):
  assert name not in sys.modules, name
"""


@pytest.mark.slow
def test_neither_the_detectors_code_nor_model_garden_is_imported(export_dir):
  command = [sys.executable, "-c", LOAD, str(export_dir)]
  process = subprocess.run(command, check=True, capture_output=True, text=True)
  assert process.stdout == "bee\n"


def test_a_folder_that_is_no_export_is_refused(tmp_path):
  with pytest.raises(
    UserError, match=r"is no export: it has no saved_model\.pb, model\.onnx or model\.tflite"
  ):
    Detector(tmp_path)


def test_a_damaged_export_is_refused(export_dir, tmp_path):
  (tmp_path / "assets").mkdir()
  (tmp_path / "assets" / "label_map.json").write_bytes(
    (export_dir / "1" / "assets" / "label_map.json").read_bytes()
  )
  graph = (export_dir / "1" / "saved_model.pb").read_bytes()
  (tmp_path / "saved_model.pb").write_bytes(graph[: len(graph) // 2])
  with pytest.raises(UserError, match="is damaged"):
    Detector(tmp_path)
  (tmp_path / "saved_model.pb").write_bytes(graph)
  with pytest.raises(UserError, match="is damaged"):
    Detector(tmp_path)  # The variables are missing.


def test_an_export_that_was_moved_where_tensorflow_cannot_load_it_says_so(export_dir, tmp_path):
  shutil.copytree(export_dir / "1", tmp_path / "best[1]")
  with pytest.raises(UserError, match=r"takes \[ in a path for a pattern.* Rename the folder"):
    Detector(tmp_path / "best[1]")


@pytest.fixture(scope="module", params=FORMATS)
def detector(request, saved_detector, exported_file):
  """Returns the same detector in every format."""
  if request.param == "saved_model":
    return saved_detector
  return Detector(exported_file(request.param))


def assert_same(found, expected):
  assert found.labels == expected.labels
  np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
  np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)


def test_an_array_a_file_and_its_bytes_are_the_same_image(detector, photo, tmp_path):
  picture, file = photo(200, 100), tmp_path / "a.png"
  picture.save(file)
  detections = detector.detect(np.asarray(picture))
  assert_same(detector.detect(bytearray(file.read_bytes())), detections)
  # The same as the batch that a server would return.
  batch = detector([file.read_bytes()])
  assert len(detections) == batch["num_detections"][0] == 20
  np.testing.assert_allclose(detections.boxes, batch["boxes"][0], atol=1e-2)
  np.testing.assert_array_equal(detections.category_ids, batch["category_ids"][0])
  assert [label.encode() for label in detections.labels] == batch["labels"][0].tolist()
  for image in (file, str(file), file.read_bytes()):
    assert_same(detector.detect(image), detections)
  for detection, score, box in zip(detections, batch["scores"][0], batch["boxes"][0], strict=True):
    assert detection.score == pytest.approx(score, abs=1e-6)
    assert detection.box == pytest.approx(tuple(box), abs=1e-2)


def test_images_of_a_list_are_taken_in_batches_and_given_in_order(detector, photo):
  images = [np.asarray(photo(*size, seed=size[0])) for size in [(200, 100), (90, 45), (31, 60)]]
  together = detector.detect(images, batch_size=2)
  for detections, image in zip(together, images, strict=True):
    assert_same(detections, detector.detect(image))
  assert not np.allclose(together[0].scores, together[1].scores, atol=1e-4)
  assert detector.detect([]) == []


def test_weak_detections_are_left_out(saved_detector, photo):
  image = np.asarray(photo(200, 100))
  detections = saved_detector.detect(image)
  limit = float(detections.scores[4])
  strong = saved_detector.detect(image, min_score=limit)
  assert 5 <= len(strong) < len(detections)
  assert_same(strong, detections.above(limit))
  assert min(strong.scores) >= limit > detections.scores[len(strong)]


def test_a_file_is_turned_upright_and_its_boxes_with_it(saved_detector, photo, tmp_path):
  # What a camera stores for `upright` if it is held sideways.
  upright, exif = photo(100, 200), Image.Exif()
  exif[0x0112] = 6
  file = tmp_path / "a.png"
  upright.transpose(Image.Transpose.ROTATE_90).save(file, exif=exif)
  expected = saved_detector.detect(np.asarray(upright))
  assert_same(saved_detector.detect(file), expected)
  assert_same(saved_detector.detect(file.read_bytes()), expected)
  drawn = expected.draw(np.asarray(upright), min_score=0)
  assert saved_detector.detect(file).draw(file, min_score=0).size == drawn.size == (300, 600)


def test_an_exit_or_a_budget_is_taken(anytime_detector, photo):
  image = np.asarray(photo(256, 128))
  first, last = anytime_detector.detect(image, exit_number=1), anytime_detector.detect(image)
  assert not np.allclose(first.scores, last.scores)
  hurry = anytime_detector.detect([image, image], budget_ms=0)
  assert [(found.exit_number, found.labels) for found in hurry] == [(1, first.labels)] * 2
  assert hurry[0].expected_ms == pytest.approx(2 * anytime_detector.exit_latency[0].p90_ms)
  assert anytime_detector.detect(image, budget_ms=1e6).exit_number == 3
  assert last.exit_number is None
  with pytest.raises(UserError, match="not both"):
    anytime_detector.detect(image, exit_number=1, budget_ms=3)


@pytest.mark.parametrize(
  ("image", "message"),
  [
    (np.zeros([4, 4, 3], np.float32), r"an array of float32 \[4, 4, 3\]: give uint8 \[height"),
    (np.zeros([4, 4], np.uint8), r"an array of uint8 \[4, 4\]"),
    (b"no image", r"of 8 bytes, cannot be used: not in any known image format\.$"),
    ("gone.jpg", r"gone\.jpg, cannot be used: cannot be read: No such file"),
    (
      Image.new("RGB", (4, 4)),
      r"is of type Image: give .* of a Pillow image `numpy\.asarray\(image",
    ),
    (None, "is of type NoneType: give an array"),
  ],
  ids=["floats", "grey", "text", "missing", "Pillow", "nothing"],
)
def test_what_cannot_be_used_is_named(saved_detector, image, message):
  with pytest.raises(UserError, match=f"^Image 1 of 2, counted from 0, .*{message}"):
    saved_detector.detect([np.zeros([4, 4, 3], np.uint8), image])


def test_numbers_that_cannot_be_used_are_refused(anytime_detector, photo):
  image = np.asarray(photo(256, 128))
  with pytest.raises(UserError, match=r"^batch_size is 0: give 1 or more"):
    anytime_detector.detect([image, image], batch_size=0)
  for budget in (float("nan"), -1.0):
    with pytest.raises(UserError, match=r"budget_ms is .*: give milliseconds, 0 or more"):
      anytime_detector.detect(image, budget_ms=budget)
  with pytest.raises(UserError, match=r"^Image 0 of 1, counted from 0, is of type int"):
    anytime_detector.detect(5)


def test_many_threads_get_their_own_detections(detector, photo):
  images = [np.asarray(photo(256, 128, seed)) for seed in range(4)]
  expected = [detector.detect(image) for image in images]
  numbers = [number % len(images) for number in range(60)]
  with ThreadPoolExecutor(4) as threads:
    found = list(threads.map(lambda number: detector.detect(images[number]), numbers))
  for number, one in zip(numbers, found, strict=True):
    assert_same(one, expected[number])


def test_detections_are_drawn_on_whatever_they_were_detected_in(saved_detector, photo, tmp_path):
  picture, file = photo(700, 350), tmp_path / "a.png"
  picture.save(file)
  detections = saved_detector.detect(file)
  drawn = np.asarray(detections.draw(file, min_score=0))
  assert drawn.shape == (350, 700, 3)
  for image in (picture, np.asarray(picture), file.read_bytes()):
    np.testing.assert_array_equal(detections.draw(image, min_score=0), drawn)
  np.testing.assert_array_equal(detections.draw(picture, min_score=1.1), picture)
  # The best box is drawn last: most of its left edge is visible beside the labels.
  ymin, xmin, ymax, _ = (round(value) for value in next(iter(detections)).box)
  color = ImageColor.getrgb(PALETTE[detections.classes[0]])
  assert (drawn[max(ymin, 0) : ymax, max(xmin, 0)] == color).all(-1).mean() > 0.5
  with pytest.raises(UserError, match="cannot be drawn on: not in any known image format"):
    detections.draw(b"no image")
