"""Image files of a folder, found by what annotations call them."""

import itertools
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from official_nasfpn.data.foreign_formats import IMAGE_SUFFIXES


class ImageFiles:
  """The images below some folders.

  Attributes:
    root: the folder.
    files: all images, in order.
  """

  def __init__(self, root: Path) -> None:
    self.root = root
    self.files = files_below(root, IMAGE_SUFFIXES)
    self._present = set(self.files)
    self._by_name: dict[str, list[Path]] = defaultdict(list)
    self._by_stem: dict[str, list[Path]] = defaultdict(list)
    for file in self.files:
      self._by_name[file.name].append(file)
      self._by_stem[file.stem].append(file)

  def find(self, name: str, beside: Path | None = None) -> Path | None:
    """Returns the file of an image.

    By its path below the folder; else by its name alone, since annotations keep paths of other
    machines; else by the name without an ending, as in tables that leave it out. Of several files
    with that name it is the one that has most of the folders before it, too.

    Args:
      name: what annotations call it.
      beside: a folder to prefer where several files have the name.
    """
    name = name.replace("\\", "/")
    for folder in (self.root, beside):
      if folder and (folder / name) in self._present:
        return folder / name
    base = name.rsplit("/", 1)[-1]
    found = self._by_name.get(base) or self._by_stem.get(base) or []
    if len(found) > 1:
      tail = [file for file in found if file.as_posix().endswith("/" + name)]
      near = [file for file in tail or found if beside and file.is_relative_to(beside)]
      found = near or tail or found
    return most_alike(found, Path(name))

  def with_stem(self, stem: str, beside: Path) -> Path | None:
    """Returns the one image with a name, whatever its ending; of several the one as in `beside`."""
    found = self._by_stem.get(stem, [])
    near = [file for file in found if file.is_relative_to(beside)]
    return most_alike(near or found, beside / stem)


def most_alike(files: Sequence[Path], path: Path) -> Path | None:
  """Returns the file with the most folders of a path before its name; None if several have them.

  Args:
    files: of one name.
    path: of another machine or another kind of file, such as labels/train/1.txt.
  """
  counts = [_folders_in_common(file, path) for file in files]
  best = [file for file, count in zip(files, counts, strict=True) if count == max(counts)]
  return best[0] if len(best) == 1 else None


def _folders_in_common(one: Path, other: Path) -> int:
  """Returns how many folders, from the innermost outwards, are called the same."""
  pairs = zip(reversed(one.parent.parts), reversed(other.parent.parts), strict=False)
  return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def files_below(root: Path, suffixes: frozenset[str]) -> list[Path]:
  """Returns the files with some endings below a folder, in order; hidden ones are left out."""
  found = []
  for folder, folders, names in os.walk(root, followlinks=True):
    folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
    found += [
      Path(folder, name)
      for name in sorted(names)
      if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes
    ]
  return found
