"""Data that cannot be trained on, or not evaluated, or goes in mid-training."""

import dataclasses
import json
import shutil
import threading
import time

import numpy as np
import pytest
from PIL import Image

from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.errors import UserError
from official_nasfpn.search.proxy.proxy_task import open_on_holdout
from official_nasfpn.serving.export.exit_latency import sample_images
from official_nasfpn.serving.export.export_detector import export_detector
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, open_dataset
from official_nasfpn.training.plan import count_data
from official_nasfpn.training.training import plan_training, train_detector

TRAINING = TrainingConfig(
  batch_size=4, epochs=1.0, warmup_epochs=0.1, decay_epochs=(), checkpoint_epochs=0.4,
  steps_per_loop=2, evaluation_batch_size=4,
)  # fmt: skip


def prepare(folder, num_images, row=None, **options):
  """Prepares noise with a box an image, of which `row` changes fields."""
  images, boxes = [], []
  (folder / "images").mkdir()
  for id_ in range(1, num_images + 1):
    noise = np.random.default_rng(id_).integers(0, 256, (96, 96, 3), np.uint8)
    Image.fromarray(noise).save(folder / "images" / f"{id_}.png")
    images.append({"id": id_, "file_name": f"{id_}.png"})
    box = {"id": id_, "image_id": id_, "category_id": 1, "bbox": [20, 20, 40, 40]}
    boxes.append({**box, **(row or {})})
  content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}
  (folder / "all.json").write_text(json.dumps(content))
  data = folder / "data"
  prepare_dataset(data, folder / "all.json", folder / "images", num_threads=1, **options)
  return data


@pytest.fixture
def experiment_on(tiny_detector):
  def on(data, **training):
    return Experiment(
      dataclasses.replace(tiny_detector, anchor_size=2.0),
      InputConfig(data_dir=str(data)),
      dataclasses.replace(TRAINING, **training),
    )

  return on


@pytest.mark.parametrize(
  ("row", "said"),
  [
    ({"iscrowd": 1}, "8 crowd boxes: kept for evaluation, not trained on"),
    ({"bbox": None}, "8 boxes that are not four finite numbers"),
    ({"category_id": 5}, "8 boxes of a category that is not in the JSON: dropped"),
    ({"bbox": [500, 500, 9, 9]}, "8 boxes outside the image: dropped"),
  ],
)
def test_nothing_to_train_on_is_refused_before_anything_is_made(tmp_path, experiment_on, row, said):
  experiment = experiment_on(prepare(tmp_path, 8, row))
  for begin in (open_dataset, plan_training, lambda it: train_detector(it, tmp_path / "run")):
    with pytest.raises(
      UserError, match="has nothing to train on: train and holdout have 6"
    ) as error:
      begin(experiment)
    assert said in str(error.value)
  assert not (tmp_path / "run").exists()
  with pytest.raises(UserError, match="has nothing to train on: train have"):
    open_on_holdout(experiment)


@pytest.mark.parametrize(
  ("metric", "said"),
  [
    ("APs", r"val of .* has no annotated box, which is small \(under 32x32 pixels\)"),
    ("ARl", "no annotated box, which is large"),
  ],
)
def test_a_best_metric_without_boxes_is_refused_before_anything_is_made(
  tmp_path, experiment_on, metric, said
):
  experiment = experiment_on(prepare(tmp_path, 8), best_metric=metric)
  for begin in (plan_training, lambda it: train_detector(it, tmp_path / "run")):
    with pytest.raises(UserError, match=f"Training.best_metric = '{metric}' is undefined.*{said}"):
      begin(experiment)
  assert not (tmp_path / "run").exists()


def test_boxes_are_enough_where_other_parts_have_crowds(tmp_path, experiment_on):
  data = prepare(tmp_path, 8, {"segmentation": [[10, 10, 30, 10, 30, 30]], "bbox": None})
  content = json.loads((tmp_path / "all.json").read_text())
  for row in content["annotations"][1:]:
    row["iscrowd"] = 1
  shutil.rmtree(data)
  (tmp_path / "all.json").write_text(json.dumps(content))
  options = {"validation_fraction": 0, "holdout_fraction": 0.5}
  prepared = prepare_dataset(data, tmp_path / "all.json", tmp_path / "images", **options)
  assert prepared.report["boxes_crowd"]["count"] == 7
  open_dataset(experiment_on(data))
  with pytest.raises(UserError, match=r"nothing to (train on|reward trials by)"):
    open_on_holdout(experiment_on(data))


@pytest.mark.slow
def test_one_image_is_trained_on_and_exported(tmp_path, experiment_on, capsys):
  data = prepare(tmp_path, 1)
  experiment = experiment_on(data, epochs=8.0, batch_size=1)
  with pytest.raises(UserError, match="val has no images, so nothing can be evaluated: train with"):
    train_detector(experiment, tmp_path / "run")
  assert not (tmp_path / "run").exists()
  capsys.readouterr()
  plan_training(experiment)
  note = "val has no images, so nothing can be evaluated: train with --mode train. An export cannot"
  assert note in capsys.readouterr().err
  train_detector(experiment, tmp_path / "run", evaluate=False)
  assert note in capsys.readouterr().err
  images, source = sample_images(experiment)
  assert (len(images), source) == (1, f"part 'train' of {data}")
  with pytest.raises(UserError, match=r"nothing can be evaluated.* Leave --check out"):
    export_detector(tmp_path / "run", tmp_path / "export", check=True)
  export = export_detector(tmp_path / "run", tmp_path / "export")
  assert export.is_new


def test_images_that_are_in_train_and_val_are_said_before_training(tmp_path, experiment_on, capsys):
  data = prepare(tmp_path, 4)
  shutil.rmtree(data)
  annotations, images = tmp_path / "all.json", tmp_path / "images"
  prepare_dataset(data, annotations, images, val_annotations=annotations)
  plan_training(experiment_on(data))
  said = "warning: 4 of the 4 images of val have the pixels of images that are trained on"
  assert said in capsys.readouterr().err


def test_a_damaged_shard_is_found_by_the_plan(tmp_path, experiment_on):
  data = prepare(tmp_path, 8)
  experiment, dataset = open_dataset(experiment_on(data))
  path = sorted(data.glob("train-*.tfrecord"))[0]
  content = bytearray(path.read_bytes())
  content[3000] ^= 1
  path.write_bytes(content)
  with pytest.raises(UserError, match=f"^{path} is damaged after its record 0"):
    count_data(experiment, dataset)


@pytest.mark.slow
def test_a_shard_that_is_deleted_in_mid_training_is_one_line(tmp_path, experiment_on):
  data = prepare(tmp_path, 16)
  path = sorted(data.glob("train-*.tfrecord"))[0]

  def delete():
    while not list((tmp_path / "run").glob("checkpoints/ckpt-*.index")):
      time.sleep(0.01)
    path.unlink()

  thread = threading.Thread(target=delete)
  thread.start()
  with pytest.raises(UserError) as error:
    train_detector(experiment_on(data, epochs=400.0), tmp_path / "run", evaluate=False)
  thread.join()
  message = str(error.value)
  assert message.startswith(f"{path} is missing. ")
  assert f"--annotations={tmp_path}/all.json --images={tmp_path}/images" in message
  assert message.endswith(
    "The checkpoints written before are whole: the same command then goes on."
  )
  assert len(message.splitlines()) == 1


def test_a_search_without_data_names_what_it_has(experiment_on):
  with pytest.raises(
    UserError, match=r"^No data: bind Input\.data_dir, in the recipe or with --gin"
  ):
    open_on_holdout(experiment_on(""))
