"""Which images are put aside for validation: by seed, whole files, in proportion of every class."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np

from official_nasfpn.data.coco_json import AnnotatedImage

# Roboflow's copies of one image: NAME_jpg.rf.HASH.jpg, in some exports NAME_jpg.rf.HASH-1.jpg.
_COPY = re.compile(r"\.rf\.[0-9A-Za-z]{8,}(?:-\d+)?(?=\.[A-Za-z]+$)")
_END_BYTES = 256


def shuffled(images: Sequence[AnnotatedImage], seed: int) -> list[AnnotatedImage]:
  """Returns images in an order by seed in which the place of one does not depend on the others."""
  return sorted(images, key=lambda image: hashlib.sha256(f"{seed}/{image.id}".encode()).digest())


def share_of(count: int, fraction: float) -> int:
  """Returns the number of images that make up a fraction; never none, never all."""
  return min(max(round(count * fraction), 1), count - 1) if fraction > 0 and count > 0 else 0


def split_off(
  images: Sequence[AnnotatedImage], files: Mapping[int, Path], fraction: float
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
  """Puts a share of the images aside, with about the same share of the images of every class.

  Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): the class of which the fewest
  images are left is dealt out first, each image to the side that lacks it most. A class with two
  images or more is on both sides where that can be. The same file under two names, and Roboflow's
  copies of one image, stay together, unless that makes the share less than half or more than
  twice what is wanted. Background images are dealt out like a class.

  Args:
    images: in the order in which they are dealt out.
    files: of the images that are there, by id.
    fraction: share to put aside.

  Returns:
    Those put aside, and the rest, in the order given.
  """
  wanted = share_of(len(images), fraction)
  if not wanted:
    return [], list(images)
  chosen = _choose(images, _groups(images, files), wanted)
  if not wanted / 2 <= len(chosen) <= 2 * wanted or len(chosen) == len(images):
    # Groups are too large to stay whole.
    chosen = _choose(images, [[place] for place in range(len(images))], wanted)
  return (
    [image for place, image in enumerate(images) if place in chosen],
    [image for place, image in enumerate(images) if place not in chosen],
  )


def _choose(
  images: Sequence[AnnotatedImage], groups: Sequence[Sequence[int]], wanted: int
) -> set[int]:
  """Returns the places of the images that are put aside."""
  sizes = np.array([len(group) for group in groups])
  aside = _deal_out(_labels(images, groups), sizes, wanted)
  return {place for group in np.flatnonzero(aside).tolist() for place in groups[group]}


def _groups(images: Sequence[AnnotatedImage], files: Mapping[int, Path]) -> list[list[int]]:
  """Returns places of images that belong together, in the order of their first."""
  content = _contents({image.id: files[image.id] for image in images if image.id in files})
  keys_of = [
    (f"file {_COPY.sub('', image.file_name)}", f"content {content.get(image.id, image.id)}")
    for image in images
  ]
  group_of: dict[str, list[int]] = {}
  for place, keys in enumerate(keys_of):
    known = [group_of[key] for key in keys if key in group_of]
    group = known[0] if known else []
    for other in known[1:]:
      if other is not group:
        group += other
        group_of |= {key: group for key, value in group_of.items() if value is other}
    group.append(place)
    group_of |= dict.fromkeys(keys, group)
  unique = {id(group): sorted(group) for group in group_of.values()}
  return sorted(unique.values())


def _contents(files: Mapping[int, Path]) -> dict[int, str]:
  """Returns a hash of each file that may equal another one, by id; so that few are read."""
  several = _alike(files, lambda file: file.stat().st_size)
  # Lengths agree by chance among many photographs, their last bytes do not.
  several = _alike(several, lambda file: (file.stat().st_size, _end_of(file)))
  return {id_: hashlib.sha256(file.read_bytes()).hexdigest() for id_, file in several.items()}


def _alike(files: Mapping[int, Path], key: Callable[[Path], Hashable]) -> dict[int, Path]:
  """Returns those of some files whose key another one has, too."""
  keys = {id_: key(file) for id_, file in files.items()}
  counts = Counter(keys.values())
  return {id_: file for id_, file in files.items() if counts[keys[id_]] > 1}


def _end_of(file: Path) -> bytes:
  with file.open("rb") as stream:
    stream.seek(max(0, file.stat().st_size - _END_BYTES))
    return stream.read()


def _labels(images: Sequence[AnnotatedImage], groups: Sequence[Sequence[int]]) -> np.ndarray:
  """Returns float [groups, labels], images of a group with each class; the last is background."""
  classes = [{str(row.get("category_id")) for row in image.annotations} for image in images]
  columns = {name: index for index, name in enumerate(sorted(set().union(*classes)))}
  labels = np.zeros((len(groups), len(columns) + 1))
  for row, group in enumerate(groups):
    for place in group:
      for name in classes[place]:
        labels[row, columns[name]] += 1
      labels[row, -1] += not classes[place]
  return labels


def _deal_out(labels: np.ndarray, sizes: np.ndarray, wanted: int) -> np.ndarray:
  """Returns bool [groups], which are put aside.

  Args:
    labels: as `_labels` returns them.
    sizes: int [groups], images of each.
    wanted: number of images to put aside.
  """
  total, num_groups = sizes.sum(), (labels > 0).sum(axis=0)
  need_aside = labels.sum(axis=0) * wanted / total
  # Of a class in several groups one, at least, can be on either side.
  need_aside = np.where(num_groups > 1, np.maximum(need_aside, 1), need_aside)
  need_rest = labels.sum(axis=0) - need_aside
  room_aside, room_rest = float(wanted), float(total - wanted)
  is_open, aside = np.ones(len(labels), bool), np.zeros(len(labels), bool)
  while is_open.any():
    left = (labels[is_open] > 0).sum(axis=0)
    label = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
    for group in np.flatnonzero(is_open & (labels[:, label] > 0)):
      is_open[group] = False
      gain = (need_aside[label], room_aside), (need_rest[label], room_rest)
      aside[group] = room_aside >= sizes[group] and gain[0] > gain[1]
      if not aside[group] and room_rest < sizes[group] and room_aside > 0:
        aside[group] = True
      if aside[group]:
        need_aside, room_aside = need_aside - labels[group], room_aside - sizes[group]
      else:
        need_rest, room_rest = need_rest - labels[group], room_rest - sizes[group]
  return aside
