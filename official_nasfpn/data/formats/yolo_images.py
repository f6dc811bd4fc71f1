"""Which images a YOLO dataset has and in which splits: what data.yaml names, or a whole folder."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from official_nasfpn.data.formats.image_files import ImageFiles
from official_nasfpn.data.formats.structure import split_of_path
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError

_SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def images_by_split(
  root: Path,
  settings: Mapping[str, Any],
  settings_file: Path | None,
  images: Path | None,
  report: Report,
) -> dict[Path, str]:
  """Returns images and their splits: as data.yaml has them, or by the names of folders.

  Args:
    root: the folder of the dataset.
    settings: content of data.yaml.
    settings_file: the data.yaml; None if there is none.
    images: another folder that has the images; None if they are below `root`.
    report: receives what data.yaml names in vain or twice, and images in `images` beside that.

  Raises:
    UserError: what data.yaml names for training or validation is not there.
  """
  entries = [
    (key, str(entry))
    for key in _SPLIT_KEYS
    if (value := settings.get(key))
    for entry in (value if isinstance(value, list) else [value])
  ]
  folder = images or root
  if not entries or settings_file is None:
    return _images_below(folder)
  base = str(settings.get("path") or "")
  places = [_place(entry, settings_file.parent, base) for _, entry in entries]
  if images is not None:
    places = _places_below(images, [entry for _, entry in entries], places)
  missing = [entry for entry, place in zip(entries, places, strict=True) if place is None]
  for key, entry in missing:
    report.note("splits_missing", f"{key}: {entry}")
  if images is not None and not any(places):
    # A folder of another layout, of which data.yaml says nothing.
    return _images_below(images)
  for key, entry in missing:
    if _SPLIT_KEYS[key] != "test":
      raise UserError(
        f"{settings_file}: there is no {entry!r}, its {key!r}, in "
        f"{images or settings_file.parent}. Correct it, or give the folder of "
        f"{'all ' if images else 'the '}images to --images."
      )
  found: dict[Path, str] = {}
  for (key, _), place in zip(entries, places, strict=True):
    for image in _images_at(place, folder, report) if place else ():
      first = found.setdefault(image, _SPLIT_KEYS[key])
      if first != _SPLIT_KEYS[key]:
        report.note("images_in_two_splits", f"{image.name}: {first} and {_SPLIT_KEYS[key]}")
  for image in ImageFiles(images).files if images else ():
    if image not in found:
      report.note("images_unlisted", str(image.relative_to(folder)))
  return found


def _images_below(folder: Path) -> dict[Path, str]:
  return {image: split_of_path(image, folder) for image in ImageFiles(folder).files}


def _place(entry: str, folder: Path, base: str) -> Path | None:
  """Returns what an entry of data.yaml names; Roboflow's begin with a ../ that leads outside."""
  entry = entry.replace("\\", "/")
  names = [entry, entry.removeprefix("../")]
  for start in (folder / base, folder / Path(base).name, folder):
    for name in names:
      # A list may be of images in several folders.
      if (place := start / name).exists():
        return place.resolve() if ".." in place.parts else place
  return None


def _places_below(
  images: Path, entries: Sequence[str], places: Sequence[Path | None]
) -> list[Path | None]:
  """Returns what entries of data.yaml name in another folder of images.

  That may be the copy of any folder above all entries: as many folders are left out of each.

  Args:
    images: the other folder.
    entries: of data.yaml.
    places: what they name beside data.yaml; lists of images are kept.
  """
  lists = [place if place and place.is_file() else None for place in places]
  parts = [
    [name for name in entry.replace("\\", "/").split("/") if name not in ("", ".", "..")]
    for entry in entries
  ]
  folders = [names for names, file in zip(parts, lists, strict=True) if file is None]
  shared = sum(
    1 for _ in takewhile(lambda names: len(set(names)) == 1, zip(*folders, strict=False))
  )
  best = lists
  for start in range(shared + 1):
    below = [images.joinpath(*names[start:]) for names in parts]
    found = [
      file or (place if place.exists() else None) for file, place in zip(lists, below, strict=True)
    ]
    best = max(best, found, key=lambda places: len(places) - places.count(None))
  return best


def _images_at(place: Path, root: Path, report: Report) -> list[Path]:
  """Returns the images of a folder, or of a list of files."""
  if place.is_dir():
    return ImageFiles(place).files
  files = ImageFiles(root)
  images = []
  for line in place.read_text(encoding="utf-8-sig", errors="replace").splitlines():
    if line.strip():
      image = files.find(line.strip().removeprefix("./"), place.parent)
      if image is None:
        report.note("images_missing", line.strip())
      else:
        images.append(image)
  return images
