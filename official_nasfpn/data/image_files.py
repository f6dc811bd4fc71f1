"""The image files that COCO JSON names, found where its names are not quite those on disk."""

import itertools
import stat
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from official_nasfpn.data.coco_json import AnnotatedImage
from official_nasfpn.data.foreign_text import is_text
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError

_Image = TypeVar("_Image")


@dataclass(frozen=True)
class ImageFile:
  """A file that was found.

  Attributes:
    path: of the file.
    identity: equal for all names and links of one file.
    num_bytes: its length.
    has_backslashes: whether its name was found with `/` where the JSON has a backslash.
    by_last_part: whether only the last part of its name was found; the JSON names folders that are
      not there.
  """

  path: Path
  identity: tuple[int, int]
  num_bytes: int
  has_backslashes: bool = False
  by_last_part: bool = False


# An image, and its file if there is one.
FoundImage = tuple[AnnotatedImage, ImageFile | None]


def possible_names(file_name: str) -> dict[str, bool]:
  """Returns the names that an image file may have, the likeliest first.

  As it stands, then with `/` for every backslash, and then without its folders.

  Args:
    file_name: as the JSON has it.

  Returns:
    By name, whether it is the last part of `file_name` alone.
  """
  names = {file_name: False, file_name.replace("\\", "/"): False}
  return names | {PurePosixPath(name).name: True for name in names if "/" in name}


def find_image_file(images_dir: Path, file_name: str) -> ImageFile | None:
  """Returns the file of an image, or None if there is none.

  Args:
    images_dir: the folder that names start from.
    file_name: as the JSON has it, tried as `possible_names` has it.
  """
  if not is_text(file_name):
    return None
  for name, by_last_part in possible_names(file_name).items():
    path = images_dir / name
    try:
      found = path.stat()
    # A name that is too long, or holds a null character.
    except (OSError, ValueError):
      continue
    if stat.S_ISREG(found.st_mode):
      has_backslashes = "\\" in file_name and "\\" not in name
      identity = (found.st_dev, found.st_ino)
      return ImageFile(path, identity, found.st_size, has_backslashes, by_last_part)
  return None


def without_ambiguous(
  datasets: Sequence[Sequence[FoundImage]], report: Report
) -> list[list[FoundImage]]:
  """Returns images without those whose file may be another image's.

  Of these only the last part of the name was found, and another name leads there, too.

  Args:
    datasets: the images of each.
    report: receives them, and other ways in which names are not those of the files.

  Raises:
    UserError: none is left of a dataset.
  """
  names = defaultdict(set)
  for image, file in itertools.chain(*datasets):
    if file:
      names[file.identity].add(PurePosixPath(image.file_name.replace("\\", "/")))
  return [_without_ambiguous(images, names, report) for images in datasets]


def _without_ambiguous(
  images: Sequence[FoundImage],
  names: Mapping[tuple[int, int], Collection[PurePosixPath]],
  report: Report,
) -> list[FoundImage]:
  kept: list[FoundImage] = []
  first_of: dict[Hashable, AnnotatedImage] = {}
  for found in images:
    image, file = found
    if file and file.by_last_part and len(names[file.identity]) > 1:
      report.note("images_ambiguous_file", image.file_name)
      continue
    kept.append(found)
    if file and file.has_backslashes:
      report.note("images_backslashes", image.file_name)
    if (first := first_of.setdefault(file_key(found), image)) is not image:
      report.note("images_same_file", f"{image.file_name}: ids {first.id} and {image.id}")
  if not kept:
    raise UserError(
      "Of every image the folders that the JSON names are not there, and the last part of its name "
      f"is that of several images, for example {images[0][0].file_name!r}. Give --images the "
      "folder that file names start from."
    )
  return kept


def file_key(found: FoundImage) -> Hashable:
  """Returns what images of the same file have in common."""
  image, file = found
  return file.identity if file else image.id


def take_groups(
  images: Sequence[_Image], keys: Sequence[Hashable], count: int
) -> tuple[list[_Image], list[_Image]]:
  """Splits images in two, in their order, and none of those that have a key in common.

  Args:
    images: to be split.
    keys: one for each.
    count: the first part gets so many, or some more, but never all.

  Returns:
    Both parts. Where no key comes twice they are the first `count` and the others.
  """
  groups: dict[Hashable, list[_Image]] = defaultdict(list)
  for image, key in zip(images, keys, strict=True):
    groups[key].append(image)
  first: list[_Image] = []
  others: list[_Image] = []
  for number, group in enumerate(groups.values(), start=1):
    is_wanted = len(first) < count and (number < len(groups) or bool(others))
    (first if is_wanted else others).extend(group)
  return first, others
