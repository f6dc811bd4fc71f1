"""Turns COCO JSON and images, or the embedded shapes, into the TFRecords that training reads.

nasfpn prepare --annotations my.json --images images/ --output_dir data/mine
nasfpn prepare --synthetic --output_dir data/shapes
"""

import os
from pathlib import Path

from absl import flags

from official_nasfpn.data.foreign_formats import (
  refuse_foreign_annotations,
  refuse_foreign_images,
)
from official_nasfpn.data.preparation import CocoSource, Settings, prepare_dataset
from official_nasfpn.data.report import parts_table, report_table
from official_nasfpn.data.shapes import ShapesConfig
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program

_ANNOTATIONS = flags.DEFINE_string("annotations", None, "COCO JSON of the (training) images.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of the images in --annotations.")
_VAL_ANNOTATIONS = flags.DEFINE_string(
  "val_annotations", None, "COCO JSON of the validation images; without it a share is split off."
)
_VAL_IMAGES = flags.DEFINE_string(
  "val_images", None, "Folder of the images in --val_annotations; default: that of --images."
)
_SYNTHETIC = flags.DEFINE_bool("synthetic", False, "Draw the embedded dataset of shapes instead.")
_NUM_IMAGES = flags.DEFINE_integer(
  "num_images", ShapesConfig.num_images, "Images to draw, with --synthetic."
)
_IMAGE_SIZE = flags.DEFINE_integer(
  "image_size", ShapesConfig.image_size, "Their typical side, with --synthetic."
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write.", required=True)
_VALIDATION_FRACTION = flags.DEFINE_float(
  "validation_fraction", 0.2, "Share of the images for validation, without --val_annotations."
)
_HOLDOUT_FRACTION = flags.DEFINE_float(
  "holdout_fraction", 0.2, "Share of the training images that rewards are measured on."
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the split, and of the embedded dataset.")
_NUM_SHARDS = flags.DEFINE_integer("num_shards", None, "TFRecord files per part; default: by size.")
_NUM_THREADS = flags.DEFINE_integer(
  "num_threads", None, "Images worked on at the same time; default: one per processor."
)


def main(argv: list[str]) -> None:
  """Prepares a dataset and prints what is in it and what was wrong with it."""
  refuse_positional_arguments(argv)
  try:
    settings = Settings(
      validation_fraction=_VALIDATION_FRACTION.value,
      holdout_fraction=_HOLDOUT_FRACTION.value,
      seed=_SEED.value,
      num_shards=_NUM_SHARDS.value,
    )
    source = _source()
  except ValueError as error:
    raise UserError(f"{error}.") from error
  num_threads = _NUM_THREADS.value or os.cpu_count() or 1
  info, is_new = prepare_dataset(source, _OUTPUT_DIR.value, settings, num_threads)
  if not is_new:
    print(f"{info.data_dir} is already prepared from the same input; nothing to do.")
  print(report_table(info.report))
  print(parts_table(info))
  names = [category.name for category in info.label_map.categories]
  print(f"\n{len(names)} classes: {', '.join(names)}")
  print(f"Prepared: {info.data_dir}")


def _source() -> CocoSource | ShapesConfig:
  if _SYNTHETIC.value:
    if _ANNOTATIONS.value or _IMAGES.value or _VAL_ANNOTATIONS.value or _VAL_IMAGES.value:
      raise UserError("--synthetic draws its own images; give it no annotations or images.")
    return ShapesConfig(_NUM_IMAGES.value, _IMAGE_SIZE.value)
  if not _ANNOTATIONS.value or not _IMAGES.value:
    raise UserError("Give --annotations and --images, or --synthetic for the embedded dataset.")
  if _VAL_IMAGES.value and not _VAL_ANNOTATIONS.value:
    raise UserError("--val_images needs --val_annotations.")
  for flag in (_IMAGES, _VAL_IMAGES):
    if flag.value:
      refuse_foreign_images(flag.name, flag.value)
  for flag in (_ANNOTATIONS, _VAL_ANNOTATIONS):
    if flag.value:
      refuse_foreign_annotations(flag.value)
  return CocoSource(
    Path(_ANNOTATIONS.value),
    Path(_IMAGES.value),
    Path(_VAL_ANNOTATIONS.value) if _VAL_ANNOTATIONS.value else None,
    Path(_VAL_IMAGES.value) if _VAL_IMAGES.value else None,
  )


if __name__ == "__main__":
  run_program(main)
