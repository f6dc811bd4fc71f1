"""COCO JSON: one file, or a folder with one for each split, as COCO, Roboflow and CVAT have it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from official_nasfpn.data.coco_json import parse_coco_json
from official_nasfpn.data.foreign_formats import coco_files
from official_nasfpn.data.formats.structure import Split, split_named, split_of_path
from official_nasfpn.data.text_ids import with_number_ids
from official_nasfpn.errors import UserError

# So many file names are looked for in a folder before it is taken for that of the images.
_SAMPLES = 20


def read_coco(path: Path, images: Path | None) -> list[Split]:
  """Reads a COCO JSON, or each split's of a folder.

  Args:
    path: the file or folder.
    images: the folder of the images; None to find it.

  Raises:
    UserError: it is no COCO JSON, several are of one split, or the images are not found.
  """
  files = [path] if path.is_file() or not path.exists() else coco_files(path)
  if not files:
    raise UserError(f"{path} has no COCO JSON in it.")
  by_split: dict[str, Path] = {}
  for file in files:
    # A file that is given is of no split, whatever its name.
    name = (split_named(file.stem) or split_of_path(file, path)) if path.is_dir() else ""
    if name in by_split:
      names = ", ".join(str(file) for file in files[:4]) + (", ..." if len(files) > 4 else "")
      raise UserError(f"{path} has {len(files)} COCO JSONs; give one of {names}.")
    by_split[name] = file
  return [_read(name, file, path, images, len(files)) for name, file in by_split.items()]


def _read(name: str, file: Path, path: Path, images: Path | None, num_files: int) -> Split:
  content = with_number_ids(parse_coco_json(file))
  names = [str(row["file_name"]) for row in _rows(content["images"]) if row.get("file_name")]
  if images is None or num_files > 1:
    root = images or (path if path.is_dir() else file.parent)
    found = _images_dir(name or split_named(file.stem), file, root, names)
    if found is None and images is None:
      raise UserError(
        f"The images of {file} are not beside it (the first is {(names or ['?'])[0]!r}): give the "
        "folder that they are in to --images."
      )
    images = found or images
  assert images is not None
  has_text_ids = any("text_id" in row for row in _rows(content["categories"]))
  return Split(name, content, images, file, (file,), "coco", has_text_ids)


def _images_dir(split: str, file: Path, root: Path, names: Sequence[str]) -> Path | None:
  """Returns the folder that has most of the first few images, nearest to the file."""
  places = [file.parent, root, *(place / "images" for place in (file.parent, file.parent.parent))]
  stem = file.stem.removeprefix("instances_")
  for base in (file.parent, file.parent.parent, root, root / "images"):
    places += [base / folder for folder in (stem, split) if folder]
  if split:
    folders = [
      folder
      for base in {root, root / "images"}
      if base.is_dir()
      for folder in sorted(base.iterdir())
      if folder.is_dir() and split_named(folder.name) == split
    ]
    places += [*folders, *(folder / "images" for folder in folders)]
  if root.parent == file.parent.parent:
    places.append(root.parent)
  best, most = None, 0
  for place in dict.fromkeys(places):
    count = sum((place / name).is_file() for name in names[:_SAMPLES])
    count = count or sum((place / Path(name).name).is_file() for name in names[:_SAMPLES])
    if count > most:
      best, most = place, count
  return best


def _rows(rows: Iterable[Any]) -> list[dict[str, Any]]:
  return [row for row in rows if isinstance(row, dict)]
