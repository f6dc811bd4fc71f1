"""Annotations of strangers in every format that is read, damaged."""

import json
import math

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from official_nasfpn.data.coco_json import clean_boxes, coco_dataset
from official_nasfpn.data.doctor.check import check_dataset
from official_nasfpn.data.formats.source import read_source
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError
from tests.data.formats.written import (
  CLASSES,
  IMAGES,
  coco,
  cvat,
  draw,
  label_studio,
  voc_xml,
  yolo_text,
)
from tests.data.formats.written import table as write_table
from tests.fuzz.fuzzing import check_sentence, examples, opened_files
from tests.fuzz.mutations import mutated

PIECES = [
  "",
  "\n",
  "\r",
  "\0",
  "\ufeff",
  "\ud800",
  "\u202e",
  "0",
  "-1",
  "1e999",
  "NaN",
  "Infinity",
  "1,5",
  "0.5",
  "9" * 400,
  "9" * 5000,
  " ",
  "\t",
  ";",
  ",",
  '"',
  "'",
  "[",
  "{",
  "[" * 3000,
  "<" * 100,
  "<a>" * 3000,
  "</annotation>",
  "<!DOCTYPE a [<!ENTITY b 'c'>]>&b;",
  "<!-- -->",
  "&lt;",
  "&nothing;",
  "null",
  "true",
  "../../../etc/hostname",
  "/etc/hostname",
  "a.png",
  "\\",
  "cell",
  "🦝",
]
FILES = {
  "coco": ("coco.json", [json.dumps(coco(IMAGES)), json.dumps(coco(IMAGES, str), indent=1)]),
  "voc": ("voc/a.xml", [voc_xml("a.png"), voc_xml("c d.jpg", first=0)]),
  "yolo": ("labels/a.txt", [yolo_text("a.png"), yolo_text("a.png", outlines=True)]),
  "label_studio": ("label_studio.json", [label_studio(), label_studio(short=True)]),
  "cvat": ("cvat.xml", [cvat()]),
}
DATA_YAML = f"path: .\ntrain: images\nval: images\nnames: {list(CLASSES)}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("dataset")
  draw(path / "images")
  return path


def _write(path, text):
  path.parent.mkdir(exist_ok=True)
  path.write_bytes(text.encode("utf-8", "surrogatepass"))
  return path


def _check(given_path, images, format_name, folder):
  """Reads and checks a dataset; what is right with it must be boxes in its images."""
  with opened_files() as opened:
    try:
      source = read_source(given_path, images, None, None, format_name, Report())
      check = check_dataset(given_path, images, format=format_name, num_threads=1)
    except UserError as error:
      check_sentence(error)
      event("refused")
      return
  event("read")
  assert not [path for path, writes in opened if writes]
  assert check.verdict
  check.table().encode()
  for split in source.splits:
    report = Report()
    dataset = coco_dataset(split.content, split.origin, report)
    for image in dataset.images:
      size = image.size or (64, 48)
      for box in clean_boxes(image.annotations, size, dataset.label_map, report, image.file_name):
        numbers = (box.x, box.y, box.width, box.height)
        assert all(map(math.isfinite, numbers))
        assert 0 <= box.x < box.x + box.width <= size[0] + 1e-6
        assert 0 <= box.y < box.y + box.height <= size[1] + 1e-6
        assert 0 <= box.class_index < dataset.label_map.num_classes
    json.dumps(report.to_json()).encode()


@pytest.mark.parametrize("format_name", sorted(FILES))
@examples(25)
@given(data=st.data(), is_told=st.booleans())
def test_a_damaged_file(folder, format_name, data, is_told):
  name, originals = FILES[format_name]
  path = _write(folder / name, data.draw(mutated(originals, PIECES)))
  if format_name in ("voc", "yolo"):
    path = path.parent
  if format_name == "yolo":
    _write(folder / "labels" / "classes.txt", "\n".join(CLASSES))
  _check(path, folder / "images", format_name if is_told else None, folder)


@pytest.fixture(scope="module")
def tables(folder):
  names = ["image", "width", "height", "label", "x", "y", "w", "h"]
  corners = ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]
  paths = [
    write_table(folder / "sizes.csv", names, lambda *cells: cells),
    write_table(
      folder / "corners.csv",
      corners,
      lambda name, width, height, label, x, y, w, h: (
        (name, width, height, label, x, y, x + w, y + h) if label else (name, *7 * ("",))
      ),
    ),
  ]
  return [path.read_text(encoding="utf-8") for path in paths]


@examples(40)
@given(data=st.data())
def test_a_damaged_table(folder, tables, data):
  path = _write(folder / "table.csv", data.draw(mutated(tables, PIECES)))
  _check(path, folder / "images", "csv", folder)


@examples(40)
@given(text=mutated([DATA_YAML], PIECES))
def test_a_damaged_list_of_names(folder, text):
  _write(folder / "labels" / "a.txt", yolo_text("a.png"))
  path = _write(folder / "data.yaml", text)
  _check(path, None, "yolo", folder)
