"""Run folders to report on, made with all that a training leaves but its weights."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.data.shapes import ShapesConfig, write_shapes_dataset
from official_nasfpn.training.analysis.boxes import (
  EvaluatedWith,
  boxes_of_coco,
  load_boxes,
  save_boxes,
)
from official_nasfpn.training.experiment import load_experiment, open_dataset, with_data
from official_nasfpn.training.run_folder import RunFolder

STEP = 300
# What a report must show as it is, and never take for markup.
SCRIPT = "<script>alert(1)</script>"
QUOTED = "a \"quoted\" & 'named' one"
_HARMLESS = "to be renamed"
CONTROL = "line\x07\x1b[31m \u202eback"
FILE = '<img src=x onerror="alert(2)">.png'


def hostile_data(folder: Path) -> Path:
  """Returns prepared data of 16 small images whose names are meant to do harm."""
  write_shapes_dataset(folder, ShapesConfig(16, 96), seed=0)
  path = folder / "annotations.json"
  content = json.loads(path.read_text())
  for category, name in zip(content["categories"], (SCRIPT, QUOTED, _HARMLESS), strict=False):
    category["name"] = name
  for number, row in enumerate(content["images"]):
    renamed = f"{number} {FILE}"
    (folder / "images" / row["file_name"]).rename(folder / "images" / renamed)
    row["file_name"] = renamed
  path.write_text(json.dumps(content))
  prepare_dataset(folder / "data", path, folder / "images", num_threads=1)
  # Preparing would clean this one; the folder may be a stranger's.
  for file in (folder / "data").glob("*.json"):
    file.write_text(file.read_text().replace(f'"{_HARMLESS}"', json.dumps(CONTROL)))
  return folder / "data"


def guesses(content: dict, seed: int = 0) -> list[dict]:
  """Returns detections near the annotated boxes of a COCO JSON, most of them right."""
  rng = np.random.default_rng(seed)
  ids = [category["id"] for category in content["categories"]]
  results = []
  for row in content["annotations"]:
    kind = rng.integers(10)
    if kind == 0:
      continue  # Missed.
    box = np.array(row["bbox"])
    box[:2] += box[2:] * rng.normal(0, 0.25 if kind == 1 else 0.03, 2)
    result = {
      "image_id": row["image_id"],
      "category_id": int(rng.choice(ids)) if kind == 2 else row["category_id"],
      "bbox": box.tolist(),
      "score": float(rng.uniform(0.3, 1.0)),
    }
    results.append(result)
    if kind == 3:
      results.append({**result, "score": result["score"] / 2})
  for row in content["images"]:
    results.append(
      {
        "image_id": row["id"],
        "category_id": int(rng.choice(ids)),
        "bbox": [5.0, 5.0, 20.0, 20.0],
        "score": float(rng.uniform(0.05, 0.4)),
      }
    )
  return results


def made_run(path: Path, data_dir: Path) -> RunFolder:
  """Returns the folder of a run that was evaluated on the part val of prepared data."""
  folder = new_run(path, data_dir)
  dataset = DatasetInfo.load(data_dir)
  content = json.loads(dataset.annotation_file("val").read_text())
  boxes = boxes_of_coco(content, guesses(content), dataset.label_map)
  save_boxes(folder.boxes_file, boxes, EvaluatedWith(STEP, str(data_dir), "val", 0.05, 100))
  return folder


def new_run(path: Path, data_dir: Path) -> RunFolder:
  """Returns the folder of a run that was trained, with curves, and not evaluated."""
  experiment, dataset = open_dataset(with_data(load_experiment(["gin/quickstart.gin"]), data_dir))
  folder = RunFolder(path)
  folder.claim(experiment, dataset.label_map)
  for name, curves in (
    ("train", {"total_loss": 2.0, "class_loss": 1.5, "box_loss": 0.5, "learning_rate": 0.08}),
    ("validation", {"AP": -0.5, "AP50": -0.8, "AP75": -0.4}),
  ):
    writer = tf.summary.create_file_writer(str(path / name))
    with writer.as_default():
      for step in range(0, STEP + 1, 50):
        for curve, value in curves.items():
          done = step / STEP
          tf.summary.scalar(curve, value * (1 - done) if value > 0 else -value * done, step)
      tf.summary.image("pictures/1", np.zeros((1, 8, 8, 3), np.uint8), STEP)
    writer.close()
  # Of a checkpoint what a report asks for: that it is there.
  folder.checkpoints.mkdir()
  (folder.checkpoints / f"ckpt-{STEP}.index").touch()
  return folder


def with_max_detections(folder: RunFolder, number: int) -> None:
  """Changes how many detections an image has at most, in what was evaluated."""
  boxes, made_with = load_boxes(folder.boxes_file)
  save_boxes(folder.boxes_file, boxes, dataclasses.replace(made_with, max_detections=number))
