"""The image and video files that a command line names."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from official_nasfpn.errors import UserError
from official_nasfpn.serving.detect.video_files import VIDEO_SUFFIXES

# Folders are searched for these; a file that is given by name is tried whatever its suffix.
SUFFIXES = VIDEO_SUFFIXES | frozenset(
  (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
)


def find_files(patterns: Sequence[str], excluding: Path | None = None) -> list[Path]:
  """Returns the image and video files that paths and patterns name, in order, each once.

  Args:
    patterns: files, folders (searched with all folders below them) and glob patterns.
    excluding: a folder whose files do not count, where earlier results may lie.

  Raises:
    UserError: a pattern matches nothing, or there is no image or video in all of them.
  """
  found: dict[Path, None] = {}
  for pattern in patterns:
    # A name may hold brackets, so what exists is not taken for a pattern.
    matches = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))
    if not matches:
      raise UserError(f"--images: {pattern!r} is no file or folder, and matches none.")
    for match in map(Path, matches):
      files = _files_below(match) if match.is_dir() else [match]
      files = [file for file in files if excluding is None or not _is_below(file, excluding)]
      found.update(dict.fromkeys(files))
  if not found:
    raise UserError(
      f"--images: there are no images or videos ({', '.join(sorted(SUFFIXES))}) in {patterns}."
    )
  return list(found)


def _files_below(folder: Path) -> list[Path]:
  files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
  return sorted(path for path in files if path.is_file() and not path.name.startswith("."))


def _is_below(file: Path, folder: Path) -> bool:
  # Not Path.resolve, which fails on a link that leads back to itself.
  return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))
