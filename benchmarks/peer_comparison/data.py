"""What both sides work on: drawn images, prepared by our `prepare_data`, and made detections."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.made_detections import make_detections
from benchmarks.peer_comparison.measuring import Settings, make_once, program

if TYPE_CHECKING:
  import tensorflow as tf

  from official_nasfpn.data.label_map import LabelMap

_NUM_REQUESTS = 20


def data(settings: Settings) -> Path:
  """Returns 200 drawn images of about 256 pixels to train on and 100 to evaluate on, prepared."""
  return _drawn_data(settings, "data", num_images=300, image_size=256)


def large_data(settings: Settings) -> Path:
  """Returns drawn images of about the size of COCO's, prepared; for the input pipeline."""
  return _drawn_data(settings, "large_data", num_images=96, image_size=560)


def _drawn_data(settings: Settings, name: str, num_images: int, image_size: int) -> Path:
  def commands(folder: Path) -> list[list[str]]:
    options = {"validation_fraction": 1 / 3, "holdout_fraction": 0, "output_dir": folder}
    sizes = {"num_images": num_images, "image_size": image_size}
    return [program("official_nasfpn.prepare_data", "--synthetic", **sizes, **options)]

  return make_once(settings, name, commands)


def made_for_metrics(settings: Settings) -> tuple[Path, list, "LabelMap"]:
  """Returns an annotation file, 100 detections for each of its images, and 80 classes."""
  from official_nasfpn.data.label_map import Category, LabelMap

  content, results = make_detections(0, settings.metric_images, 80, 100)
  file = settings.work_dir / f"annotations_of_{settings.metric_images}.json"
  file.write_text(json.dumps(content), encoding="utf-8")
  rows = sorted(content["categories"], key=lambda row: row["id"])
  return file, results, LabelMap(tuple(Category(row["id"], row["name"]) for row in rows))


def validation_images(data_dir: Path) -> list["tf.Tensor"]:
  """Returns validation images, uint8 [1, 256, 256, 3]."""
  import numpy as np
  import tensorflow as tf
  from PIL import Image

  rows = json.loads((data_dir / "val.json").read_text(encoding="utf-8"))["images"]
  folder = data_dir / "images"
  return [
    tf.constant(np.asarray(Image.open(folder / row["file_name"]).resize((256, 256)))[np.newaxis])
    for row in rows[:_NUM_REQUESTS]
  ]
