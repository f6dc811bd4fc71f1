"""One small dataset, and writers of it in every format that is read."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

# Width, height, and boxes as (class, x, y, width, height): at the border, odd sizes, a pixel wide.
IMAGES = {
  "a.png": (64, 48, [("cell", 0, 0, 64, 48), ("dust", 10, 20, 5, 7)]),
  "b.png": (50, 80, [("dust", 49, 79, 1, 1)]),
  "c d.jpg": (
    120,
    33,
    [("cell", 1, 1, 30, 31), ("cell", 80, 2, 40, 31), ("long fibre", 3, 4, 5, 6)],
  ),
  "e.png": (40, 40, []),
}
CLASSES = ("cell", "dust", "long fibre")
# CSV and TensorFlow's tables have no row for an image without boxes; here one without a box.
SPLITS = {"a.png": "train", "b.png": "train", "c d.jpg": "valid", "e.png": "train"}


def draw(folder: Path) -> None:
  """Draws the images of the dataset."""
  folder.mkdir(parents=True, exist_ok=True)
  for number, (name, (width, height, _)) in enumerate(IMAGES.items()):
    noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(folder / name)


def write(path: Path, text: str) -> Path:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text, encoding="utf-8")
  return path


def coco(names, ids=lambda value: value):
  """Returns COCO JSON of some images; `ids` makes the ids of images and categories."""
  rows = [(name, label, box) for name in names for label, *box in IMAGES[name][2]]
  numbers = {name: ids(index) for index, name in enumerate(IMAGES, start=7)}
  categories = {label: ids(index) for index, label in enumerate(CLASSES, start=1)}
  return {
    "images": [
      {"id": numbers[name], "file_name": name, "width": IMAGES[name][0], "height": IMAGES[name][1]}
      for name in names
    ],
    "annotations": [
      {"id": i, "image_id": numbers[name], "category_id": categories[label], "bbox": box}
      for i, (name, label, box) in enumerate(rows, start=1)
    ],
    "categories": [{"id": id_, "name": label} for label, id_ in categories.items()],
  }


def voc_xml(name, first=1):
  """Returns VOC's XML of an image; `first` is the number of the first pixel."""
  width, height, boxes = IMAGES[name]
  objects = "".join(
    f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x + first}</xmin>"
    f"<ymin>{y + first}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
    for label, x, y, w, h in boxes
  )
  return (
    f"<annotation><folder>x</folder><filename>{name}</filename><size><width>{width}</width>"
    f"<height>{height}</height><depth>3</depth></size>{objects}</annotation>"
  )


def yolo_text(name, outlines=False):
  """Returns the lines of an image's boxes, as boxes or as outlines of five points."""
  width, height, boxes = IMAGES[name]
  lines = []
  for label, x, y, w, h in boxes:
    if outlines:
      points = [(x, y), (x + w, y), (x + w, y + h), (x + w / 2, y + h), (x, y + h)]
      numbers = [value for px, py in points for value in (px / width, py / height)]
    else:
      numbers = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    lines.append(" ".join([str(CLASSES.index(label)), *map(repr, numbers)]))
  return "".join(f"{line}\n" for line in lines)


def table(path, header, row, separator=",", decimal=".", background=True):
  """Writes a table; `row` makes the cells of (name, width, height, label, x, y, w, h)."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file, delimiter=separator)
    if header:
      writer.writerow(header)
    for name, (width, height, boxes) in IMAGES.items():
      for label, x, y, w, h in boxes:
        cells = row(name, width, height, label, x, y, w, h)
        writer.writerow(
          [str(cell).replace(".", decimal) if isinstance(cell, float) else cell for cell in cells]
        )
      if not boxes and background:
        empty = row(name, width, height, "", "", "", "", "") if header else None
        writer.writerow(empty or [name, "", "", "", "", ""])
  return path


def label_studio(short=False):
  """Returns Label Studio's JSON of all images, or its JSON-MIN."""
  tasks = []
  for number, (name, (width, height, boxes)) in enumerate(IMAGES.items(), start=1):
    shapes = [
      {
        "original_width": width, "original_height": height, "x": 100 * x / width,
        "y": 100 * y / height, "width": 100 * w / width, "height": 100 * h / height,
        "rotation": 0, "rectanglelabels": [label],
      }
      for label, x, y, w, h in boxes
    ]  # fmt: skip
    image = f"/data/upload/1/0a1b2c3d-{name.replace(' ', '%20')}"
    if short:
      task = {"image": image, "id": number, "annotation_id": number, "annotator": 1}
      tasks.append(task | ({"label": shapes} if shapes else {}))
    else:
      size = {"original_width": width, "original_height": height}
      results = [{**size, "type": "rectanglelabels", "value": shape} for shape in shapes]
      annotation = {"id": number, "was_cancelled": False, "result": results}
      tasks.append({"id": number, "data": {"image": image}, "annotations": [annotation]})
  return json.dumps(tasks)


def cvat():
  """Returns CVAT's XML of all images."""
  images = ""
  for number, (name, (width, height, boxes)) in enumerate(IMAGES.items()):
    shapes = "".join(
      f'<box label="{label}" occluded="0" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"/>'
      for label, x, y, w, h in boxes
    )
    images += (
      f'<image id="{number}" name="{name}" width="{width}" height="{height}">{shapes}</image>'
    )
  return f"<?xml version='1.0'?><annotations><version>1.1</version>{images}</annotations>"
