"""Small datasets of a test, and what is read of them."""

import json
from pathlib import Path

from PIL import Image

from official_nasfpn.data.formats.reading import read_annotations
from official_nasfpn.data.report import Report
from tests.data.formats.written import write


def picture(path, size=(40, 20), orientation=1):
  """Draws an image; EXIF says `orientation`."""
  path.parent.mkdir(parents=True, exist_ok=True)
  exif = Image.Exif()
  if orientation != 1:
    exif[0x0112] = orientation
  Image.new("RGB", size).save(path, exif=exif)


def label_studio_shape(path: Path, image: str, **value):
  """Writes Label Studio's JSON of one shape, without the size of its image."""
  row = {"type": "shape", "value": value | {"labels": ["cell"]}}
  task = {"data": {"image": image}, "annotations": [{"result": [row]}]}
  return write(path, json.dumps([task]))


def boxes_read(path, images=None):
  """Returns {split: {file name: [box, ...]}} and the report."""
  report = Report()
  found = {}
  for split in read_annotations(path, images, None, report):
    names = {row["id"]: row["file_name"] for row in split.content["images"]}
    boxes = {name: [] for name in names.values()}
    for row in split.content["annotations"]:
      boxes[names[row["image_id"]]].append(row["bbox"])
    found[split.name] = boxes
  return found, report
