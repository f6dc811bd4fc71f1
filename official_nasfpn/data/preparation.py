"""From COCO JSON and images, or from drawn shapes, to a prepared data directory, whole or none."""

import dataclasses
import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from official_nasfpn import folders
from official_nasfpn.data.coco_json import AnnotatedImage, CocoDataset, read_coco_json
from official_nasfpn.data.dataset_info import DatasetInfo, Part, identity_of
from official_nasfpn.data.foreign_formats import refuse_foreign_annotations, refuse_foreign_images
from official_nasfpn.data.image_files import (
  FoundImage,
  file_key,
  find_image_file,
  take_groups,
  without_ambiguous,
)
from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.data.report import Report
from official_nasfpn.data.shapes import ShapesConfig, write_shapes_dataset
from official_nasfpn.errors import UserError
from official_nasfpn.progress import progress_bar

# Large enough to read in one go, small enough for many hosts to share a dataset.
_SHARD_BYTES = 100 * 2**20
# So that reading shards in random order mixes a large dataset of small images, too, and an
# interrupted preparation loses little.
_SHARD_IMAGES = 1000
# Even a small dataset gets as many shards, so that threads and hosts can share the work.
_MIN_SHARDS = 8


@dataclass(frozen=True)
class PreparedDataset:
  """What `prepare_dataset` made.

  Attributes:
    folder: the prepared data, as `Input.data_dir` takes it.
    num_images: by part: "train", "holdout" and "val".
    classes: their names, by class index.
    report: what was dropped, clipped or otherwise mended, by problem:
      {"count": int, "examples": [str, ...]}. `report.PROBLEMS` says what each name means.
    is_new: False if the folder held this very dataset already.
  """

  folder: Path
  num_images: Mapping[str, int]
  classes: tuple[str, ...]
  report: Mapping[str, Any]
  is_new: bool


@dataclass(frozen=True)
class _Source:
  """COCO JSON of the training images and the folder of these images; the same for validation."""

  annotations: Path
  images_dir: Path
  val_annotations: Path | None = None
  val_images_dir: Path | None = None


@dataclass(frozen=True)
class _Settings:
  """How a dataset is split and written, as `dataset.json` holds it."""

  validation_fraction: float
  holdout_fraction: float
  seed: int
  num_shards: int | None
  num_holdout: int | None = None
  max_image_pixels: int | None = None

  def __post_init__(self) -> None:
    for name in ("validation_fraction", "holdout_fraction"):
      if not 0 <= getattr(self, name) < 1:
        raise UserError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}.")
    for name in ("num_shards", "num_holdout", "max_image_pixels"):
      if getattr(self, name) is not None and getattr(self, name) < 1:
        raise UserError(f"{name} must be at least 1, not {getattr(self, name)}.")


@dataclass(frozen=True)
class _SourcePart:
  """The images of one part with their files, None where there is none, and their folder."""

  items: Sequence[FoundImage]
  images_dir: Path


def prepare_dataset(
  output_dir: str | Path,
  annotations: str | Path | None = None,
  images: str | Path | None = None,
  *,
  val_annotations: str | Path | None = None,
  val_images: str | Path | None = None,
  shapes: ShapesConfig | None = None,
  validation_fraction: float = 0.2,
  holdout_fraction: float = 0.2,
  num_holdout: int | None = None,
  seed: int = 0,
  num_shards: int | None = None,
  num_threads: int | None = None,
  max_image_pixels: int | None = None,
) -> PreparedDataset:
  """Turns COCO JSON and images, or drawn shapes, into the TFRecords that training reads.

  `output_dir` appears when all of it is written. A progress bar is shown on standard error. Who is
  interrupted, or killed, calls it again with the same arguments: shards of a COCO dataset that were
  finished are kept.

  Args:
    output_dir: the folder to make. If it holds the same dataset already, nothing is done.
    annotations: COCO JSON of the training images, or of all images.
    images: the folder that the file names in `annotations` are relative to.
    val_annotations: COCO JSON of the validation images; without it a share of the images is split
      off.
    val_images: the folder of the images in `val_annotations`; default: `images`.
    shapes: draws the embedded dataset instead of reading annotations and images.
    validation_fraction: share of the images for validation, without `val_annotations`.
    holdout_fraction: share of the training images that a search measures rewards on.
    num_holdout: exactly so many instead (paper: 7,392 of COCO's train2017).
    seed: seeds the split, and the drawing of shapes.
    num_shards: TFRecord files per part; default: by size.
    num_threads: images processed at the same time; default: one per processor.
    max_image_pixels: an image that declares more is left out before it is decoded, which takes
      three bytes a pixel; default: 536,870,911, what TensorFlow decodes at most.

  Raises:
    UserError: an argument is missing or out of range, the input cannot be used, `output_dir` holds
      something else, or it cannot be written. Messages name arguments as the options of
      `nasfpn prepare`.
  """
  settings = _Settings(
    validation_fraction, holdout_fraction, seed, num_shards, num_holdout, max_image_pixels
  )
  num_threads = num_threads or os.cpu_count() or 1
  if num_threads < 1:
    raise UserError(f"num_threads must be at least 1, not {num_threads}.")
  if shapes is not None and (annotations or images or val_annotations or val_images):
    raise UserError("--synthetic draws its own images; give it no annotations or images.")
  source = shapes or _coco_source(annotations, images, val_annotations, val_images)
  output_dir = Path(os.path.abspath(output_dir))
  is_new = _prepare(source, output_dir, settings, num_threads)
  info = DatasetInfo.load(output_dir)
  return PreparedDataset(
    output_dir,
    {name: part.num_images for name, part in info.parts.items()},
    tuple(category.name for category in info.label_map.categories),
    info.report,
    is_new,
  )


def _coco_source(
  annotations: str | Path | None,
  images: str | Path | None,
  val_annotations: str | Path | None,
  val_images: str | Path | None,
) -> _Source:
  """Refuses what is clearly not COCO JSON or a folder of images, without reading it all."""
  if not annotations or not images:
    raise UserError("Give --annotations and --images, or --synthetic for the embedded dataset.")
  if val_images and not val_annotations:
    raise UserError("--val_images needs --val_annotations.")
  refuse_foreign_images("images", images)
  if val_images:
    refuse_foreign_images("val_images", val_images)
  refuse_foreign_annotations(annotations)
  if val_annotations:
    refuse_foreign_annotations(val_annotations)
  return _Source(
    Path(annotations),
    Path(images),
    Path(val_annotations) if val_annotations else None,
    Path(val_images) if val_images else None,
  )


def _prepare(
  source: _Source | ShapesConfig, output_dir: Path, settings: _Settings, num_threads: int
) -> bool:
  """Writes the data directory; returns False if it is there already."""
  report = Report()
  if isinstance(source, _Source):
    datasets = _read_source(source, report)
    description = _describe(source, datasets)
  else:
    description = {"shapes": dataclasses.asdict(source)}

  if _is_done(output_dir, description, settings):
    return False
  # Drawings are made anew: what was drawn of them is no shorter way to the rest.
  resume_key = _resume_key(description, settings) if isinstance(source, _Source) else None
  try:
    with folders.whole_folder(output_dir, "--output_dir", resume_key=resume_key) as directory:
      if isinstance(source, ShapesConfig):
        write_shapes_dataset(directory, source, settings.seed)
        source = _Source(directory / "annotations.json", directory / "images")
        datasets = _read_source(source, report)
      parts = _split(source, datasets, settings, report)
      label_map = datasets[0].label_map
      written = _write_parts(parts, label_map, directory, settings, num_threads, report)
      DatasetInfo(
        directory, label_map, description, dataclasses.asdict(settings), written, report.to_json()
      ).save()
  except UserError:
    # Another process may have prepared the same dataset meanwhile.
    if not _is_done(output_dir, description, settings):
      raise
  return True


def _read_source(source: _Source, report: Report) -> list[CocoDataset]:
  """Returns the training dataset and, where the source has one, the validation dataset."""
  datasets = [read_coco_json(source.annotations, report)]
  if source.val_annotations is not None:
    datasets.append(read_coco_json(source.val_annotations, report))
    names = {category.id: category.name for category in datasets[0].label_map.categories}
    for category in datasets[1].label_map.categories:
      if names.setdefault(category.id, category.name) != category.name:
        raise UserError(
          f"Category {category.id} is {names[category.id]!r} in {source.annotations} and "
          f"{category.name!r} in {source.val_annotations}; give both the same categories."
        )
  return datasets


def _images_dirs(source: _Source) -> list[Path]:
  dirs = [source.images_dir, source.val_images_dir or source.images_dir]
  return dirs if source.val_annotations is not None else dirs[:1]


def _describe(source: _Source, datasets: Sequence[CocoDataset]) -> dict[str, Any]:
  """Returns what tells one source from another; images by name and length, to be quick."""
  description = {}
  files = [file for file in (source.annotations, source.val_annotations) if file is not None]
  for name, file, dataset, images_dir in zip(
    ("train", "val"), files, datasets, _images_dirs(source), strict=False
  ):
    hasher = hashlib.sha256()
    for image in dataset.images:
      found = find_image_file(images_dir, image.file_name)
      size = found.num_bytes if found else "missing"
      hasher.update(f"{image.file_name}\t{size}\n".encode(errors="surrogatepass"))
    description[name] = {
      "annotations": os.path.abspath(file),
      "annotations_sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest(),
      "images_dir": os.path.abspath(images_dir),
      "images_sha256": hasher.hexdigest(),
    }
  return description


def _resume_key(description: Mapping[str, Any], settings: _Settings) -> str:
  """Returns what a half-written folder is found by again: equal for equal datasets."""
  identity = identity_of(description, dataclasses.asdict(settings))
  return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _is_done(output_dir: Path, description: Mapping[str, Any], settings: _Settings) -> bool:
  """Returns whether the directory holds exactly this dataset already.

  Raises:
    UserError: it holds something else, which is never overwritten.
  """
  if not folders.is_claimed(output_dir, "dataset.json", "prepared dataset", "--output_dir"):
    return False
  info = DatasetInfo.load(output_dir)
  wanted = identity_of(description, dataclasses.asdict(settings))
  present = info.identity
  differences = [key for key in wanted | present if wanted.get(key) != present.get(key)]
  if differences:
    raise UserError(
      f"{output_dir} holds a dataset prepared from other input: "
      f"{', '.join(differences)} differ{'s' if len(differences) == 1 else ''}. Choose another "
      "--output_dir, or delete this one."
    )
  return True


def _split(
  source: _Source, datasets: Sequence[CocoDataset], settings: _Settings, report: Report
) -> dict[str, _SourcePart]:
  """Deals the images out to the parts; those that share a file go to the same one."""
  dirs = _images_dirs(source)
  found: list[list[FoundImage]] = [
    [
      (image, find_image_file(images_dir, image.file_name))
      for image in _shuffled(dataset.images, settings.seed)
    ]
    for dataset, images_dir in zip(datasets, dirs, strict=True)
  ]
  items, *validation = without_ambiguous(found, report)
  if validation:
    val = _SourcePart(validation[0], dirs[1])
  else:
    num_val = _share(len(items), settings.validation_fraction)
    val_items, items = take_groups(items, [file_key(item) for item in items], num_val)
    val = _SourcePart(val_items, dirs[0])
  num_holdout = _num_holdout(len(items), settings)
  holdout, train = take_groups(items, [file_key(item) for item in items], num_holdout)
  return {
    "train": _SourcePart(train, dirs[0]),
    "holdout": _SourcePart(holdout, dirs[0]),
    "val": val,
  }


def _shuffled(images: Sequence[AnnotatedImage], seed: int) -> list[AnnotatedImage]:
  # By a hash of the id, so that an image's position does not depend on the other images.
  return sorted(images, key=lambda image: hashlib.sha256(f"{seed}/{image.id}".encode()).digest())


def _num_holdout(num_images: int, settings: _Settings) -> int:
  if settings.num_holdout is None:
    return _share(num_images, settings.holdout_fraction)
  if settings.num_holdout >= num_images:
    raise UserError(
      f"--num_holdout={settings.num_holdout} leaves none of the {num_images} training images to "
      "train on; give a smaller one."
    )
  return settings.num_holdout


def _share(count: int, fraction: float) -> int:
  """Returns the number of images that make up a fraction; never none, never all."""
  return min(max(round(count * fraction), 1), count - 1) if fraction > 0 and count > 0 else 0


def _write_parts(
  parts: Mapping[str, _SourcePart],
  label_map: LabelMap,
  directory: Path,
  settings: _Settings,
  num_threads: int,
  report: Report,
) -> dict[str, Part]:
  # Imported when there is something to write: TensorFlow takes seconds to start.
  from official_nasfpn.data.tfrecord_writer import note_shared_pixels, remove_notes, write_part

  lock = threading.Lock()
  written = {}
  total = sum(len(part.items) for part in parts.values())
  with progress_bar(total, "Preparing", "image") as bar:

    def advance(num_images: int) -> None:
      with lock:
        bar.update(num_images)

    for name, part in parts.items():
      found: list[tuple[AnnotatedImage, Path]] = []
      for image, file in part.items:
        if file:
          found.append((image, file.path))
        else:
          report.note("images_missing", image.file_name)
          advance(1)
      if part.items and not found:
        raise UserError(
          f"None of the {len(part.items)} {name} images is in {part.images_dir}; the first is "
          f"{part.items[0][0].file_name!r}. Is --images the folder that file names start from?"
        )
      written[name] = write_part(
        name=name,
        items=found,
        label_map=label_map,
        output_dir=directory,
        num_shards=settings.num_shards or _default_num_shards([path for _, path in found]),
        num_threads=num_threads,
        report=report,
        advance=advance,
        max_image_pixels=settings.max_image_pixels,
      )
      if part.items and not written[name].num_images:
        example = report.to_json()["images_broken"]["examples"][0]
        raise UserError(
          f"None of the {len(found)} {name} images can be decoded, such as {example}."
        )
      inside = part.images_dir.is_relative_to(directory)
      images_dir = part.images_dir.relative_to(directory) if inside else part.images_dir.absolute()
      written[name] = dataclasses.replace(written[name], images_dir=str(images_dir))
  note_shared_pixels(directory, written, report)
  remove_notes(directory)
  return written


def _default_num_shards(paths: Sequence[Path]) -> int:
  by_size = -(-sum(path.stat().st_size for path in paths) // _SHARD_BYTES)
  by_count = -(-len(paths) // _SHARD_IMAGES)
  return max(by_size, by_count, min(_MIN_SHARDS, len(paths)))
