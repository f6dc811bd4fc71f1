"""COCO JSON of any shape gives a right dataset or one sentence, and nothing else."""

import copy
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from official_nasfpn.data.coco_json import clean_boxes, coco_content, coco_dataset, parse_coco_json
from official_nasfpn.data.dataset_info import PARTS, DatasetInfo
from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.data.report import PROBLEMS, Report, report_table
from official_nasfpn.errors import UserError
from tests.fuzz.fuzzing import check_sentence, examples

SIZE = (60, 40)
NAMES = ("a.png", "b.png", "deep/c.png")

CHARACTERS = st.characters(codec=None, categories=None)
NUMBERS = st.one_of(
  st.integers(-3, 70),
  st.floats(width=64),
  st.integers(-(2**70), 2**70),
  st.sampled_from([0, 1, 2**63, 10**400, 1e308, -0.0, True, False, None]),
  st.builds(str, st.one_of(st.integers(-3, 70), st.floats())),
  st.sampled_from(["", " 5 ", "5.0", "5e0", "1_0", "0x5", "NaN", "1e999", "9" * 5000]),
)
TEXTS = st.one_of(
  st.text(CHARACTERS, max_size=12),
  st.sampled_from(["cat\n", "\ud800", "../a.png", "/etc/passwd", "deep\\c.png", "C:\\x\\a.png",
                   "x" * 5000, "a\0b", ".", "..", "", "A.PNG", "b.png/", "~", "%s", "$HOME"]),
)  # fmt: skip
VALUES = st.recursive(
  st.one_of(NUMBERS, TEXTS),
  lambda inner: st.one_of(
    st.lists(inner, max_size=9), st.dictionaries(st.text(max_size=5), inner, max_size=3)
  ),
  max_leaves=12,
)
FILE_NAMES = st.one_of(st.sampled_from(NAMES), TEXTS)
IDS = st.one_of(st.integers(1, 4), st.sampled_from([1.0, "1", "01", " 2.0 ", 3e0]), NUMBERS)
BOXES = st.one_of(st.lists(st.one_of(st.integers(-5, 70), NUMBERS), min_size=4, max_size=4), VALUES)
OUTLINES = st.one_of(
  st.lists(st.lists(NUMBERS, min_size=6, max_size=10), max_size=3),
  st.fixed_dictionaries(
    {"size": st.one_of(st.just([40, 60]), st.lists(NUMBERS, max_size=3)),
     "counts": st.one_of(st.lists(NUMBERS, max_size=8), st.text(max_size=20), VALUES)}
  ),
  VALUES,
)  # fmt: skip


def rows(**fields):
  """Returns lists of rows whose fields are sometimes missing, and some that are no rows."""
  row = st.fixed_dictionaries({}, optional=fields)
  whole = st.fixed_dictionaries(fields)
  return st.lists(st.one_of(whole, whole, whole, row, VALUES), max_size=6)


CONTENTS = st.fixed_dictionaries(
  {
    "images": rows(id=IDS, file_name=FILE_NAMES, width=NUMBERS, height=NUMBERS),
    "annotations": rows(
      id=NUMBERS, image_id=IDS, category_id=IDS, bbox=BOXES, segmentation=OUTLINES,
      area=NUMBERS, iscrowd=st.one_of(st.sampled_from([0, 1, "0", True]), VALUES),
    ),
    "categories": rows(id=IDS, name=TEXTS),
  }
)  # fmt: skip
SOUND = {
  "images": [{"id": i, "file_name": name, "width": 60, "height": 40}
             for i, name in enumerate(NAMES, start=1)],
  "annotations": [{"id": i, "image_id": i, "category_id": 7, "bbox": [5, 5, 20, 20],
                   "iscrowd": 0, "area": 400} for i in (1, 2, 3)],
  "categories": [{"id": 7, "name": "cat"}],
}  # fmt: skip


@st.composite
def changed(draw):
  """Returns sound content in which a few fields are something else."""
  content = copy.deepcopy(SOUND)
  for _ in range(draw(st.integers(1, 3))):
    part = draw(st.sampled_from(sorted(content)))
    row = draw(st.sampled_from(content[part]))
    fields = {"file_name": FILE_NAMES, "name": TEXTS, "bbox": BOXES, "segmentation": OUTLINES}
    name = draw(st.sampled_from([*sorted(row), *(["segmentation"] if "bbox" in row else [])]))
    if name == "segmentation":
      row.pop("bbox", None)
    row[name] = draw(fields.get(name, st.one_of(IDS, VALUES)))
  if draw(st.booleans()):
    part = draw(st.sampled_from(sorted(content)))
    content[part].append(copy.deepcopy(draw(st.sampled_from(content[part]))))
  return content


ENCODINGS = st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cut"])


def write(folder, content, encoding):
  """Writes content as JSON, in an encoding or without its end."""
  text = json.dumps(content, ensure_ascii=encoding in ("latin-1", "cut", "utf-16"))
  data = text.encode("utf-8" if encoding == "cut" else encoding, "surrogatepass")
  path = folder / "all.json"
  path.write_bytes(data[: len(data) * 2 // 3] if encoding == "cut" else data)
  return path


def check_refusal(error):
  check_sentence(error)
  assert len(str(error).splitlines()) == 1, error


def check_report(report):
  assert set(report) <= set(PROBLEMS)
  table = report_table(report)
  table.encode()
  assert len(table.splitlines()) == max(len(report), 1)


@examples(150)
@given(content=st.one_of(CONTENTS, changed(), VALUES), encoding=ENCODINGS)
def test_reading_gives_sound_boxes_or_one_sentence(content, encoding):
  with tempfile.TemporaryDirectory() as folder:
    path = write(Path(folder), content, encoding)
    report = Report()
    try:
      dataset = coco_dataset(parse_coco_json(path), path, report)
    except UserError as error:
      check_refusal(error)
      return
  ids = [image.id for image in dataset.images]
  assert len(set(ids)) == len(ids)
  names = [category.name for category in dataset.label_map.categories]
  assert all(name and name == " ".join(name.split()) and name.encode() for name in names)
  boxes = []
  for image in dataset.images:
    assert image.size is None or min(image.size) > 0
    found = clean_boxes(image.annotations, SIZE, dataset.label_map, report, image.file_name)
    boxes.append(found)
    for box in found:
      assert 0 <= box.x < box.x + box.width <= SIZE[0] * (1 + 1e-9)
      assert 0 <= box.y < box.y + box.height <= SIZE[1] * (1 + 1e-9)
      assert 0 < box.area < float("inf")
      assert box.class_index in range(len(names))
  check_report(report.to_json())
  rows = [{"id": id_} for id_ in ids]
  json.dumps(coco_content(rows, boxes, dataset.label_map), allow_nan=False)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  folder = tmp_path_factory.mktemp("images")
  for seed, name in enumerate(NAMES):
    (folder / name).parent.mkdir(exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    Image.fromarray(noise).save(folder / name)
  return folder


# Preparing takes a hundred times as long as reading.
@examples(6, cost=25)
@given(content=st.one_of(changed(), CONTENTS), encoding=ENCODINGS, val=st.booleans())
def test_preparing_gives_a_whole_folder_or_one_sentence(images, content, encoding, val):
  with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    path = write(folder, content, encoding)
    before = sorted(images.rglob("*"))
    try:
      prepared = prepare_dataset(
        folder / "out", path, images, val_annotations=path if val else None, num_threads=1
      )
    except UserError as error:
      check_refusal(error)
      assert [found.name for found in folder.iterdir()] == ["all.json"]
    else:
      assert sorted(found.name for found in folder.iterdir()) == ["all.json", "out"]
      check_report(prepared.report)
      info = DatasetInfo.load(prepared.folder)
      for part in PARTS:
        content = json.loads(info.annotation_file(part).read_text())
        assert len(content["images"]) == info.num_images((part,))
        assert len(content["annotations"]) == info.parts[part].num_boxes
      shutil.rmtree(prepared.folder)
    assert sorted(images.rglob("*")) == before
