"""Writes one part of a dataset: its TFRecord shards and its annotations as COCO JSON.

Shards are written by threads of one process, each holding one image at a time: decoding releases
Python's lock, so processes would gain nothing and cost the start of another TensorFlow each.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf
from official.vision.data import tfrecord_lib

from official_nasfpn.data.coco_json import AnnotatedImage, Box, clean_boxes, coco_content
from official_nasfpn.data.dataset_info import Part, Shard
from official_nasfpn.data.image_encoding import BrokenImageError, EncodedImage, encode_image
from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.data.report import Report

_MANY_BOXES = 100


@dataclass
class _WrittenShard:
  """What is kept of a written shard: COCO entries of its images, and the problems found."""

  images: list[dict[str, Any]] = field(default_factory=list)
  boxes: list[list[Box]] = field(default_factory=list)
  report: Report = field(default_factory=Report)


def write_part(
  name: str,
  items: Sequence[tuple[AnnotatedImage, Path]],
  label_map: LabelMap,
  output_dir: Path,
  num_shards: int,
  num_threads: int,
  report: Report,
  advance: Callable[[int], object],
) -> Part:
  """Writes `{name}-00000-of-0000N.tfrecord` and `{name}.json`.

  Args:
    name: the part's name.
    items: images and their files; shard i gets the items i, i + num_shards, ...
    label_map: the classes.
    output_dir: the folder to write to.
    num_shards: number of TFRecord files.
    num_threads: shards written at the same time.
    report: receives what was dropped or mended.
    advance: called with the number of images done since the last call.

  Returns:
    The part, with images_dir left empty.
  """
  files = [f"{name}-{i:05d}-of-{num_shards:05d}.tfrecord" for i in range(num_shards)]

  def write(index: int) -> _WrittenShard:
    share = items[index::num_shards]
    return _write_shard(output_dir / files[index], share, label_map, advance)

  with ThreadPoolExecutor(num_threads) as executor:
    futures = [executor.submit(write, index) for index in range(num_shards)]
    try:
      written = [future.result() for future in futures]
    except BaseException:
      executor.shutdown(cancel_futures=True)
      raise

  num_boxes = _write_annotations(output_dir / f"{name}.json", written, label_map)
  for shard in written:
    report.add(shard.report)
  shards = tuple(Shard(file, (output_dir / file).stat().st_size) for file in files)
  return Part(sum(len(shard.images) for shard in written), num_boxes, "", shards)


def _write_shard(
  path: Path,
  items: Sequence[tuple[AnnotatedImage, Path]],
  label_map: LabelMap,
  advance: Callable[[int], object],
) -> _WrittenShard:
  shard = _WrittenShard()
  with tf.io.TFRecordWriter(str(path)) as writer:
    for image, file in items:
      advance(1)
      try:
        encoded = encode_image(file.read_bytes(), image.size)
      except (BrokenImageError, OSError):
        shard.report.note("images_broken", image.file_name)
        continue
      boxes = _boxes(image, encoded, label_map, shard.report)
      writer.write(_example(image, encoded, boxes, label_map).SerializeToString())
      shard.images.append(
        {
          "id": image.id,
          "file_name": image.file_name,
          "width": encoded.width,
          "height": encoded.height,
        }
      )
      shard.boxes.append(boxes)
  return shard


def _boxes(
  image: AnnotatedImage, encoded: EncodedImage, label_map: LabelMap, report: Report
) -> list[Box]:
  size = (encoded.width, encoded.height)
  if encoded.turned:
    report.note("images_turned", image.file_name)
  if encoded.reencoded:
    report.note("images_reencoded", image.file_name)
  if image.size not in (None, size):
    example = f"{image.file_name}: {_by(image.size)} in the JSON, {_by(size)} in the file"
    report.note("images_other_size", example)
  boxes = clean_boxes(image.annotations, size, label_map, report, image.file_name)
  if not boxes:
    report.note("images_without_boxes", image.file_name)
  if len(boxes) > _MANY_BOXES:
    report.note("images_many_boxes", f"{image.file_name}: {len(boxes)}")
  return boxes


def _by(size: tuple[int, int]) -> str:
  return f"{size[0]}x{size[1]}"


def _example(
  image: AnnotatedImage, encoded: EncodedImage, boxes: Sequence[Box], label_map: LabelMap
) -> tf.train.Example:
  """Returns the features that Model Garden's `TfExampleDecoder` reads."""
  feature = tfrecord_lib.image_info_to_feature_dict(
    encoded.height, encoded.width, image.file_name, image.id, encoded.data, encoded.format
  )
  width, height = encoded.width, encoded.height
  columns = {
    "bbox/xmin": ([box.x / width for box in boxes], "float_list"),
    "bbox/xmax": ([(box.x + box.width) / width for box in boxes], "float_list"),
    "bbox/ymin": ([box.y / height for box in boxes], "float_list"),
    "bbox/ymax": ([(box.y + box.height) / height for box in boxes], "float_list"),
    "class/label": ([box.class_index + 1 for box in boxes], "int64_list"),
    "class/text": ([label_map.name(box.class_index).encode() for box in boxes], "bytes_list"),
    "is_crowd": ([int(box.is_crowd) for box in boxes], "int64_list"),
    "area": ([box.area for box in boxes], "float_list"),
  }
  for name, (values, kind) in columns.items():
    feature[f"image/object/{name}"] = tfrecord_lib.convert_to_feature(values, kind)
  return tf.train.Example(features=tf.train.Features(feature=feature))


def _write_annotations(path: Path, shards: Sequence[_WrittenShard], label_map: LabelMap) -> int:
  """Writes the COCO JSON that evaluation reads; returns its number of boxes."""
  images = [image for shard in shards for image in shard.images]
  boxes = [boxes for shard in shards for boxes in shard.boxes]
  content = coco_content(images, boxes, label_map)
  path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
  return len(content["annotations"])
