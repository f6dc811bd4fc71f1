"""Images that are the same, or look the same."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from official_nasfpn.data.doctor.examination import ExaminedImage

# Of 256 comparisons so many may differ between a photograph and a copy of it, scaled or compressed.
_MOST_DIFFERENT = 8
# An image that is flat has next to nothing to compare.
_LEAST_SET = 24


def same_files(images: Sequence[ExaminedImage]) -> list[list[int]]:
  """Returns groups of images whose files are equal, byte for byte."""
  return _groups(images, lambda image: image.file_hash)


def same_pixels(images: Sequence[ExaminedImage]) -> list[list[int]]:
  """Returns groups of images with equal pixels in files that differ."""
  groups = _groups(images, lambda image: image.pixel_hash)
  return [group for group in groups if len({images[place].file_hash for place in group}) > 1]


def same_looks(images: Sequence[ExaminedImage]) -> list[list[int]]:
  """Returns groups of images that look alike, one by one or by others between them.

  Of images that are the same, a group has another one, too.
  """
  places_of = defaultdict(list)
  for place, image in enumerate(images):
    if image.looks is not None and _LEAST_SET <= _num_set(image.looks) <= 256 - _LEAST_SET:
      places_of[image.looks.tobytes()].append(place)
  if not places_of:
    return []
  # Frames of a fixed camera are many, and their looks few.
  looks = np.frombuffer(b"".join(places_of), np.uint8).reshape(len(places_of), -1)
  groups: dict[int, list[int]] = defaultdict(list)
  for cluster, places in zip(_clusters(looks), places_of.values(), strict=True):
    groups[cluster] += places
  # Images of other looks have other pixels, too.
  return [
    sorted(group)
    for group in groups.values()
    if len({images[place].pixel_hash for place in group}) > 1
  ]


def _num_set(looks: np.ndarray) -> int:
  return int(np.bitwise_count(looks).sum())


def _clusters(looks: np.ndarray) -> list[int]:
  """Returns for each row what it has in common with those that it is chained to by few bits."""
  parent = list(range(len(looks)))

  def root(node: int) -> int:
    while parent[node] != node:
      parent[node] = parent[parent[node]]
      node = parent[node]
    return node

  for rows in _candidates(looks):
    if len({root(row) for row in rows}) > 1:
      for chain in _chains(looks, rows):
        for row in chain:
          parent[root(row)] = root(chain[0])
  return [root(row) for row in range(len(looks))]


def _candidates(looks: np.ndarray) -> Iterator[list[int]]:
  """Yields rows that are equal in one part; those that differ in few bits are so in some part."""
  bits = np.unpackbits(looks, axis=1)
  # One part more than bits that may differ, so that one of them has none of these.
  num_parts = _MOST_DIFFERENT + 1
  for part in range(num_parts):
    # Bits from all over the image: its upper rows alone are white in every scan.
    rows_of = defaultdict(list)
    for row, key in enumerate(np.packbits(bits[:, part::num_parts], axis=1)):
      rows_of[key.tobytes()].append(row)
    yield from (rows for rows in rows_of.values() if len(rows) > 1)


def _chains(looks: np.ndarray, rows: Sequence[int]) -> Iterator[list[int]]:
  """Yields groups of rows, each with all that a chain of alike ones leads to."""
  left = np.array(rows)
  # As columns they are compared several times faster.
  columns = np.ascontiguousarray(looks.view(np.uint64)[left].T)
  of_row = dict(zip(rows, columns.T.copy(), strict=True))
  while len(left):
    chain, left, columns = [int(left[0])], left[1:], columns[:, 1:]
    # It grows on the way. Pairs are never listed: of many that are alike there are too many.
    for row in chain:
      different = np.bitwise_count(columns ^ of_row[row][:, None]).sum(axis=0, dtype=np.uint8)
      near = different <= _MOST_DIFFERENT
      if near.any():
        chain += left[near].tolist()
        left, columns = left[~near], columns[:, ~near]
      if not len(left):
        break
    yield chain


def _groups(
  images: Sequence[ExaminedImage], key: Callable[[ExaminedImage], str]
) -> list[list[int]]:
  groups = defaultdict(list)
  for place, image in enumerate(images):
    if key(image):
      groups[key(image)].append(place)
  return [group for group in groups.values() if len(group) > 1]
