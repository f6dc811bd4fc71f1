"""Which format annotations have, and reading them whatever it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from official_nasfpn.data import foreign_formats
from official_nasfpn.data.formats.coco import read_coco
from official_nasfpn.data.formats.csv_boxes import read_csv
from official_nasfpn.data.formats.cvat import read_cvat
from official_nasfpn.data.formats.label_studio import read_label_studio
from official_nasfpn.data.formats.structure import Reader, Split, as_splits
from official_nasfpn.data.formats.voc import read_voc
from official_nasfpn.data.formats.yolo import read_yolo
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError, nearest_name
from official_nasfpn.json_text import parse_json


@dataclass(frozen=True)
class Format:
  """A format that is read.

  Attributes:
    title: what people call it.
    seen_as: what `foreign_formats` recognises it as; empty for COCO.
    read: its reader; None for COCO, whose files are parsed as they are.
  """

  title: str
  seen_as: str
  read: Reader | None


FORMATS: Mapping[str, Format] = {
  "coco": Format("COCO JSON", "", None),
  "voc": Format("Pascal VOC", "Pascal VOC (XML)", read_voc),
  "yolo": Format("YOLO", "YOLO (text)", read_yolo),
  "csv": Format("CSV", "CSV", read_csv),
  "label_studio": Format("Label Studio's JSON", "Label Studio", read_label_studio),
  "cvat": Format("CVAT's XML", "CVAT (XML)", read_cvat),
}


def read_annotations(
  path: str | Path, images: str | Path | None, format_name: str | None, report: Report
) -> list[Split]:
  """Reads the annotations of a file or a folder as COCO's structure.

  Args:
    path: COCO JSON, a folder, a data.yaml, a table, ...
    images: the folder of the images; None where they lie beside the annotations.
    format_name: one of `FORMATS`; None to tell by what is there.
    report: receives what was left out or interpreted.

  Returns:
    The splits that it has: one without a name, or some of train, val and test.

  Raises:
    UserError: the format is not known, or not one that is read, or there is nothing to read.
  """
  if "://" in str(path):
    raise UserError(f"{path} is an address; download it and give the file.")
  if format_name is not None and format_name not in FORMATS:
    raise UserError(
      f"There is no format {format_name!r}; did you mean {nearest_name(format_name, FORMATS)!r}? "
      f"There are {', '.join(FORMATS)}."
    )
  path, images = Path(path), Path(images) if images else None
  if not path.exists():
    raise UserError(f"Cannot read the annotations {str(path)!r}: No such file or directory.")
  name = format_name or recognize(path)
  reader = FORMATS[name].read
  if reader is None:
    return read_coco(path, images)
  if not path.is_dir() and (seen := _seen(path)) and seen.what.endswith("archive"):
    raise _not_read(path, seen)
  try:
    dataset = reader(path, images, report)
  except OSError as error:
    raise UserError(f"Cannot read {error.filename or path}: {error.strerror}.") from error
  if not dataset.images:
    raise UserError(f"{path}: none of its images is in a split that is read.")
  return as_splits(dataset, path, name)


def recognize(path: Path) -> str:
  """Returns which of `FORMATS` a file or a folder has, by what is in it.

  Raises:
    UserError: it has none of them; the message says what it is instead.
  """
  if path.is_dir() and foreign_formats.coco_files(path):
    return "coco"
  seen = _seen(path)
  if seen is None:
    return "coco"
  for name, one in FORMATS.items():
    if one.seen_as and one.seen_as == seen.format:
      return name
  raise _not_read(path, seen)


def _seen(path: Path) -> foreign_formats.Seen | None:
  if path.is_dir():
    return foreign_formats.recognize_folder(path)
  seen = foreign_formats.recognize_file(path)
  if seen is not None or path.suffix.lower() not in (".json", ""):
    return seen
  try:
    content = parse_json(path.read_text(encoding="utf-8-sig"))
  except (OSError, ValueError):
    # The reader of COCO says what is wrong with it.
    return None
  if isinstance(content, list):
    return foreign_formats.recognize_json(content, path.parent)
  return None


def _not_read(path: Path, seen: foreign_formats.Seen) -> UserError:
  titles = ", ".join(one.title for one in FORMATS.values())
  return UserError(f"{path} is {seen.what}; annotations must be one of {titles}. {seen.remedy}")
