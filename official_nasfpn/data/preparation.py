"""From COCO JSON and images, or from drawn shapes, to a prepared data directory, whole or none."""

import dataclasses
import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from official_nasfpn import folders
from official_nasfpn.data.coco_json import AnnotatedImage, CocoDataset, read_coco_json
from official_nasfpn.data.dataset_info import DatasetInfo, Part, identity_of
from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.data.report import Report
from official_nasfpn.data.shapes import ShapesConfig, write_shapes_dataset
from official_nasfpn.errors import UserError
from official_nasfpn.progress import progress_bar

# Large enough to read in one go, small enough for many hosts to share a dataset.
_SHARD_BYTES = 100 * 2**20
# Even a small dataset gets as many shards, so that threads and hosts can share the work.
_MIN_SHARDS = 8


@dataclass(frozen=True)
class CocoSource:
  """A dataset as people have it.

  Attributes:
    annotations: COCO JSON of the training images, or of all.
    images_dir: the folder that file names in it are relative to.
    val_annotations: COCO JSON of the validation images; None: a part of the images is split off.
    val_images_dir: their folder.
  """

  annotations: Path
  images_dir: Path
  val_annotations: Path | None = None
  val_images_dir: Path | None = None


@dataclass(frozen=True)
class Settings:
  """How a dataset is split and written.

  Attributes:
    validation_fraction: share of the images for validation, where the source has no such part.
    holdout_fraction: share of the training images for the rewards of a search (paper: 0.0625).
    seed: of the split, and of drawn shapes.
    num_shards: TFRecord files per part; None: by size.
  """

  validation_fraction: float = 0.2
  holdout_fraction: float = 0.2
  seed: int = 0
  num_shards: int | None = None

  def __post_init__(self) -> None:
    for name in ("validation_fraction", "holdout_fraction"):
      if not 0 <= getattr(self, name) < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")
    if self.num_shards is not None and self.num_shards < 1:
      raise ValueError(f"num_shards must be at least 1, not {self.num_shards}")


@dataclass(frozen=True)
class _SourcePart:
  """The images of one part and where they lie."""

  images: Sequence[AnnotatedImage]
  images_dir: Path


def prepare_dataset(
  source: CocoSource | ShapesConfig,
  output_dir: str | Path,
  settings: Settings,
  num_threads: int,
) -> tuple[DatasetInfo, bool]:
  """Writes a data directory, unless it is there already.

  Args:
    source: what to make it from.
    output_dir: the directory to make.
    settings: how to split and write it.
    num_threads: images worked on at the same time.

  Returns:
    What the directory holds, and whether it was written just now.

  Raises:
    UserError: the input is wrong, the directory holds something else, or the disk is full.
  """
  output_dir = Path(os.path.abspath(output_dir))
  report = Report()
  if isinstance(source, CocoSource):
    datasets = _read_source(source, report)
    description = _describe(source, datasets)
  else:
    description = {"shapes": dataclasses.asdict(source)}

  if _is_done(output_dir, description, settings):
    return DatasetInfo.load(output_dir), False
  try:
    with folders.whole_folder(output_dir, "--output_dir") as directory:
      if isinstance(source, ShapesConfig):
        write_shapes_dataset(directory, source, settings.seed)
        source = CocoSource(directory / "annotations.json", directory / "images")
        datasets = _read_source(source, report)
      parts = _split(source, datasets, settings)
      label_map = datasets[0].label_map
      written = _write_parts(parts, label_map, directory, settings, num_threads, report)
      DatasetInfo(
        directory, label_map, description, dataclasses.asdict(settings), written, report.to_json()
      ).save()
  except UserError:
    # Another process may have prepared the same dataset meanwhile.
    if not _is_done(output_dir, description, settings):
      raise
  return DatasetInfo.load(output_dir), True


def _read_source(source: CocoSource, report: Report) -> list[CocoDataset]:
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


def _images_dirs(source: CocoSource) -> list[Path]:
  dirs = [source.images_dir, source.val_images_dir or source.images_dir]
  return dirs if source.val_annotations is not None else dirs[:1]


def _describe(source: CocoSource, datasets: Sequence[CocoDataset]) -> dict[str, Any]:
  """Returns what tells one source from another; images by name and length, to be quick."""
  description = {}
  files = [source.annotations, source.val_annotations]
  for name, file, dataset, images_dir in zip(
    ("train", "val"), files, datasets, _images_dirs(source), strict=False
  ):
    hasher = hashlib.sha256()
    for image in dataset.images:
      path = _image_path(images_dir, image)
      size = path.stat().st_size if path else "missing"
      hasher.update(f"{image.file_name}\t{size}\n".encode())
    description[name] = {
      "annotations": os.path.abspath(file),
      "annotations_sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest(),
      "images_dir": os.path.abspath(images_dir),
      "images_sha256": hasher.hexdigest(),
    }
  return description


def _image_path(images_dir: Path, image: AnnotatedImage) -> Path | None:
  """Returns the image's file; some JSONs name folders that are left out on disk."""
  for path in (images_dir / image.file_name, images_dir / Path(image.file_name).name):
    if path.is_file():
      return path
  return None


def _is_done(output_dir: Path, description: Mapping[str, Any], settings: Settings) -> bool:
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
  source: CocoSource, datasets: Sequence[CocoDataset], settings: Settings
) -> dict[str, _SourcePart]:
  images = _shuffled(datasets[0].images, settings.seed)
  dirs = _images_dirs(source)
  if len(datasets) == 2:
    val = _SourcePart(_shuffled(datasets[1].images, settings.seed), dirs[1])
  else:
    num_val = _share(len(images), settings.validation_fraction)
    val = _SourcePart(images[:num_val], dirs[0])
    images = images[num_val:]
  num_holdout = _share(len(images), settings.holdout_fraction)
  return {
    "train": _SourcePart(images[num_holdout:], dirs[0]),
    "holdout": _SourcePart(images[:num_holdout], dirs[0]),
    "val": val,
  }


def _shuffled(images: Sequence[AnnotatedImage], seed: int) -> list[AnnotatedImage]:
  # By a hash of the id, so that an image's place does not depend on the other images.
  return sorted(images, key=lambda image: hashlib.sha256(f"{seed}/{image.id}".encode()).digest())


def _share(count: int, fraction: float) -> int:
  """Returns the number of images that make up a fraction; never none, never all."""
  return min(max(round(count * fraction), 1), count - 1) if fraction > 0 and count > 0 else 0


def _write_parts(
  parts: Mapping[str, _SourcePart],
  label_map: LabelMap,
  directory: Path,
  settings: Settings,
  num_threads: int,
  report: Report,
) -> dict[str, Part]:
  # Imported when there is something to write: TensorFlow takes seconds to start.
  from official_nasfpn.data.tfrecord_writer import write_part

  lock = threading.Lock()
  written = {}
  total = sum(len(part.images) for part in parts.values())
  with progress_bar(total, "Preparing", "image") as bar:

    def advance(num_images: int) -> None:
      with lock:
        bar.update(num_images)

    for name, part in parts.items():
      found = [(image, _image_path(part.images_dir, image)) for image in part.images]
      for image, path in found:
        if path is None:
          report.note("images_missing", image.file_name)
          advance(1)
      found = [(image, path) for image, path in found if path is not None]
      if part.images and not found:
        raise UserError(
          f"None of the {len(part.images)} {name} images is in {part.images_dir}; the first is "
          f"{part.images[0].file_name!r}. Is --images the folder that file names start from?"
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
      )
      if part.images and not written[name].num_images:
        raise UserError(f"None of the {len(found)} {name} images can be decoded.")
      inside = part.images_dir.is_relative_to(directory)
      images_dir = part.images_dir.relative_to(directory) if inside else part.images_dir.absolute()
      written[name] = dataclasses.replace(written[name], images_dir=str(images_dir))
  return written


def _default_num_shards(paths: Sequence[Path]) -> int:
  by_size = -(-sum(path.stat().st_size for path in paths) // _SHARD_BYTES)
  return max(by_size, min(_MIN_SHARDS, len(paths)))
