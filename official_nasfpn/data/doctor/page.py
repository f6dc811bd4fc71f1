"""What the doctor found, as one HTML file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from official_nasfpn import __version__
from official_nasfpn.data.doctor.charts import size_charts
from official_nasfpn.data.doctor.examination import Examination
from official_nasfpn.data.doctor.findings import Finding
from official_nasfpn.data.doctor.meanings import Grade
from official_nasfpn.data.doctor.pictures import draw_findings
from official_nasfpn.reporting.templates import content_policy, style, templates

_HERE = Path(__file__).parent
# COCO's small ends at 32 x 32, its medium at 96 x 96.
_SMALL, _MEDIUM = 32**2, 96**2


def render_page(
  title: str, read_as: Sequence[str], examination: Examination, findings: Sequence[Finding],
  now: float,
) -> str:  # fmt: skip
  """Returns the page, complete in itself.

  Args:
    title: what was checked.
    read_as: a line on each annotation file that was read.
    examination: all that was seen.
    findings: what was found, the worst first.
    now: Unix time.
  """
  return (
    templates(_HERE)
    .get_template("doctor.html")
    .render(
      title=title,
      read_as=read_as,
      verdict=verdict(findings),
      findings=findings,
      pictures=draw_findings(examination, findings),
      grades=list(Grade),
      splits=examination.splits,
      split_rows=split_rows(examination),
      class_rows=class_rows(examination),
      size_rows=size_rows(examination),
      charts=size_charts(examination),
      num_images=len(examination.images),
      num_boxes=sum(len(image.boxes) for image in examination.images),
      num_classes=examination.label_map.num_classes,
      style=style(_HERE / "doctor.css"),
      policy=content_policy(images=True),
      version=__version__,
      now=now,
    )
  )


def verdict(findings: Sequence[Finding]) -> str:
  """Returns a sentence that says how the dataset is."""
  counts = Counter(finding.grade for finding in findings)
  bad, doubtful = counts[Grade.BAD], counts[Grade.DOUBTFUL]
  if not bad and not doubtful:
    return "Nothing was found that costs AP."

  def things(number: int) -> str:
    return "one thing" if number == 1 else f"{number} things"

  first = f"Found {things(bad)} that cost{'s' if bad == 1 else ''} AP" if bad else ""
  second = f"{things(doubtful)} to look at" if doubtful else ""
  if not first:
    return f"Nothing was found that surely costs AP, and {second}."
  return f"{first}, and {second}." if second else f"{first}."


def split_rows(examination: Examination) -> list[tuple[str, int, int, int, float]]:
  """Returns name, images, those without boxes, boxes, and boxes in an image of each split."""
  rows = []
  for split in examination.splits:
    images = [image for image in examination.images if image.split == split]
    boxes = sum(len(image.boxes) for image in images)
    empty = sum(not image.boxes for image in images)
    rows.append((split, len(images), empty, boxes, boxes / max(len(images), 1)))
  return rows


def class_rows(examination: Examination) -> list[tuple[str, list[tuple[int, int]], int]]:
  """Returns name, boxes and images in each split, and boxes of all splits of each class."""
  boxes: Counter[tuple[str, int]] = Counter()
  images: Counter[tuple[str, int]] = Counter()
  for image in examination.images:
    classes = Counter(box.class_index for box in image.boxes)
    for index, count in classes.items():
      boxes[image.split, index] += count
      images[image.split, index] += 1
  rows = []
  for index, category in enumerate(examination.label_map.categories):
    counts = [(boxes[split, index], images[split, index]) for split in examination.splits]
    rows.append((category.name, counts, sum(count for count, _ in counts)))
  return rows


def size_rows(examination: Examination) -> list[tuple[str, int, list[float], float, float]]:
  """Returns name, boxes, shares of small, medium and large ones, median side and ratio by class."""
  sides: dict[int, list[tuple[float, float]]] = {}
  for image in examination.images:
    for box in image.boxes:
      sides.setdefault(box.class_index, []).append((box.width, box.height))
  rows = []
  for index, category in enumerate(examination.label_map.categories):
    known = sides.get(index)
    if not known:
      continue
    areas = [width * height for width, height in known]
    small = sum(area < _SMALL for area in areas) / len(areas)
    large = sum(area >= _MEDIUM for area in areas) / len(areas)
    ratios = sorted(width / height for width, height in known)
    middle = len(areas) // 2
    rows.append(
      (
        category.name,
        len(areas),
        [small, 1 - small - large, large],
        sorted(areas)[middle] ** 0.5,
        ratios[middle],
      )
    )
  return rows
