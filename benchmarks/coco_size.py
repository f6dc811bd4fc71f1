"""Measures what a dataset of COCO's size costs: preparation, start, an epoch of input, evaluation.

    python -m benchmarks.coco_size
    python -m benchmarks.coco_size --num_images 12000 --num_val 500

Everything is made in --work_dir and removed at the end: 118,287 small JPEGs with COCO's number of
boxes and outlines, in 80 classes. Prints one JSON object.
"""

import collections
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks.peer_comparison.measuring import program, run, seconds_until, timed
from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.progress import say

flags.DEFINE_integer("num_images", 118_287, "Training images; COCO's train2017 has as many.")
flags.DEFINE_integer("num_val", 5000, "Validation images.")
flags.DEFINE_integer("num_holdout", 7392, "Images for rewards.")
flags.DEFINE_string("work_dir", ".benchmarks/coco_size", "Where it is made.")

FLAGS = flags.FLAGS

_CLASSES = 80
_BOXES_PER_IMAGE = 7.27
_WITHOUT_BOXES = 0.009
_SIDES = (96, 72)
# The numbers of an outline make up most of COCO's file of 448 MB.
_OUTLINE_NUMBERS = 40
_SMALL = 200
# A tiny detector: the data is measured, and not the network.
_RECIPE = (
  "Detector.backbone = 'R-10'",
  "Detector.backbone_width = 0.25",
  "Detector.num_repeats = 1",
  "Detector.num_filters = 16",
  "Detector.image_size = (128, 128)",
  "Training.batch_size = 16",
)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  folder = Path(FLAGS.work_dir).resolve()
  shutil.rmtree(folder, ignore_errors=True)
  try:
    print(json.dumps(_measure(folder), indent=2))
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def _measure(folder: Path) -> dict[str, Any]:
  sizes = {
    "small": (_SMALL, 50, 40),
    "tenth": (FLAGS.num_images // 10, 50, FLAGS.num_holdout // 10),
    "whole": (FLAGS.num_images, FLAGS.num_val, FLAGS.num_holdout),
  }
  found: dict[str, Any] = {"images": FLAGS.num_images, "cores": len(os.sched_getaffinity(0))}
  for name, (num_images, num_val, num_holdout) in sizes.items():
    source = folder / f"{name}_source"
    seconds, num_boxes = timed(lambda s=source, n=num_images, v=num_val: _make(s, n, v))
    say(f"{name}: {num_images:,} images with {num_boxes:,} boxes, made in {seconds:.0f} s")
    output = (folder / f"{name}.txt").open("w", encoding="utf-8")
    command = _prepare(source, folder / name, num_holdout)
    seconds, memory = timed(lambda c=command, o=output: run(c, o))
    found[f"prepare {name}"] = {
      "images a second": num_images / seconds,
      "seconds": seconds,
      "peak memory MB": memory / 1e6,
    }
    say(f"prepare {name}: {found[f'prepare {name}']}")
  whole, source = folder / "whole", folder / "whole_source"
  found["copying the images alone, seconds"] = timed(lambda: _copy(source / "train", folder))[0]
  found["prepare, killed half way"] = _killed(source, folder / "again", sizes["whole"][2])
  say(f"killed half way: {found['prepare, killed half way']}")
  parts = json.loads((whole / "dataset.json").read_text(encoding="utf-8"))["parts"]
  found["parts"] = {name: part["num_images"] for name, part in parts.items()}
  found["same holdout again"] = all(
    (whole / name).read_bytes() == (folder / "again" / name).read_bytes()
    for name in ("holdout.json", "train.json", parts["train"]["shards"][0]["file"])
  )
  shutil.rmtree(folder / "again")
  for name in ("small", "whole", "small", "whole"):
    seconds = seconds_until(_train(folder / name, folder / "run"), "the first step is done")
    found.setdefault(f"start of training, {name}, seconds", []).append(seconds)
    shutil.rmtree(folder / "run", ignore_errors=True)
    say(f"start {name}: {seconds:.1f} s")
  found["epoch of input"] = _epoch(whole)
  say(f"epoch of input: {found['epoch of input']}")
  found["evaluation"] = _evaluate(whole, folder / "run")
  return found


def _make(folder: Path, num_images: int, num_val: int) -> int:
  """Writes images and COCO JSON; returns the number of boxes for training."""
  rng = np.random.default_rng(0)
  pictures = _pictures(rng)
  return [
    _make_part(folder, part, count, pictures, rng)
    for part, count in (("val", num_val), ("train", num_images))
  ][1]


def _make_part(
  folder: Path, part: str, num_images: int, pictures: Sequence[bytes], rng: np.random.Generator
) -> int:
  (folder / part).mkdir(parents=True)
  width, height = _SIDES
  # A geometric distribution of this mean has COCO's longest tail, too: 93 boxes.
  counts = rng.geometric(1 / (_BOXES_PER_IMAGE / (1 - _WITHOUT_BOXES)), num_images)
  counts[rng.random(num_images) < _WITHOUT_BOXES] = 0
  num_boxes = 0
  with (folder / f"{part}.json").open("w", encoding="utf-8") as file:
    classes = [{"id": 1 + index, "name": f"class {index}"} for index in range(_CLASSES)]
    images = [
      {"id": 3 * index + 1, "file_name": f"{index:012d}.jpg", "width": width, "height": height}
      for index in range(num_images)
    ]
    file.write(f'{{"categories": {json.dumps(classes)}, "images": {json.dumps(images)}, ')
    file.write('"annotations": [')
    for index, count in enumerate(counts.tolist()):
      (folder / part / f"{index:012d}.jpg").write_bytes(pictures[index % len(pictures)])
      sides = rng.uniform(0.05, 0.6, (count, 2)) * _SIDES
      corners = rng.random((count, 2)) * (np.array(_SIDES) - sides)
      boxes = np.concatenate([corners, sides], axis=1).round(2).tolist()
      for box, class_index in zip(boxes, rng.integers(_CLASSES, size=count).tolist(), strict=True):
        num_boxes += 1
        row = {
          "segmentation": [box * (_OUTLINE_NUMBERS // 4)],
          "area": box[2] * box[3],
          "iscrowd": 0,
          "image_id": 3 * index + 1,
          "bbox": box,
          "category_id": 1 + class_index,
          "id": num_boxes,
        }
        file.write(", " * (num_boxes > 1) + json.dumps(row))
    file.write("]}")
  return num_boxes


def _pictures(rng: np.random.Generator) -> list[bytes]:
  import io

  from PIL import Image

  pictures = []
  for _ in range(500):
    small = Image.fromarray(rng.integers(256, size=(9, 12, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize(_SIDES, Image.Resampling.BICUBIC).save(buffer, "jpeg", quality=90)
    pictures.append(buffer.getvalue())
  return pictures


def _prepare(source: Path, output_dir: Path, num_holdout: int) -> list[str]:
  return program(
    "official_nasfpn.prepare_data",
    annotations=source / "train.json",
    images=source / "train",
    val_annotations=source / "val.json",
    val_images=source / "val",
    num_holdout=num_holdout,
    output_dir=output_dir,
  )


def _copy(images: Path, folder: Path) -> None:
  """Reads all images and writes them into one file: what the disk and Python take at least."""
  with (folder / "copy").open("wb") as file:
    for path in sorted(images.iterdir()):
      file.write(path.read_bytes())
    file.flush()
    os.fsync(file.fileno())
  (folder / "copy").unlink()


def _killed(source: Path, output_dir: Path, num_holdout: int) -> dict[str, float]:
  """Kills a preparation when half of the training shards are there, and starts it again."""
  command = _prepare(source, output_dir, num_holdout)
  start = time.monotonic()
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  done: list[Path] = []
  while len(done) < FLAGS.num_images // 2000:
    time.sleep(0.1)
    if process.poll() is not None:
      raise RuntimeError(f"it ended by itself, with {process.returncode}")
    done = list(output_dir.parent.glob(f".{output_dir.name}.partial-*/.train*.json"))
  process.send_signal(signal.SIGKILL)
  process.wait()
  before = time.monotonic() - start
  with (output_dir.parent / "again.txt").open("w", encoding="utf-8") as output:
    after, _ = timed(lambda: run(command, output))
  return {"seconds until it was killed": before, "seconds of the same command again": after}


def _train(data_dir: Path, model_dir: Path, **options: object) -> list[str]:
  recipe = data_dir.parent / "tiny.gin"
  recipe.write_text("\n".join(_RECIPE) + "\n", encoding="utf-8")
  return program(
    "official_nasfpn.train", gin_file=recipe, data_dir=data_dir, model_dir=model_dir, **options
  )


def _epoch(data_dir: Path) -> dict[str, float]:
  """One epoch of batches; how its order differs from the next is seen on the records alone."""
  from official_nasfpn.data.config import InputConfig
  from official_nasfpn.data.dataset_info import DatasetInfo
  from official_nasfpn.data.input_pipeline import train_dataset

  config = InputConfig(data_dir=str(data_dir))
  num_images = DatasetInfo.load(data_dir).num_images(config.train_parts)
  batches = train_dataset(config, (128, 128), 16, seed=0).take(num_images // 16)
  seconds, _ = timed(lambda: collections.deque(batches, maxlen=1))
  return {
    "seconds": seconds,
    "images a second": num_images / seconds,
    "correlation of positions in two epochs": _order_correlation(config, num_images),
    "memory MB": _resident_bytes() / 1e6,
  }


def _order_correlation(config: Any, num_images: int) -> float:
  """Returns the correlation between an image's positions in two epochs; 0 if they are mixed."""
  import tensorflow as tf

  from official_nasfpn.data.input_pipeline import shuffled_records

  records = shuffled_records(config, 0, tf.distribute.InputContext())
  names = {"image/source_id": tf.io.FixedLenFeature([], tf.string)}
  ids = records.batch(1000).map(lambda batch: tf.io.parse_example(batch, names)["image/source_id"])
  order = np.concatenate(list(ids.take(-(-2 * num_images // 1000)).as_numpy_iterator()))
  first, second = order[:num_images], order[num_images : 2 * num_images]
  assert set(first) == set(second)
  return float(np.corrcoef(np.argsort(first), np.argsort(second))[0, 1])


def _resident_bytes() -> int:
  pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
  return pages * os.sysconf("SC_PAGE_SIZE")


def _evaluate(data_dir: Path, model_dir: Path) -> dict[str, float]:
  few = ("--gin_param=Training.epochs = 1", "--gin_param=Training.images_per_epoch = 160")
  evaluate = program("official_nasfpn.train", model_dir=model_dir, mode="eval")
  with (data_dir.parent / "evaluate.txt").open("w", encoding="utf-8") as output:
    run([*_train(data_dir, model_dir, mode="train"), *few], output)
    seconds, memory = timed(lambda: run(evaluate, output))
  return {"seconds with the start": seconds, "peak memory MB": memory / 1e6}


if __name__ == "__main__":
  run_program(main)
