"""CVAT's own XML, "CVAT for images 1.1": one file, with boxes as edges in pixels."""

from pathlib import Path
from xml.etree.ElementTree import Element

from official_nasfpn.data.formats.image_files import ImageFiles
from official_nasfpn.data.formats.safe_xml import parse_xml
from official_nasfpn.data.formats.structure import (
  LabelledBox,
  LabelledDataset,
  LabelledImage,
  outline_box,
  split_named,
  stated_size,
)
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError


def read_cvat(path: Path, images: Path | None, report: Report) -> LabelledDataset:
  """Reads annotations.xml, or the folder that holds it.

  Raises:
    UserError: it is no such file, or one of a video's tracks.
  """
  file = path
  if path.is_dir():
    files = sorted(path.rglob("*.xml"))
    if len(files) != 1:
      raise UserError(f"{path} has {len(files)} XML files: give the one that CVAT wrote.")
    file = files[0]
  root = parse_xml(file)
  if root.find("track") is not None:
    raise UserError(
      f"{file} has tracks of a video (CVAT for video). Export it as COCO 1.0 with its images."
    )
  image_files = ImageFiles(images or file.parent)
  found = []
  for item in root.findall("image"):
    name = item.get("name", "")
    image = image_files.find(name, file.parent) or image_files.root / name
    boxes = [box for shape in item if (box := _box(shape, name, report)) is not None]
    found.append(
      LabelledImage(
        image,
        stated_size(item.get("width"), item.get("height")),
        boxes,
        split_named(item.get("subset", "")),
      )
    )
  if not found:
    raise UserError(f"{file} has no <image>, so it is not CVAT's XML of images.")
  return LabelledDataset(found, [file])


def _box(shape: Element, name: str, report: Report) -> LabelledBox | None:
  label = shape.get("label", "")
  try:
    if shape.tag == "box":
      if float(shape.get("rotation", 0)):
        raise UserError(
          f"{name} has rotated boxes, and boxes here are upright. Export the task from CVAT as "
          "COCO 1.0, which writes upright ones around them."
        )
      left, top, right, bottom = (float(shape.get(key, "")) for key in ("xtl", "ytl", "xbr", "ybr"))
      return LabelledBox(label, (left, top, right - left, bottom - top))
    if shape.tag in ("polygon", "polyline"):
      points = [pair.split(",") for pair in shape.get("points", "").split(";")]
      report.note("boxes_from_outlines", name)
      return LabelledBox(label, outline_box([(float(x), float(y)) for x, y in points]))
    if shape.tag == "mask":
      left, top, width, height = (
        float(shape.get(key, "")) for key in ("left", "top", "width", "height")
      )
      report.note("boxes_from_outlines", name)
      return LabelledBox(label, (left, top, width, height))
  except ValueError:
    pass
  if shape.tag != "tag":
    report.note("boxes_unreadable", f"{shape.tag} {label} in {name}")
  return None
