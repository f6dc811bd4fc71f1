"""Pictures in event files, checked pixel by pixel."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageColor

from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.drawing import PALETTE
from official_nasfpn.data.input_pipeline import evaluation_dataset
from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.data.shapes import ShapesConfig
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.training import runner
from official_nasfpn.training.coco_evaluation import detect_in_batches, evaluate_detections
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, open_dataset, with_data
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.strategies import build_strategy
from official_nasfpn.training.validation_pictures import ValidationPictures

GAP = 12


@pytest.fixture
def experiment_and_dataset(shapes_data):
  """Returns both; the network's input differs in size and shape from the images (128 to 192)."""
  return open_dataset(
    Experiment(
      DetectorConfig(
        backbone="R-10",
        backbone_width=0.25,
        architecture="fpn",
        num_filters=16,
        num_repeats=1,
        head_num_convs=1,
        image_size=(128, 256),
      ),
      InputConfig(data_dir=str(shapes_data)),
      TrainingConfig(
        batch_size=4, epochs=0.4, evaluation_epochs=0.2, decay_epochs=(), steps_per_loop=2
      ),
    )
  )


def pictures(folder):
  """Returns the pictures in the only event file of a folder, by step and tag."""
  (file,) = folder.glob("events*")
  found = {}
  for event in tf.compat.v1.train.summary_iterator(str(file)):
    for value in event.summary.value:
      if value.tag.startswith("pictures/"):
        width, height, *encoded = tf.make_ndarray(value.tensor).tolist()
        (picture,) = (Image.open(io.BytesIO(png)) for png in encoded)
        assert picture.format == "PNG"
        assert picture.size == (int(width), int(height))
        found[event.step, value.tag] = picture.convert("RGB")
  return found


def write(experiment, dataset, exits, folder, step=7):
  writer = tf.summary.create_file_writer(str(folder))
  with writer.as_default(step):
    ValidationPictures(experiment, dataset).write(exits)
  writer.close()
  return pictures(folder)


def test_images_with_negative_ids_are_evaluated_and_drawn(experiment_and_dataset, tmp_path):
  images, boxes = [], []
  for number in (1, 2):
    name = f"{number}.png"
    Image.new("RGB", (96, 96), (90 * number, 0, 0)).save(tmp_path / name)
    images.append({"id": -number, "file_name": name})
    box = {"image_id": -number, "category_id": 1, "bbox": [20, 20, 40, 40]}
    boxes.append({"id": number, **box})
  content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}
  annotations = tmp_path / "all.json"
  annotations.write_text(json.dumps(content))
  prepare_dataset(tmp_path / "data", annotations, tmp_path, val_annotations=annotations)
  experiment = with_data(experiment_and_dataset[0], tmp_path / "data")
  dataset = DatasetInfo.load(tmp_path / "data")

  # Two rows more fill the batch up.
  batches = evaluation_dataset(experiment.input, experiment.detector.image_size, 4)
  one = {
    "boxes": np.float32([[[20, 20, 60, 60]]] * 4),
    "scores": np.ones([4, 1], np.float32),
    "classes": np.zeros([4, 1], np.int32),
    "num_detections": np.ones(4, np.int32),
  }
  found = detect_in_batches(
    batches, lambda batch: ([one], batch["image_id"].numpy()), dataset.label_map
  )
  assert sorted(found.image_ids) == [-2, -1]
  evaluation = evaluate_detections(found, dataset.annotation_file("val"), dataset.label_map)
  assert (evaluation.num_images, evaluation.num_detections) == (2, 2)
  assert evaluation.metrics["AP"] == pytest.approx(1.0)
  drawn = write(experiment, dataset, found.exits, tmp_path / "events")
  assert {tag for _, tag in drawn} == {"pictures/-1", "pictures/-2"}


def panel(picture, index, image):
  """Returns the pixels of one panel of a picture, all of which have the shape of the image."""
  width, height = (round(512 * side / max(image.size)) for side in image.size)
  left = GAP + index * (width + GAP)
  top = picture.height - GAP - height
  return np.asarray(picture)[top : top + height, left : left + width].astype(int)


def frame_share(pixels, box, scale, color):
  """Returns the share of a box's frame that has a colour; labels and other boxes may hide some."""
  x, y, width, height = (side * scale for side in box)
  xs = np.linspace(x + 1, x + width - 2, 50).round().astype(int)
  ys = np.linspace(y + 1, y + height - 2, 50).round().astype(int)
  points = [(y, xs[0]) for y in ys] + [(y, xs[-1]) for y in ys]
  points += [(ys[0], x) for x in xs] + [(ys[-1], x) for x in xs]
  rows, columns = np.clip(np.transpose(points), 0, np.array(pixels.shape[:2])[:, None] - 1)
  return (pixels[rows, columns] == ImageColor.getrgb(color)).all(-1).mean()


def test_boxes_lie_where_the_objects_are(experiment_and_dataset, tmp_path):
  experiment, dataset = experiment_and_dataset
  truth = json.loads(dataset.annotation_file("val").read_text())
  # The annotations serve as weak detections. The second exit also has as many strong ones, tiny and
  # all in one corner.
  found = [
    {name: box[name] for name in ("image_id", "category_id", "bbox")}
    for box in truth["annotations"]
  ]
  weak = [{**row, "score": 0.01} for row in found]
  exits = [weak, [*weak, *({**row, "score": 0.9, "bbox": [1, 1, 2, 2]} for row in found)]]
  written = write(experiment, dataset, exits, tmp_path)
  assert len(written) == 4
  for (step, tag), picture in written.items():
    assert step == 7
    (row,) = (row for row in truth["images"] if f"pictures/{row['id']}" == tag)
    with Image.open(dataset.images_dir("val") / row["file_name"]) as image:
      annotated, detected, displaced = (panel(picture, index, image) for index in range(3))
      original = np.asarray(image.convert("RGB").resize(displaced.shape[1::-1]), float)
      scale = 512 / max(image.size)
    # The network's input is smaller than the image, so edges are softer.
    assert np.abs(displaced - original).mean() < 12
    boxes = [box for box in truth["annotations"] if box["image_id"] == row["id"]]
    assert boxes
    for box in boxes:
      color = PALETTE[dataset.label_map.index_of(box["category_id"])]
      assert frame_share(annotated, box["bbox"], scale, color) > 0.4
      assert frame_share(detected, box["bbox"], scale, color) > 0.4
      assert frame_share(displaced, box["bbox"], scale, color) < 0.05


def test_a_small_validation_part_is_drawn_whole(experiment_and_dataset, tmp_path):
  prepare_dataset(tmp_path / "data", shapes=ShapesConfig(12), num_threads=1)
  experiment, _ = experiment_and_dataset
  data = InputConfig(data_dir=str(tmp_path / "data"))
  experiment, dataset = open_dataset(Experiment(experiment.detector, data, experiment.training))
  number = dataset.num_images(("val",))
  assert 0 < number < 4
  assert len(write(experiment, dataset, [[]], tmp_path / "events")) == number


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_a_training_leaves_pictures_of_the_same_images_at_every_evaluation(
  experiment_and_dataset, tmp_path, strategy
):
  experiment, dataset = experiment_and_dataset
  folder = RunFolder(tmp_path / "run")
  folder.claim(experiment, dataset.label_map)
  strategy = build_strategy(strategy)
  runner.train(experiment, dataset, folder, strategy, evaluate_on_the_way=True)
  written = pictures(folder.path / "validation")
  assert sorted({step for step, _ in written}) == [2, 4]
  tags = [{tag for step, tag in written if step == evaluated} for evaluated in (2, 4)]
  assert tags[0] == tags[1]
  assert len(tags[0]) == 4
  for picture in written.values():
    # Two panels with sides of at most 512 pixels.
    assert 512 < picture.width <= 2 * 512 + 3 * GAP
    assert picture.height < 512 + 5 * GAP
