"""The signatures of a SavedModel that was saved and loaded."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from official_nasfpn.data.preprocessing import resize_and_pad
from official_nasfpn.modeling.anchors import flat_anchors
from official_nasfpn.modeling.detections import detect_boxes
from official_nasfpn.training.restore import restore_detector

SIZES = [(200, 100), (64, 300), (31, 33), (500, 400), (256, 128), (1, 1)]


def encoded(image: Image.Image, format_: str = "PNG", **options) -> bytes:
  buffer = io.BytesIO()
  image.save(buffer, format_, **options)
  return buffer.getvalue()


def test_a_batch_of_mixed_sizes_and_formats_equals_its_images_one_by_one(saved_detector, photo):
  images = [
    encoded(photo(*size, seed=seed), "JPEG" if seed % 2 else "PNG")
    for seed, size in enumerate(SIZES)
  ]
  together = saved_detector(images)
  for row, image in enumerate(images):
    alone = saved_detector([image])
    assert alone["num_detections"][0] > 0
    assert alone.pop("labels").tolist() == together["labels"][row : row + 1].tolist()
    for name, value in alone.items():
      np.testing.assert_allclose(together[name][row], value[0], rtol=1e-4, atol=1e-3, err_msg=name)


def test_it_computes_what_evaluation_computes(saved_detector, untrained_run, photo):
  experiment, label_map = untrained_run.load()
  config = experiment.detector
  detector = restore_detector(experiment, label_map, untrained_run.latest_checkpoint())
  image = photo(300, 90)

  network_input, scaled_size = resize_and_pad(tf.constant(np.asarray(image)), config.image_size)
  expected = detect_boxes(
    detector(network_input[tf.newaxis], training=False)[-1],
    flat_anchors(config),
    scaled_size[tf.newaxis],
    config,
  )
  scale = np.tile([90, 300] / scaled_size.numpy(), 2)

  found = saved_detector([encoded(image)])
  np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-5)
  np.testing.assert_array_equal(found["classes"], expected["classes"])
  np.testing.assert_allclose(found["boxes"], expected["boxes"] * scale, atol=1e-2)


def test_raw_pixels_give_what_their_png_gives(export_dir, saved_detector, photo):
  signatures = tf.saved_model.load(str(export_dir / "1")).signatures
  images = [photo(300, 90, seed) for seed in (0, 1)]
  found = signatures["image_tensors"](images=tf.constant(np.stack(images)))
  expected = saved_detector([encoded(image) for image in images])
  np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-6)
  np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-3)
  assert found["labels"].numpy().tolist() == expected["labels"].tolist()


def test_without_nms_gives_what_nms_chooses_from(export_dir, saved_detector, photo, untrained_run):
  signatures = tf.saved_model.load(str(export_dir / "1")).signatures
  # As large as the network's input, so that fitting changes nothing.
  image = photo(256, 128)
  raw = signatures["without_nms"](images=tf.constant(np.asarray(image), tf.float32)[tf.newaxis])
  config = untrained_run.load()[0].detector
  kept = tf.image.combined_non_max_suppression(
    raw["boxes"][:, :, tf.newaxis],
    raw["scores"],
    config.max_detections,
    config.max_detections,
    config.nms_iou_threshold,
    config.score_threshold,
    clip_boxes=False,
  )
  expected = saved_detector([encoded(image)])
  np.testing.assert_allclose(kept.nmsed_scores, expected["scores"], atol=1e-6)
  np.testing.assert_allclose(kept.nmsed_boxes, expected["boxes"], atol=1e-3)


def test_boxes_lie_in_the_original_image(saved_detector, photo):
  outputs = saved_detector([encoded(photo(*size)) for size in SIZES])
  for boxes, (width, height) in zip(outputs["boxes"], SIZES, strict=True):
    assert boxes.min() >= 0
    assert boxes[:, [0, 2]].max() <= height + 1e-3
    assert boxes[:, [1, 3]].max() <= width + 1e-3
  # Not in pixels of the network's input of 128x256, to which this image was resized.
  assert outputs["boxes"][SIZES.index((500, 400))].max() > 256


def test_category_ids_are_those_of_the_dataset(saved_detector, photo):
  outputs = saved_detector([encoded(photo(100, 100))])
  count = outputs["num_detections"][0]
  ids = np.array([category.id for category in saved_detector.label_map.categories])
  classes = outputs["classes"][0, :count]
  np.testing.assert_array_equal(outputs["category_ids"][0, :count], ids[classes])
  assert not outputs["category_ids"][0, count:].any()
  names = np.array([category.name.encode() for category in saved_detector.label_map.categories])
  assert outputs["labels"][0, :count].tolist() == names[classes].tolist()
  assert not outputs["labels"][0, count:].any()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
def test_png_of_any_mode_is_read_as_its_rgb(saved_detector, photo, mode):
  image = photo(120, 80).convert(mode)
  rgb = image.convert("RGB")
  if mode == "RGBA":
    rgb = photo(120, 80)
  found, expected = saved_detector([encoded(image)]), saved_detector([encoded(rgb)])
  np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_of_any_mode_is_read_in_its_colours(saved_detector, photo, mode):
  data = encoded(photo(120, 80).convert(mode), "JPEG", quality=95)
  with Image.open(io.BytesIO(data)) as image:
    rgb = image.convert("RGB")
  found, expected = saved_detector([data]), saved_detector([encoded(rgb)])
  # The two JPEG libraries differ by one grey level in places.
  np.testing.assert_allclose(found["scores"], expected["scores"], atol=2e-3)
