"""Writes one part of a dataset: its TFRecord shards and its annotations as COCO JSON.

Shards are written by threads of one process, each holding one image at a time: decoding releases
Python's lock, so processes would gain nothing and cost the start of another TensorFlow each. A
finished shard has a note beside it, `.{shard}.json`: who is interrupted goes on with the shards
that have none. When all parts are written, `remove_notes` removes them.
"""

import dataclasses
import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import tensorflow as tf
from official.vision.data import tfrecord_lib

from official_nasfpn.data.coco_json import (
  AnnotatedImage,
  Box,
  annotation_rows,
  category_rows,
  clean_boxes,
  note_number_of_boxes,
  note_other_size,
)
from official_nasfpn.data.dataset_info import Part, Shard
from official_nasfpn.data.image_encoding import BrokenImageError, EncodedImage, encode_image
from official_nasfpn.data.image_headers import MAX_TRAINING_PIXELS
from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.data.report import Report
from official_nasfpn.disk import write_text
from official_nasfpn.json_text import parse_json


def write_part(
  name: str,
  items: Sequence[tuple[AnnotatedImage, Path]],
  label_map: LabelMap,
  output_dir: Path,
  num_shards: int,
  num_threads: int,
  report: Report,
  advance: Callable[[int], object],
  max_image_pixels: int | None = None,
) -> Part:
  """Writes `{name}-00000-of-0000N.tfrecord` and `{name}.json`.

  Args:
    name: the part's name.
    items: images and their files; shard i gets the items i, i + num_shards, ...
    label_map: the classes.
    output_dir: the folder to write to. Shards of the same items that it holds are kept.
    num_shards: number of TFRecord files.
    num_threads: shards written at the same time.
    report: receives what was dropped or mended.
    advance: called with the number of images done since the last call.
    max_image_pixels: images that declare more are left out; default: what TensorFlow decodes.

  Returns:
    The part, with images_dir left empty.
  """
  files = [output_dir / f"{name}-{i:05d}-of-{num_shards:05d}.tfrecord" for i in range(num_shards)]
  stopped = threading.Event()

  def write(index: int) -> None:
    share = items[index::num_shards]
    if _note(files[index]).is_file():
      advance(len(share))
    elif not stopped.is_set():
      _write_shard(files[index], share, label_map, max_image_pixels, advance, stopped)

  with ThreadPoolExecutor(num_threads) as executor:
    futures = [executor.submit(write, index) for index in range(num_shards)]
    try:
      for future in futures:
        future.result()
    except BaseException:
      stopped.set()
      executor.shutdown(cancel_futures=True)
      raise

  return _write_annotations(output_dir / f"{name}.json", files, label_map, report)


def remove_notes(output_dir: Path) -> None:
  """Removes the notes of all finished shards of a folder."""
  for note in output_dir.glob(".*.tfrecord.json"):
    note.unlink()


def note_shared_pixels(output_dir: Path, parts: Mapping[str, Part], report: Report) -> None:
  """Reports images to measure on that are trained on, too: the same pixels, in whatever file.

  Args:
    output_dir: the folder of the parts, with the notes of all shards.
    parts: what `write_part` has returned, by name: first "train", then "holdout" and "val".
    report: receives them.
  """
  trained_on: dict[str, str] = {}
  for name, part in parts.items():
    found: dict[str, str] = {}
    for shard in part.shards:
      note = _read_note(output_dir / shard.file)
      for image, digest in zip(note["images"], note["pixels"], strict=True):
        found.setdefault(digest, image["file_name"])
        if known := trained_on.get(digest):
          example = f"{image['file_name']} as {known}"
          report.note(f"images_{name}_trained_on", example)
    trained_on |= found


def _note(file: Path) -> Path:
  return file.with_name(f".{file.name}.json")


def _write_shard(
  file: Path,
  items: Sequence[tuple[AnnotatedImage, Path]],
  label_map: LabelMap,
  max_image_pixels: int | None,
  advance: Callable[[int], object],
  stopped: threading.Event,
) -> None:
  """Writes a shard, and then its note.

  The note has COCO's rows of images, their boxes, digests of their pixels, and the problems.
  """
  images: list[dict[str, Any]] = []
  boxes_by_image: list[list[tuple[Any, ...]]] = []
  digests: list[str] = []
  report = Report()
  with tf.io.TFRecordWriter(str(file)) as writer:
    for image, image_file in items:
      if stopped.is_set():
        return
      advance(1)
      try:
        encoded = encode_image(
          image_file.read_bytes(),
          image.size,
          max_image_pixels or MAX_TRAINING_PIXELS,
          lambda pixels: digests.append(_digest(pixels)),
        )
      except (BrokenImageError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        report.note("images_broken", f"{image.file_name}: {reason}")
        continue
      boxes = _boxes(image, encoded, label_map, report)
      example = _example(image, encoded, boxes, label_map)
      # The same bytes from every process: protocol buffers order a map at random otherwise.
      writer.write(example.SerializeToString(deterministic=True))
      images.append(
        {
          "id": image.id,
          "file_name": image.file_name,
          "width": encoded.width,
          "height": encoded.height,
        }
        | ({"text_id": image.text_id} if image.text_id is not None else {})
      )
      boxes_by_image.append([dataclasses.astuple(box) for box in boxes])
  content = {
    "images": images,
    "boxes": boxes_by_image,
    "pixels": digests,
    "report": report.to_json(),
  }
  write_text(_note(file), json.dumps(content, ensure_ascii=False))


def _digest(pixels: np.ndarray) -> str:
  """Returns what equal pixels have in common, and of a million images no two others."""
  hasher = hashlib.blake2b(str(pixels.shape).encode(), digest_size=8)
  hasher.update(np.ascontiguousarray(pixels))
  return hasher.hexdigest()


def _boxes(
  image: AnnotatedImage, encoded: EncodedImage, label_map: LabelMap, report: Report
) -> list[Box]:
  size = (encoded.width, encoded.height)
  if encoded.turned:
    report.note("images_turned", image.file_name)
  if encoded.reencoded:
    report.note("images_reencoded", image.file_name)
  note_other_size(image, size, report)
  boxes = clean_boxes(image.annotations, size, label_map, report, image.file_name)
  note_number_of_boxes(boxes, report, image.file_name)
  return boxes


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


def _write_annotations(
  path: Path, shards: Sequence[Path], label_map: LabelMap, report: Report
) -> Part:
  """Writes the COCO JSON that evaluation reads, from the notes of the shards, one at a time.

  Args:
    path: the file to write.
    shards: the finished shards.
    label_map: gives the dataset's own category ids back.
    report: receives the problems that the notes hold.

  Returns:
    The part.
  """
  num_images = num_boxes = 0

  def image_rows() -> Iterator[dict[str, Any]]:
    nonlocal num_images
    for shard in shards:
      note = _read_note(shard)
      report.add(Report.from_json(note["report"]))
      num_images += len(note["images"])
      yield from note["images"]

  def boxes_rows() -> Iterator[dict[str, Any]]:
    nonlocal num_boxes
    for shard in shards:
      note = _read_note(shard)
      for image, boxes in zip(note["images"], note["boxes"], strict=True):
        found = [Box(*box) for box in boxes]
        # From 1: COCO's evaluation takes a match with annotation 0 for no match.
        yield from annotation_rows(image["id"], found, label_map, num_boxes + 1)
        num_boxes += len(found)

  with path.open("w", encoding="utf-8") as file:
    file.write('{"info": {}, "licenses": [], "images": ')
    _write_list(file, image_rows())
    file.write(', "annotations": ')
    _write_list(file, boxes_rows())
    file.write(f', "categories": {json.dumps(category_rows(label_map), ensure_ascii=False)}}}')
  return Part(
    num_images, num_boxes, "", tuple(Shard(shard.name, shard.stat().st_size) for shard in shards)
  )


def _read_note(shard: Path) -> dict[str, Any]:
  return parse_json(_note(shard).read_text(encoding="utf-8"))


def _write_list(file: IO[str], rows: Iterable[dict[str, Any]]) -> None:
  file.write("[")
  for number, row in enumerate(rows):
    file.write(", " * (number > 0) + json.dumps(row, ensure_ascii=False))
  file.write("]")
