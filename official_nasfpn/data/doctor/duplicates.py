"""Images that are the same, or look the same."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from official_nasfpn.data.doctor.examination import ExaminedImage

# Of 256 comparisons so many may differ between a photograph and a copy of it, scaled or compressed.
_MOST_DIFFERENT = 8
# An image that is flat has next to nothing to compare.
_LEAST_SET = 24
# Every pair of more images would take minutes; then only looks that are equal are found.
_MOST_PAIRED = 20_000
_ROWS = 512


def same_files(images: Sequence[ExaminedImage]) -> list[list[int]]:
  """Returns groups of images whose files are equal, byte for byte."""
  return _groups(images, lambda image: image.file_hash)


def same_pixels(images: Sequence[ExaminedImage]) -> list[list[int]]:
  """Returns groups of images with equal pixels in files that differ."""
  groups = _groups(images, lambda image: image.pixel_hash)
  return [group for group in groups if len({images[place].file_hash for place in group}) > 1]


def same_looks(images: Sequence[ExaminedImage]) -> list[list[int]]:
  """Returns groups of images that look alike and are not the same."""
  places = [
    place
    for place, image in enumerate(images)
    if image.looks is not None
    and _LEAST_SET <= int(np.bitwise_count(image.looks).sum()) <= 256 - _LEAST_SET
  ]
  if len(places) < 2:
    return []
  looks = np.stack([np.asarray(images[place].looks) for place in places]).view(np.uint64)
  parent = list(range(len(places)))

  def root(node: int) -> int:
    while parent[node] != node:
      parent[node] = parent[parent[node]]
      node = parent[node]
    return node

  for first, second in _alike(looks):
    if images[places[first]].pixel_hash != images[places[second]].pixel_hash:
      parent[root(second)] = root(first)
  groups = defaultdict(list)
  for node, place in enumerate(places):
    groups[root(node)].append(place)
  return [group for group in groups.values() if len(group) > 1]


def _alike(looks: np.ndarray) -> list[tuple[int, int]]:
  """Returns pairs of rows that differ in a few bits at most."""
  if len(looks) > _MOST_PAIRED:
    order = np.lexsort(looks.T)
    equal = (looks[order[1:]] == looks[order[:-1]]).all(axis=1)
    return [(int(order[at]), int(order[at + 1])) for at in np.flatnonzero(equal)]
  pairs = []
  for start in range(0, len(looks), _ROWS):
    rows = looks[start : start + _ROWS]
    different = sum(
      np.bitwise_count(rows[:, None, part] ^ looks[None, :, part]).astype(np.int16)
      for part in range(looks.shape[1])
    )
    for row, column in zip(*np.nonzero(different <= _MOST_DIFFERENT), strict=True):
      if start + row < column:
        pairs.append((int(start + row), int(column)))
  return pairs


def _groups(
  images: Sequence[ExaminedImage], key: Callable[[ExaminedImage], str]
) -> list[list[int]]:
  groups = defaultdict(list)
  for place, image in enumerate(images):
    if key(image):
      groups[key(image)].append(place)
  return [group for group in groups.values() if len(group) > 1]
