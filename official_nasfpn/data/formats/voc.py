"""Pascal VOC: an XML file for each image.

VOC's devkit numbers pixels from 1 ("The top-left pixel in the image has coordinates (1,1)"), and
the last pixel belongs to the box: over a whole image of width W it is xmin 1, xmax W. In COCO's
coordinates, whose numbers are edges, that is x 0 and width W; Detectron2's pascal_voc.py reads it
so, too. Tools that write edges betray themselves by a 0, which VOC does not have; then all boxes of
the folder are read as edges. LabelImg writes edges, too, but 1 in place of 0: its boxes cannot be
told from VOC's, and come out a pixel larger to the left and top.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection
from pathlib import Path

from official_nasfpn.data.formats.image_files import ImageFiles, files_below
from official_nasfpn.data.formats.safe_xml import number_in, parse_xml
from official_nasfpn.data.formats.structure import (
  LabelledBox,
  LabelledDataset,
  LabelledImage,
  split_of_path,
  stated_size,
)
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError

_EDGES = ("xmin", "ymin", "xmax", "ymax")
# Names of VOC's lists of images, and the split that each stands for. What trainval has beyond the
# others is trained on.
_IMAGE_SETS = {
  "train": "train", "val": "val", "valid": "val", "test": "test", "trainval": "train",
}  # fmt: skip


def read_voc(path: Path, images: Path | None, report: Report) -> LabelledDataset:
  """Reads a folder of VOC's XML files; its splits are those of ImageSets/Main, or its folders."""
  if path.is_file():
    raise UserError(f"{path} is the XML of one image: give the folder of all, {path.parent}.")
  parsed = [(file, parse_xml(file)) for file in files_below(path, frozenset((".xml",)))]
  parsed = [(file, root) for file, root in parsed if root.tag == "annotation"]
  if not parsed:
    raise UserError(f"{path} holds no XML of Pascal VOC, whose outermost element is <annotation>.")
  offset = _offset(parsed, report)
  files = ImageFiles(images or path)
  sets = _image_sets(path, {file.stem for file, _ in parsed}, report)
  found = []
  for file, root in parsed:
    split = split_of_path(file, path)
    if sets:
      split = sets.get(file.stem, "unlisted")
    if split == "unlisted":
      report.note("images_unlisted", file.stem)
      continue
    name = root.findtext("filename") or file.stem
    image = files.find(name, file.parent) or files.with_stem(file.stem, file.parent)
    boxes = [
      box for item in root.iter("object") if (box := _box(item, offset, file, report)) is not None
    ]
    found.append(LabelledImage(image or files.root / name, _size(root), boxes, split))
  used = {image.file for image in found}
  for image_file in files.files:
    if image_file not in used and not sets:
      report.note("images_unlisted", str(image_file.relative_to(files.root)))
  return LabelledDataset(found, [file for file, _ in parsed])


def _offset(parsed: list[tuple[Path, ElementTree.Element]], report: Report) -> float:
  """Returns what is taken from xmin and ymin to make edges of them: 1 as in VOC, or 0."""
  example, number_of_boxes, has_zero = "", 0, False
  for file, root in parsed:
    for item in root.iter("bndbox"):
      number_of_boxes += 1
      low = [number_in(item, tag) for tag in _EDGES[:2]]
      if not has_zero and any(value is not None and 0 <= value < 1 for value in low):
        has_zero, example = True, file.name
  problem = "boxes_voc_from_0" if has_zero else "boxes_voc_from_1"
  for _ in range(number_of_boxes):
    report.note(problem, example or parsed[0][0].name)
  return 0.0 if has_zero else 1.0


def _box(
  item: ElementTree.Element, offset: float, file: Path, report: Report
) -> LabelledBox | None:
  label = (item.findtext("name") or "").strip()
  if item.find("robndbox") is not None:
    raise UserError(
      f"{file} has rotated boxes (<robndbox>), and boxes here are upright. Export it with "
      "<bndbox>, or as COCO JSON with outlines, of which the upright box is taken."
    )
  edges = [number_in(item.find("bndbox"), tag) for tag in _EDGES]
  if not label or any(edge is None for edge in edges):
    report.note("boxes_unreadable", f"{label or 'an object without a name'} in {file.name}")
    return None
  if (item.findtext("difficult") or "0").strip() == "1":
    report.note("boxes_difficult", f"{label} in {file.name}")
  xmin, ymin, xmax, ymax = (edge for edge in edges if edge is not None)
  return LabelledBox(
    label, (xmin - offset, ymin - offset, xmax - xmin + offset, ymax - ymin + offset)
  )


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
  return stated_size(root.findtext("size/width"), root.findtext("size/height"))


def _image_sets(path: Path, stems: Collection[str], report: Report) -> dict[str, str]:
  """Returns the split of each image by the lists in ImageSets/Main; empty without such lists.

  Args:
    path: the folder.
    stems: names of the files of annotations, without an ending.
    report: receives images of two splits.
  """
  splits: dict[str, str] = {}
  for folder in sorted(path.rglob("ImageSets/Main")):
    for name, split in _IMAGE_SETS.items():
      file = folder / f"{name}.txt"
      if file.is_file():
        for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines():
          if line.strip():
            image = _listed(line.strip(), stems)
            first = splits.setdefault(image, split)
            if first != split and (name, first) != ("trainval", "val"):
              report.note("images_in_two_splits", f"{image}: {first} and {split}")
  return splits


def _listed(line: str, stems: Collection[str]) -> str:
  """Returns the image that a line names; in lists of one class a 1, 0 or -1 is behind it."""
  return line if line in stems else re.sub(r"\s+-?[01]$", "", line)
