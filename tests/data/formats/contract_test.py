"""One dataset in every format and layout is prepared to the same boxes."""

import json
import shutil

import pytest

from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.preparation import prepare_dataset
from tests.data.formats import written
from tests.data.formats.written import CLASSES, IMAGES, SPLITS, write

ALL_TRAIN = {"validation_fraction": 0.0, "holdout_fraction": 0.0, "num_shards": 1}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
  folder = tmp_path_factory.mktemp("pictures")
  written.draw(folder)
  return folder


def _place(pictures, folder, name):
  folder.mkdir(parents=True, exist_ok=True)
  shutil.copy(pictures / name, folder / name)


def _coco(root, pictures):
  shutil.copytree(pictures, root / "images")
  return write(root / "annotations" / "instances_default.json", json.dumps(written.coco(IMAGES)))


def _coco_with_text_ids(root, pictures):
  shutil.copytree(pictures, root / "images")
  content = written.coco(IMAGES, ids=lambda number: f"id-{number}")
  return write(root / "all.json", json.dumps(content))


def _voc(root, pictures):
  shutil.copytree(pictures, root / "JPEGImages")
  for name in IMAGES:
    write(root / "Annotations" / f"{name[:-4]}.xml", written.voc_xml(name))
  return root


def _voc_from_0(root, pictures):
  """Beside the images, with edges, as CVAT and Roboflow write them."""
  shutil.copytree(pictures, root)
  for name in IMAGES:
    write(root / f"{name[:-4]}.xml", written.voc_xml(name, first=0))
  return root


def _yolo(root, pictures, outlines=False):
  """Labels below labels/, an image without a file of labels."""
  shutil.copytree(pictures, root / "train" / "images")
  for name in IMAGES:
    if text := written.yolo_text(name, outlines):
      write(root / "train" / "labels" / f"{name[:-4]}.txt", text)
  # As Roboflow writes it: the path leads outside.
  write(root / "data.yaml", f"train: ../train/images\nnc: 3\nnames: {list(CLASSES)}\n")
  return root


def _yolo_outlines(root, pictures):
  return _yolo(root, pictures, outlines=True)


def _yolo_yaml(root, pictures):
  return _yolo(root, pictures) / "data.yaml"


def _yolo_of_cvat(root, pictures):
  for name in IMAGES:
    _place(pictures, root / "obj_train_data", name)
    write(root / "obj_train_data" / f"{name[:-4]}.txt", written.yolo_text(name))
  write(root / "train.txt", "".join(f"data/obj_train_data/{name}\n" for name in IMAGES))
  write(root / "obj.names", "\n".join(CLASSES))
  return root


def _yolo_of_label_studio(root, pictures):
  shutil.copytree(pictures, root / "images")
  for name in IMAGES:
    write(root / "labels" / f"{name[:-4]}.txt", written.yolo_text(name))
  write(root / "classes.txt", "".join(f"{label}\n" for label in CLASSES))
  write(root / "notes.json", "{}")
  return root


def _csv(root, pictures):
  shutil.copytree(pictures, root)
  header = ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]
  return written.table(
    root / "_annotations.csv",
    header,
    lambda name, w, h, label, x, y, bw, bh: [
      name, w, h, label, x, y, *([x + bw, y + bh] if label else ["", ""]),
    ],
  )  # fmt: skip


def _csv_semicolons(root, pictures):
  """With decimal commas, x, y, width and height, and a byte order mark, as Excel writes it."""
  shutil.copytree(pictures, root)
  file = written.table(
    root / "boxes.csv",
    ["Image Name", "Label", "X", "Y", "Width", "Height"],
    lambda name, w, h, label, x, y, bw, bh: [
      name, label, *(float(value) if label else "" for value in (x, y, bw, bh)),
    ],
    separator=";",
    decimal=",",
  )  # fmt: skip
  file.write_text("\ufeff" + file.read_text(encoding="utf-8"), encoding="utf-8")
  return file


def _csv_kaggle(root, pictures):
  shutil.copytree(pictures, root)
  return written.table(
    root / "train.csv",
    ["image_id", "width", "height", "bbox", "label"],
    lambda name, w, h, label, x, y, bw, bh: [
      name[:-4], w, h, str([float(x), float(y), float(bw), float(bh)]) if label else "", label,
    ],
  )  # fmt: skip


def _csv_open_images(root, pictures):
  shutil.copytree(pictures, root)
  return written.table(
    root / "boxes.csv",
    ["ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", "IsGroupOf"],
    lambda name, w, h, label, x, y, bw, bh: [
      name[:-4], "x", label, 1,
      *([x / w, (x + bw) / w, y / h, (y + bh) / h] if label else [""] * 4), 0,
    ],
  )  # fmt: skip


def _csv_without_header(root, pictures):
  shutil.copytree(pictures, root)
  return written.table(
    root / "annotations.csv",
    None,
    lambda name, w, h, label, x, y, bw, bh: [f"/home/x/{name}", x, y, x + bw, y + bh, label],
  )


def _csv_via(root, pictures):
  shutil.copytree(pictures, root)
  return written.table(
    root / "via_region_data.csv",
    [
      "filename", "file_size", "file_attributes", "region_count", "region_id",
      "region_shape_attributes", "region_attributes",
    ],
    lambda name, w, h, label, x, y, bw, bh: [
      name, 1, "{}", 1, 0,
      json.dumps({"name": "rect", "x": x, "y": y, "width": bw, "height": bh} if label else {}),
      json.dumps({"kind": label} if label else {}),
    ],
  )  # fmt: skip


def _label_studio(root, pictures):
  shutil.copytree(pictures, root / "images")
  return write(root / "project-1.json", written.label_studio())


def _label_studio_min(root, pictures):
  shutil.copytree(pictures, root / "images")
  return write(root / "project-1.json", written.label_studio(short=True))


def _cvat(root, pictures):
  shutil.copytree(pictures, root / "images")
  write(root / "annotations.xml", written.cvat())
  return root


LAYOUTS = [
  _coco, _coco_with_text_ids, _voc, _voc_from_0, _yolo, _yolo_outlines, _yolo_yaml, _yolo_of_cvat,
  _yolo_of_label_studio, _csv, _csv_semicolons, _csv_kaggle, _csv_open_images, _csv_without_header,
  _csv_via, _label_studio, _label_studio_min, _cvat,
]  # fmt: skip


def _prepared_boxes(info, part):
  """Returns {file name: sorted [(class, box), ...]} of a part."""
  content = json.loads(info.annotation_file(part).read_text(encoding="utf-8"))
  labels = {row["id"]: row["name"] for row in content["categories"]}
  names = {row["id"]: row["file_name"].rsplit("/", 1)[-1] for row in content["images"]}
  boxes = {name: [] for name in names.values()}
  for row in content["annotations"]:
    box = tuple(round(value, 3) for value in row["bbox"])
    boxes[names[row["image_id"]]].append((labels[row["category_id"]], *box))
  return {name: sorted(rows) for name, rows in boxes.items()}


EXPECTED = {name: sorted(boxes) for name, (_, _, boxes) in IMAGES.items()}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__[1:])
def test_every_format_is_prepared_to_the_same_boxes(tmp_path, pictures, layout):
  annotations = layout(tmp_path / "given", pictures)
  prepared = prepare_dataset(tmp_path / "out", annotations, num_threads=1, **ALL_TRAIN)
  info = DatasetInfo.load(prepared.folder)
  assert _prepared_boxes(info, "train") == EXPECTED
  assert prepared.classes == CLASSES
  lost = {name for name in prepared.report if name.startswith("boxes_")}
  assert lost <= {"boxes_voc_from_1", "boxes_voc_from_0", "boxes_shares", "boxes_from_outlines"}
  # The same input is recognised as such, whatever its format.
  again = prepare_dataset(tmp_path / "out", annotations, num_threads=1, **ALL_TRAIN)
  assert not again.is_new


def _split_coco(root, pictures):
  for split in set(SPLITS.values()):
    names = [name for name in IMAGES if SPLITS[name] == split]
    for name in names:
      _place(pictures, root / split, name)
    write(root / split / "_annotations.coco.json", json.dumps(written.coco(names)))
  return root


def _split_coco_as_published(root, pictures):
  for split, year in (("train", "train2017"), ("valid", "val2017")):
    names = [name for name in IMAGES if SPLITS[name] == split]
    for name in names:
      _place(pictures, root / year, name)
    write(root / "annotations" / f"instances_{year}.json", json.dumps(written.coco(names)))
  return root


def _split_voc(root, pictures):
  _voc(root, pictures)
  for split, file in (("train", "train"), ("valid", "val")):
    stems = [name[:-4] for name in IMAGES if SPLITS[name] == split]
    write(root / "ImageSets" / "Main" / f"{file}.txt", "".join(f"{stem}\n" for stem in stems))
  return root


def _split_voc_of_roboflow(root, pictures):
  for name, split in SPLITS.items():
    _place(pictures, root / split, name)
    write(root / split / f"{name[:-4]}.xml", written.voc_xml(name))
  return root


def _split_yolo(root, pictures):
  for name, split in SPLITS.items():
    _place(pictures, root / split / "images", name)
    write(root / split / "labels" / f"{name[:-4]}.txt", written.yolo_text(name))
  write(
    root / "data.yaml",
    "path: ../datasets/mine\ntrain: train/images\nval: valid/images\n"
    f"names: {dict(enumerate(CLASSES))}\n",
  )
  return root


def _split_csv(root, pictures):
  shutil.copytree(pictures, root)
  return written.table(
    root / "all.csv",
    ["split", "path", "label", "x1", "y1", "x2", "y2"],
    lambda name, w, h, label, x, y, bw, bh: [
      SPLITS[name], f"photos\\{name}", label, x, y, *([x + bw, y + bh] if label else ["", ""]),
    ],
  )  # fmt: skip


SPLIT_LAYOUTS = [
  _split_coco, _split_coco_as_published, _split_voc, _split_voc_of_roboflow, _split_yolo,
  _split_csv,
]  # fmt: skip


@pytest.mark.parametrize("layout", SPLIT_LAYOUTS, ids=lambda layout: layout.__name__[1:])
def test_a_folder_with_splits_brings_them(tmp_path, pictures, layout):
  annotations = layout(tmp_path / "given", pictures)
  prepared = prepare_dataset(tmp_path / "out", annotations, num_threads=1, **ALL_TRAIN)
  info = DatasetInfo.load(prepared.folder)
  for part, split in (("train", "train"), ("val", "valid")):
    names = [name for name in IMAGES if SPLITS[name] == split]
    assert _prepared_boxes(info, part) == {name: EXPECTED[name] for name in names}
  # Though no image for training has a fibre.
  assert prepared.classes == CLASSES
