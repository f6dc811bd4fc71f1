"""Turns annotations and images, or the embedded shapes, into the TFRecords that training reads.

nasfpn prepare --annotations my.json --images images/ --output_dir data/mine
nasfpn prepare --annotations roboflow_export/ --output_dir data/mine
nasfpn prepare --synthetic --output_dir data/shapes
nasfpn prepare --annotations my.json --images images/ --check_only --output check.html

Annotations are COCO JSON, a folder of Pascal VOC or YOLO, a data.yaml, a CSV of boxes, CVAT's XML,
Label Studio's JSON, or a folder with one of these, told apart by what is there, or by --format.
"""

from absl import flags

from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.formats.reading import FORMATS
from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.data.report import parts_table, report_table
from official_nasfpn.data.shapes import ShapesConfig
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program

_DEFAULT_PAGE = "dataset_check.html"

_ANNOTATIONS = flags.DEFINE_string(
  "annotations", None, "Annotations of the (training) images: a file or a folder, see above."
)
_IMAGES = flags.DEFINE_string(
  "images", None, "Folder of the images in --annotations; not needed where they lie beside them."
)
_FORMAT = flags.DEFINE_enum(
  "format", None, list(FORMATS), "Format of the annotations; default: told by what is there."
)
_VAL_ANNOTATIONS = flags.DEFINE_string(
  "val_annotations",
  None,
  "Annotations of the validation images; without them, or a split of that name in --annotations, a "
  "share is split off.",
)
_VAL_IMAGES = flags.DEFINE_string(
  "val_images", None, "Folder of the images in --val_annotations; default: that of --images."
)
_SYNTHETIC = flags.DEFINE_bool("synthetic", False, "Draw the embedded dataset of shapes instead.")
_NUM_IMAGES = flags.DEFINE_integer(
  "num_images", ShapesConfig.num_images, "Images to draw, with --synthetic."
)
_IMAGE_SIZE = flags.DEFINE_integer(
  "image_size",
  ShapesConfig.image_size,
  "Typical side of the drawn images in pixels, with --synthetic.",
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write.")
_CHECK_ONLY = flags.DEFINE_bool(
  "check_only", False, "Prepare nothing: look at all images and boxes, and write a page on them."
)
_OUTPUT = flags.DEFINE_string(
  "output", None, f"HTML file of --check_only; default: {_DEFAULT_PAGE}."
)
_VALIDATION_FRACTION = flags.DEFINE_float(
  "validation_fraction", 0.2, "Share of the images for validation, without --val_annotations."
)
_HOLDOUT_FRACTION = flags.DEFINE_float(
  "holdout_fraction", 0.2, "Share of the training images that rewards are measured on."
)
_NUM_HOLDOUT = flags.DEFINE_integer(
  "num_holdout", None, "Exactly so many images for rewards, instead of --holdout_fraction."
)
_STRATIFY = flags.DEFINE_bool(
  "stratify",
  True,
  "Split the share for validation off with all classes in proportion; without it by seed alone.",
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the split, and of the embedded dataset.")
_NUM_SHARDS = flags.DEFINE_integer("num_shards", None, "TFRecord files per part; default: by size.")
_NUM_THREADS = flags.DEFINE_integer(
  "num_threads", None, "Images processed at the same time; default: one per processor."
)
_MAX_IMAGE_PIXELS = flags.DEFINE_integer(
  "max_image_pixels",
  None,
  "Leave out images that declare more pixels, before they are decoded; default: 536,870,911, what "
  "TensorFlow decodes at most, which takes 1.6 GB.",
)


def main(argv: list[str]) -> None:
  """Prepares a dataset and prints what is in it and what was wrong with it."""
  refuse_positional_arguments(argv)
  if _CHECK_ONLY.value:
    _check()
    return
  if _OUTPUT.value:
    raise UserError("--output is the page of --check_only; data is written to --output_dir.")
  if not _OUTPUT_DIR.value:
    raise UserError("Give --output_dir, the folder to write; or --check_only to look at the data.")
  shapes = ShapesConfig(_NUM_IMAGES.value, _IMAGE_SIZE.value) if _SYNTHETIC.value else None
  prepared = prepare_dataset(
    _OUTPUT_DIR.value,
    _ANNOTATIONS.value,
    _IMAGES.value,
    val_annotations=_VAL_ANNOTATIONS.value,
    val_images=_VAL_IMAGES.value,
    format=_FORMAT.value,
    shapes=shapes,
    validation_fraction=_VALIDATION_FRACTION.value,
    holdout_fraction=_HOLDOUT_FRACTION.value,
    num_holdout=_NUM_HOLDOUT.value,
    seed=_SEED.value,
    num_shards=_NUM_SHARDS.value,
    num_threads=_NUM_THREADS.value,
    max_image_pixels=_MAX_IMAGE_PIXELS.value,
    stratify=_STRATIFY.value,
  )
  if not prepared.is_new:
    print(f"{prepared.folder} is already prepared from the same input; nothing to do.")
  info = DatasetInfo.load(prepared.folder)
  for part in info.source.values():
    if "annotations" in part:
      title = FORMATS[part.get("format", "coco")].title
      print(f"Read as {title}: {part['annotations']}, with images in {part['images_dir']}")
  print(report_table(prepared.report))
  print(parts_table(info))
  print(f"\n{len(prepared.classes)} classes: {', '.join(prepared.classes)}")
  print(f"Prepared: {prepared.folder}")


def _check() -> None:
  """Prints what is wrong with the dataset, and writes the page on it."""
  # Imported here: it brings what charts and pages need.
  from official_nasfpn.data.doctor.check import check_dataset

  if _SYNTHETIC.value or _OUTPUT_DIR.value:
    raise UserError(
      "--check_only prepares nothing: give it --annotations, and --output for its page, without "
      "--output_dir or --synthetic."
    )
  if not _ANNOTATIONS.value:
    raise UserError("--check_only needs --annotations.")
  checked = check_dataset(
    _ANNOTATIONS.value,
    _IMAGES.value,
    val_annotations=_VAL_ANNOTATIONS.value,
    val_images=_VAL_IMAGES.value,
    format=_FORMAT.value,
    output=_OUTPUT.value or _DEFAULT_PAGE,
    num_threads=_NUM_THREADS.value,
  )
  print(checked.table())
  print(f"Page: {checked.page}")


if __name__ == "__main__":
  run_program(main)
