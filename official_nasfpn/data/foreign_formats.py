"""Recognises annotations by their content, and says what to do with those that cannot be read.

By the first bytes of a file, or a few files of a folder. `formats/reading.py` reads some of them;
where COCO JSON alone will do, and of all others, a sentence says what converts them.
"""

import os
import shlex
import struct
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json

_HEAD_BYTES = 1 << 16
# At most so many files of a folder are looked at; folders of annotations have fewer.
_MOST_FILES = 20_000
_SAMPLES = 5
# Of so many JSON files in a folder it is looked whether they are COCO's.
_MOST_JSON = 200
_COCO_LISTS = (b'"images"', b'"annotations"', b'"categories"')
IMAGE_SUFFIXES = frozenset(
  (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif", ".heic")
)
# First bytes of binary files.
_MAGIC = {
  b"PK\x03\x04": "a zip archive",
  b"PK\x05\x06": "an empty zip archive",
  b"\x1f\x8b": "a gzip archive",
  b"BZh": "a bzip2 archive",
  b"\xfd7zXZ": "an xz archive",
  b"7z\xbc\xaf": "a 7z archive",
  b"Rar!": "a rar archive",
  b"\xff\xd8\xff": "an image",
  b"\x89PNG": "an image",
  b"GIF8": "an image",
  b"RIFF": "an image",
  b"II*\x00": "an image",
  b"MM\x00*": "an image",
  b"PAR1": "a Parquet table",
  b"\x89HDF": "an HDF5 file",
  b"MATLAB": "a MATLAB file",
  b"\x93NUMPY": "a NumPy array",
  b"SQLite format 3": "an SQLite database",
  b"%PDF": "a PDF",
}


@dataclass(frozen=True)
class Seen:
  """A recognised format that is not COCO JSON.

  Attributes:
    what: what the file or folder is; completes the sentence "PATH is ...".
    remedy: what to do, in one or two sentences.
    format: its key in the table of converters; empty if it is none of these.
  """

  what: str
  remedy: str
  format: str = ""


def _datumaro(folder: str) -> str:
  return (
    f"Datumaro converts it: `pip install datumaro`, then `datum convert -i {folder} -f "
    "coco_instances -o coco` writes coco/annotations/instances_*.json."
  )


_EXPORT_AGAIN = "Export it again as COCO JSON from the program that it was annotated with."
JSON_LINES = Seen("JSON Lines, an object on each line", _EXPORT_AGAIN)
_INSTANCES = "Give the file with boxes of the same images, which COCO calls instances_*.json."

# Of what `prepare` reads.
_PREPARE = (
  "`nasfpn prepare --annotations {folder} --output_dir DATA` reads it, and writes COCO JSON of "
  "each part: DATA/train.json, DATA/val.json."
)
# How to get to COCO JSON from each format; {folder} is the folder that is read.
_CONVERTERS = {
  "Pascal VOC (XML)": _PREPARE,
  "YOLO (text)": _PREPARE,
  "KITTI (text)": _datumaro("{folder}"),
  "CVAT (XML)": _PREPARE,
  "TFRecord": "Give the COCO JSON that it was made from. If there is none, and it is of "
  f"TensorFlow's Object Detection API: {_datumaro('{folder}')}",
  "LabelMe (JSON, a file for each image)": "labelme2coco converts it: `pip install labelme2coco`, "
  "then `labelme2coco {folder}`.",
  "VIA (VGG Image Annotator)": "VIA exports COCO itself: open it there and take Annotation, Export "
  "Annotations (COCO format).",
  "CSV": _PREPARE,
  "Label Studio": _PREPARE,
  "Labelbox": _EXPORT_AGAIN,
  "CreateML": "Roboflow and Datumaro read it and write COCO JSON.",
  "Supervisely": "Supervisely exports COCO itself, by its app Export to COCO.",
  "BDD100K": "Its toolkit converts it: `python -m bdd100k.label.to_coco -m det -i IN -o OUT`.",
  "Detectron2 (a list of dicts)": "Detectron2 converts it: `convert_to_coco_json` in "
  "detectron2.data.datasets.coco.",
  "GeoJSON": "Its coordinates are geographic: cut the map into images, with boxes in pixels.",
}


def refuse_foreign_annotations(path: str | Path) -> None:
  """Refuses what is clearly not COCO JSON, without parsing it.

  Raises:
    UserError: it is an address, a folder, or a file of another format; a missing file is refused
      when it is read.
  """
  if "://" in str(path):
    raise UserError(f"{path} is an address; download it and give the file.")
  path = Path(path)
  if path.is_dir():
    raise not_coco(path, recognize_folder(path))
  if path.is_file() and (seen := recognize_file(path)):
    raise not_coco(path, seen)


def refuse_foreign_images(flag: str, path: str | Path) -> None:
  """Refuses a path that is not a folder, and says what it is instead.

  Args:
    flag: name of the option that it was given to, without dashes.
    path: the path.

  Raises:
    UserError: there is no such folder.
  """
  if "://" in str(path):
    raise UserError(f"--{flag}: {path} is an address; download the images and give their folder.")
  path = Path(path)
  if path.is_dir():
    return
  if not path.exists():
    raise UserError(f"--{flag}: there is no folder {str(path)!r}.")
  seen = recognize_file(path)
  what = seen.what if seen else "a file"
  if what.endswith("archive"):
    remedy = f"Unpack it, `{_unpack(path)}`, and give the resulting folder."
  elif what == "an image":
    remedy = f"Give the folder that it lies in: --{flag} {path.parent}."
  elif path.suffix.lower() == ".json":
    remedy = f"Give annotations to --{flag.replace('images', 'annotations')}, and here the folder."
  else:
    remedy = "Give the folder that the file names in the annotations start from."
  raise UserError(f"--{flag}: {path} is {what}, not a folder of images. {remedy}")


def not_coco(path: str | Path, seen: Seen) -> UserError:
  """Returns the error that says what annotations are instead."""
  return UserError(f"{path} is {seen.what}; annotations must be COCO JSON. {seen.remedy}")


def recognize_json(content: Any, folder: str | Path = ".") -> Seen | None:
  """Returns the format of parsed JSON if it is a known one other than COCO's boxes; else None.

  Args:
    content: the parsed JSON.
    folder: the file's folder, for the converter's command.
  """
  if isinstance(content, list):
    return _recognize_list(content, folder)
  if not isinstance(content, dict):
    return None
  keys = set(content)
  annotations = content.get("annotations")
  if _all_have(content.get("images"), {"coco_url"}, {"file_name"}):
    remedy = "Write one into each, such as the end of its 'coco_url', below the folder of images."
    return Seen("in the format LVIS, whose images have no 'file_name'", remedy)
  if isinstance(annotations, list) and "images" in keys:
    return _recognize_boxless(annotations)
  if {"images", "categories"} <= keys and "annotations" not in keys:
    what = "a list of images in COCO's format (image_info) that has no 'annotations'"
    return Seen(what, _INSTANCES)
  if "shapes" in keys and keys & {"imagePath", "imageData", "imageHeight"}:
    return _format("LabelMe (JSON, a file for each image)", folder)
  if "_via_img_metadata" in keys or _all_have(content.values(), {"filename", "regions"}):
    return _format("VIA (VGG Image Annotator)", folder)
  if content.get("type") == "FeatureCollection":
    return _format("GeoJSON", folder)
  if {"objects", "size"} <= keys:
    return _format("Supervisely", folder)
  if {"frames", "name"} <= keys or {"labels", "name"} <= keys:
    return _format("BDD100K", folder)
  return None


def recognize_file(path: Path) -> Seen | None:
  """Returns the format of a file that is not JSON; None if it may be JSON.

  Args:
    path: the file.

  Raises:
    UserError: it cannot be read.
  """
  try:
    with path.open("rb") as file:
      head = file.read(_HEAD_BYTES)
  except OSError as error:
    raise UserError(f"Cannot read {str(path)!r}: {error.strerror}.") from error
  if not head.strip(b"\xef\xbb\xbf \t\r\n"):
    return Seen("an empty file", "Its download or export may have failed: make it again.")
  for magic, what in _MAGIC.items():
    if head.startswith(magic):
      return Seen(what, _remedy_of_binary(path, what))
  if _is_tfrecord(path):
    return _format("TFRecord", path.parent)
  if b"\0" in head:
    # UTF-16 contains them, too; the JSON parser reports it.
    return None if head[:2] in (b"\xff\xfe", b"\xfe\xff") else Seen("a binary file", _EXPORT_AGAIN)
  return _recognize_text(path, head.decode("utf-8-sig", errors="replace"))


def is_json_lines(path: Path) -> bool:
  """Returns whether each of the first two lines of a file is a JSON object."""
  try:
    with path.open(encoding="utf-8-sig") as file:
      lines = [line for line in islice(file, 4) if line.strip()]
      return len(lines) > 1 and all(isinstance(parse_json(line), dict) for line in lines[:2])
  except (OSError, ValueError):
    return False


def _format(name: str, folder: str | Path, is_folder: bool = False) -> Seen:
  place = "a folder in" if is_folder else "in"
  remedy = _CONVERTERS[name].replace("{folder}", shlex.quote(str(folder)))
  return Seen(f"{place} the format {name}", remedy, name)


def _recognize_list(content: Sequence[Any], folder: str | Path) -> Seen | None:
  if not content or not all(isinstance(row, dict) for row in content[:_SAMPLES]):
    return None
  keys = set.intersection(*(set(row) for row in content[:_SAMPLES]))
  if "image_id" in keys and keys & {"score", "caption", "keypoints", "bbox", "segmentation"}:
    return Seen(
      "a list of COCO results, the detections of a model, not annotations",
      "Give the annotations of the same images, which COCO calls instances_*.json.",
    )
  formats = [
    ("Detectron2 (a list of dicts)", {"file_name", "annotations"}),
    ("CreateML", {"image", "annotations"}),
    ("Label Studio", {"data", "annotations"}),
    ("Label Studio", {"data", "completions"}),
    ("Label Studio", {"image", "annotation_id"}),
    ("Labelbox", {"Labeled Data"}),
    ("Labelbox", {"data_row"}),
    ("BDD100K", {"name", "labels"}),
    ("VIA (VGG Image Annotator)", {"filename", "regions"}),
    ("LabelMe (JSON, a file for each image)", {"shapes", "imagePath"}),
  ]
  return next((_format(name, folder) for name, wanted in formats if wanted <= keys), None)


def _recognize_boxless(annotations: Sequence[Any]) -> Seen | None:
  """Returns which of COCO's formats without boxes this is; None if there is a box or nothing."""
  rows = [row for row in annotations if isinstance(row, dict)]
  if any("bbox" in row or "segmentation" in row for row in rows):
    return None
  kinds = {
    "segments_info": ("COCO's panoptic segmentation", _PANOPTIC),
    "caption": ("COCO's captions, which have no boxes", _INSTANCES),
    "keypoints": ("COCO's keypoints without boxes", _INSTANCES),
  }
  for key, (what, remedy) in kinds.items():
    if any(key in row for row in rows[:_SAMPLES]):
      return Seen(what, remedy)
  return None


_PANOPTIC = (
  f"{_INSTANCES} Where there is none, panopticapi's converters/panoptic2detection_coco_format.py "
  "makes it."
)


def _recognize_text(path: Path, text: str) -> Seen | None:
  start = text.lstrip()
  if start.startswith(("{", "[")):
    return None
  if start.startswith("<"):
    lower = start.lower()
    if "<annotation>" in lower or "<annotation " in lower:
      return _format("Pascal VOC (XML)", _above(path.parent, "Annotations"))
    if "<annotations" in lower:
      return _format("CVAT (XML)", path.parent)
    if "<!doctype html" in lower or "<html" in lower:
      remedy = "A login or an error was downloaded in place of the file: download it again."
      return Seen("a web page (HTML)", remedy)
    return Seen("XML", _EXPORT_AGAIN)
  if start.startswith("version https://git-lfs"):
    return Seen("a pointer of Git LFS, not the file", "Fetch the file: `git lfs pull`.")
  lines = [line.strip() for line in start.splitlines() if line.strip()]
  # The last may be cut.
  lines = lines[:-1] if len(text) >= _HEAD_BYTES and len(lines) > 1 else lines
  return _recognize_lines(path, lines)


def _recognize_lines(path: Path, lines: Sequence[str]) -> Seen:
  fields = [line.split() for line in lines]
  starts = {line.split(":")[0].strip() for line in lines if ":" in line}
  if starts & {"names", "nc"} and starts & {"names", "train", "val", "path"}:
    return _format("YOLO (text)", path.parent)
  if all(_is_yolo(row) for row in fields):
    return _format("YOLO (text)", _above(path.parent, "labels"))
  if all(len(row) >= 15 and not _is_number(row[0]) for row in fields) and all(
    map(_is_number, fields[0][1:15])
  ):
    return _format("KITTI (text)", _above(path.parent, "label_2"))
  if path.suffix.lower() in (".csv", ".tsv") or _is_table(lines):
    return _format("CSV", path.parent)
  if all(Path(line.split()[0]).suffix.lower() in IMAGE_SUFFIXES for line in lines[:_SAMPLES]):
    return Seen("a list of image files", "Give the annotations of these images.")
  if lines[0].startswith("item") and "{" in "".join(lines[:2]):
    return Seen("a label map of TensorFlow's Object Detection API", _EXPORT_AGAIN)
  return Seen("a text file", _EXPORT_AGAIN)


def _is_yolo(fields: Sequence[str]) -> bool:
  """Returns whether a line is a class index and at least four numbers from 0 to 1."""
  if len(fields) < 5 or not fields[0].isdigit() or not all(map(_is_number, fields)):
    return False
  return all(-0.01 <= float(field) <= 1.01 for field in fields[1:5])


def _is_table(lines: Sequence[str]) -> bool:
  """Returns whether the first lines have equally many columns, and enough for a box."""
  for separator in (",", ";", "\t"):
    counts = {line.count(separator) for line in lines[:_SAMPLES]}
    if len(counts) == 1 and max(counts) >= 3:
      return True
  return False


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True


def _is_tfrecord(path: Path) -> bool:
  """Returns whether a file is a chain of lengths and records that ends where the file ends."""
  size, place = path.stat().st_size, 0
  with path.open("rb") as file:
    for _ in range(100):
      file.seek(place)
      length = file.read(8)
      if len(length) < 8:
        return False
      # The length, its checksum, the record and its checksum.
      place += 8 + 4 + struct.unpack("<Q", length)[0] + 4
      if place >= size:
        return place == size
  return True


def _remedy_of_binary(path: Path, what: str) -> str:
  if what.endswith("archive"):
    inside = _only_json_in_zip(path)
    which = f"{inside!r} in it" if inside else "the COCO JSON in it"
    return f"Unpack it, `{_unpack(path)}`, and give {which}."
  if what == "an image":
    return "Give images to --images, and here the one file with the boxes of all of them."
  if what == "a Parquet table":
    return "Hugging Face stores datasets in this format; FiftyOne reads them and writes COCO JSON."
  return _EXPORT_AGAIN


def _only_json_in_zip(path: Path) -> str | None:
  try:
    with zipfile.ZipFile(path) as archive:
      names = [name for name in archive.namelist() if name.lower().endswith(".json")]
  except (OSError, zipfile.BadZipFile):
    return None
  return names[0] if len(names) == 1 else None


def _unpack(path: Path) -> str:
  quoted = shlex.quote(str(path))
  if ".tar" in path.suffixes or path.suffix in (".tgz", ".tbz2", ".txz"):
    return f"tar -xf {quoted}"
  if path.suffix.lower() == ".gz":
    return f"gunzip -k {quoted}"
  return f"7z x {quoted}" if path.suffix.lower() in (".7z", ".rar") else f"unzip {quoted}"


def coco_files(folder: Path) -> list[Path]:
  """Returns the files of COCO JSON with boxes below a folder; of prepared data none."""
  if _is_prepared(folder):
    return []
  files = [file for file in _files_below(folder) if file.suffix.lower() == ".json"]
  return [file for file in files[:_MOST_JSON] if _looks_like_coco(file)]


def _is_prepared(folder: Path) -> bool:
  return (folder / "dataset.json").is_file() and (folder / "label_map.json").is_file()


def recognize_folder(folder: Path) -> Seen:
  """Returns what a folder holds; one with COCO JSON is a folder in which to choose a file."""
  files = _files_below(folder)
  if not files:
    return Seen("an empty folder", "Give the file with the boxes of all images.")
  if _is_prepared(folder):
    return Seen(
      "a dataset that is prepared already",
      f"Train with it: `nasfpn train --data_dir {folder} ...`.",
    )
  by_suffix: dict[str, list[Path]] = {}
  for file in files:
    by_suffix.setdefault(file.suffix.lower(), []).append(file)
  coco = [file for file in by_suffix.get(".json", [])[:_MOST_JSON] if _looks_like_coco(file)]
  if len(coco) == 1:
    return Seen("a folder", f"The one in it is {coco[0]}: give that file.")
  if coco:
    names = ", ".join(str(file) for file in coco[:4]) + (", ..." if len(coco) > 4 else "")
    return Seen("a folder", f"There are {len(coco)} in it: give one of {names}.")
  seen = _recognize_samples(folder, by_suffix)
  if seen:
    return seen
  images = sum(len(by_suffix.get(suffix, ())) for suffix in IMAGE_SUFFIXES)
  if images:
    return Seen(
      f"a folder of {images} images without boxes",
      "Give it to --images, and here the file with the boxes of all of them; images without boxes "
      "are annotated with a program such as CVAT or Label Studio, which export COCO JSON.",
    )
  return Seen("a folder without a COCO JSON in it", "Give the file with the boxes of all images.")


def _recognize_samples(folder: Path, by_suffix: Mapping[str, Sequence[Path]]) -> Seen | None:
  """Returns the format of the files in a folder, by a few of each kind."""
  for suffix, files in sorted(by_suffix.items(), key=lambda item: item[0] == ".txt"):
    if suffix in IMAGE_SUFFIXES:
      continue
    # An empty file of labels says nothing of its format.
    for file in [file for file in files if file.stat().st_size][:_SAMPLES]:
      seen = _recognize_json_file(file) if suffix == ".json" else recognize_file(file)
      if seen and seen.format:
        return _format(seen.format, folder, is_folder=True)
      if seen and seen.what.endswith("archive"):
        return Seen("a folder without a COCO JSON in it", _remedy_of_binary(file, seen.what))
  return None


def _recognize_json_file(path: Path) -> Seen | None:
  try:
    return recognize_json(parse_json(path.read_text(encoding="utf-8-sig")), path.parent)
  except (OSError, ValueError):
    return None


def _looks_like_coco(path: Path) -> bool:
  """Returns whether a file names COCO's lists; a large one need not be parsed for that."""
  try:
    content = path.read_bytes()
  except OSError:
    return False
  has_boxes = b'"bbox"' in content or b'"segmentation"' in content
  return has_boxes and all(name in content for name in _COCO_LISTS)


def _files_below(folder: Path) -> list[Path]:
  def walk() -> Iterable[Path]:
    for root, folders, names in os.walk(folder):
      folders.sort()
      for name in sorted(names):
        if not name.startswith("."):
          yield Path(root, name)

  return list(islice(walk(), _MOST_FILES))


def _above(folder: Path, name: str) -> Path:
  """Returns the parent of a folder that has this name; any other folder itself."""
  return folder.parent if folder.name.lower() == name.lower() else folder


def _all_have(values: Any, keys: set[str], not_keys: Collection[str] = ()) -> bool:
  """Returns whether the first few JSON objects have all of `keys` and none of `not_keys`."""
  rows = list(islice(values, _SAMPLES)) if isinstance(values, Iterable) else []
  return bool(rows) and all(
    isinstance(row, dict) and keys <= set(row) and not set(row) & set(not_keys) for row in rows
  )
