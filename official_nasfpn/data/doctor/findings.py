"""What is wrong with a dataset, or may be, and what each thing means for AP."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from official_nasfpn.data.coco_json import Box
from official_nasfpn.data.doctor import duplicates
from official_nasfpn.data.doctor.examination import Examination, ExaminedImage
from official_nasfpn.data.doctor.meanings import MEANINGS, Grade
from official_nasfpn.data.json_numbers import number
from official_nasfpn.data.preparation import named_otherwise
from official_nasfpn.data.report import PROBLEMS

# Shares of the image's area and side, pixels, and ratios from which a box is suspicious.
_WHOLE_IMAGE = 0.98
_TINY_SIDE = 4.0
_THIN = 20.0
_SAME_BOX = 0.95
_FEW_BOXES = 20
_BEYOND_BORDER = 0.1


@dataclass(frozen=True)
class Mark:
  """A box to show in a picture.

  Attributes:
    place: of its image in `Examination.images`.
    box: the box.
  """

  place: int
  box: Box


@dataclass(frozen=True)
class Finding:
  """One thing that was found.

  Attributes:
    key: what it is, for programs.
    grade: whether it costs AP, may cost some, or is only said.
    title: what it is, after its number.
    count: how often it was found.
    meaning: what it means for AP, and what to do.
    examples: the first few.
    places: images to show, the worst first.
    marks: boxes to show in them; without any, all boxes of the images are drawn.
  """

  key: str
  grade: Grade
  title: str
  count: int
  meaning: str
  examples: Sequence[str]
  places: Sequence[int] = ()
  marks: Sequence[Mark] = field(default=())


def find(examination: Examination) -> list[Finding]:
  """Returns all findings, those that cost most first."""
  sameness = _sameness(examination.images)
  found = [
    *_leaks(examination, sameness),
    *_classes(examination),
    *_units(examination),
    *_suspicious(examination),
    *_annotated_twice(examination),
    *_duplicates(examination, sameness),
    *_reported(examination),
  ]
  order = [Grade.BAD, Grade.DOUBTFUL, Grade.NOTE]
  return sorted(
    (finding for finding in found if finding.count), key=lambda finding: order.index(finding.grade)
  )


def _make(
  key: str,
  examples: Sequence[str],
  places: Sequence[int] = (),
  marks: Sequence[Mark] = (),
  count: int | None = None,
) -> Finding:
  grade, title, meaning = MEANINGS[key]
  number = len(examples) if count is None else count
  return Finding(key, grade, title, number, meaning, tuple(examples[:12]), places, marks)


def _sameness(images: Sequence[ExaminedImage]) -> dict[str, list[list[int]]]:
  """Returns groups of images by the way in which they are the same, the strictest first."""
  return {
    "files": duplicates.same_files(images),
    "pixels": duplicates.same_pixels(images),
    "looks": duplicates.same_looks(images),
  }


def _leaks(
  examination: Examination, sameness: Mapping[str, Sequence[Sequence[int]]]
) -> Iterator[Finding]:
  """Yields what is in several splits, once for each way of being the same."""
  images = examination.images
  known: set[frozenset[int]] = set()
  for key, all_groups in sameness.items():
    groups = [group for group in all_groups if len(_splits_of(images, group)) > 1]
    groups = [group for group in groups if frozenset(group) not in known]
    known |= {frozenset(group) for group in groups}
    yield _make(f"leaks_{key}", [_named(images, group) for group in groups], _pairs(images, groups))


def _duplicates(
  examination: Examination, sameness: Mapping[str, Sequence[Sequence[int]]]
) -> Iterator[Finding]:
  images = examination.images
  for key, all_groups in sameness.items():
    groups = [group for group in all_groups if len(_splits_of(images, group)) == 1]
    yield _make(
      f"duplicate_{key}",
      [_named(images, group) for group in groups],
      [place for group in groups[:2] for place in group[:2]],
    )


def _splits_of(images: Sequence[ExaminedImage], group: Sequence[int]) -> set[str]:
  return {images[place].split for place in group}


def _named(images: Sequence[ExaminedImage], group: Sequence[int]) -> str:
  shown = [f"{images[place].name} ({images[place].split})" for place in group[:4]]
  return " = ".join(shown) + (f" and {len(group) - 4} more" if len(group) > 4 else "")


def _pairs(images: Sequence[ExaminedImage], groups: Sequence[Sequence[int]]) -> list[int]:
  """Returns two images of different splits of each of the first groups."""
  places = []
  for group in groups[:2]:
    first = group[0]
    other = next(place for place in group if images[place].split != images[first].split)
    places += [first, other]
  return places


def _classes(examination: Examination) -> Iterator[Finding]:
  """Yields classes that a split lacks, that are rare, or whose names or ids are mixed up."""
  label_map = examination.label_map
  renamed = [
    f"{first.id}: {first.name!r} in {examination.splits[0]}, {second.name!r} in {split}"
    for split, other in examination.other_label_maps.items()
    for first, second in named_otherwise(label_map, other)
  ]
  yield _make("classes_renamed", renamed)
  counts = {
    split: Counter(
      box.class_index for image in examination.images if image.split == split for box in image.boxes
    )
    for split in examination.splits
  }
  names = [category.name for category in label_map.categories]
  first = examination.splits[0]
  total = sum(counts.values(), Counter())
  present = [index for index in range(len(names)) if total[index]]
  yield _make("classes_empty", [names[i] for i in range(len(names)) if not total[i]])
  yield _make("classes_untrained", [names[i] for i in present if not counts[first][i]])
  for split in examination.splits[1:]:
    missing = [names[i] for i in present if counts[first][i] and not counts[split][i]]
    finding = _make("classes_unmeasured", missing)
    yield Finding(**{**finding.__dict__, "title": f"{finding.title} {split}"})
  rare = [i for i in present if 0 < counts[first][i] < _FEW_BOXES]
  yield _make("classes_rare", [f"{names[i]}: {counts[first][i]}" for i in rare])
  alike: dict[str, list[str]] = {}
  for name in names:
    alike.setdefault("".join(filter(str.isalnum, name.casefold())), []).append(name)
  twice = [" / ".join(map(repr, group)) for group in alike.values() if len(group) > 1]
  yield _make("classes_alike", twice)


def _raw_boxes(image: ExaminedImage) -> Iterator[tuple[float, float, float, float]]:
  for row in image.rows:
    box = row.get("bbox")
    if isinstance(box, list | tuple) and len(box) == 4:
      x, y, width, height = map(number, box)
      if x is not None and y is not None and width is not None and height is not None:
        yield x, y, width, height


def _units(examination: Examination) -> Iterator[Finding]:
  """Yields boxes in other numbers than x, y, width and height in pixels."""
  shares, corners, total, beyond = [], [], 0, 0
  places = []
  for place, image in enumerate(examination.images):
    if image.size is None or min(image.size) < 8:
      continue
    for box in _raw_boxes(image):
      x, y, width, height = box
      total += 1
      example = f"{image.name}: {[round(value, 4) for value in box]}"
      # Nobody draws boxes of less than a pixel within the first one.
      if 0 < width <= 1 and 0 < height <= 1 and 0 <= x <= 1 and 0 <= y <= 1:
        shares.append(example)
        places.append(place)
      is_beyond = x + width > image.size[0] + 1 or y + height > image.size[1] + 1
      beyond += is_beyond
      if x < width <= image.size[0] + 1 and y < height <= image.size[1] + 1:
        corners.append((example, place, is_beyond))
  yield _make("boxes_normalised", shares, list(dict.fromkeys(places))[:3])
  # All make sense as corners, and many make none as sides.
  if total and beyond > _BEYOND_BORDER * total and len(corners) == total:
    seen = [(example, place) for example, place, is_beyond in corners if is_beyond]
    yield _make(
      "boxes_corners", [example for example, _ in seen], list(dict.fromkeys(p for _, p in seen))[:3]
    )


def _suspicious(examination: Examination) -> Iterator[Finding]:
  """Yields boxes over the whole image, tiny and thin ones; they are kept all the same."""
  marks: dict[str, list[tuple[float, str, Mark]]] = {key: [] for key in _SUSPICIOUS}
  for place, image in enumerate(examination.images):
    if image.size is None:
      continue
    for box in image.boxes:
      name = examination.label_map.name(box.class_index)
      example = f"{image.name}: {name} {box.width:.4g} x {box.height:.4g}"
      for key, weigh in _SUSPICIOUS.items():
        if (badness := weigh(box, image.size)) > 1:
          marks[key].append((badness, example, Mark(place, box)))
  for key, rows in marks.items():
    rows.sort(key=lambda row: -row[0])
    shown = [mark for _, _, mark in rows]
    places = list(dict.fromkeys(mark.place for mark in shown))[:3]
    yield _make(key, [example for _, example, _ in rows], places, shown)


# How much a box is what it is suspected of; above 1 it is reported.
_SUSPICIOUS: Mapping[str, Callable[[Box, tuple[int, int]], float]] = {
  "boxes_whole_image": lambda box, size: (
    box.width * box.height / (size[0] * size[1]) / _WHOLE_IMAGE
  ),
  "boxes_tiny": lambda box, size: _TINY_SIDE / max(min(box.width, box.height), 1e-9),
  "boxes_thin": lambda box, size: (
    max(box.width, box.height) / max(min(box.width, box.height), 1e-9) / _THIN
  ),
}


def _annotated_twice(examination: Examination) -> Iterator[Finding]:
  """Yields boxes that lie on another one, of the same class and of two."""
  same: list[tuple[str, Mark]] = []
  other: list[tuple[str, Mark]] = []
  for place, image in enumerate(examination.images):
    boxes = [box for box in image.boxes if not box.is_crowd]
    for index, second in enumerate(boxes):
      for first in boxes[:index]:
        if _iou(first, second) < _SAME_BOX:
          continue
        names = [examination.label_map.name(box.class_index) for box in (first, second)]
        if names[0] == names[1]:
          same.append((f"{image.name}: {names[0]}", Mark(place, second)))
        else:
          other.append((f"{image.name}: {names[0]} and {names[1]}", Mark(place, second)))
        break
  for key, rows in (("boxes_twice", same), ("boxes_two_classes", other)):
    marks = [mark for _, mark in rows]
    places = list(dict.fromkeys(mark.place for mark in marks))[:3]
    yield _make(key, [example for example, _ in rows], places, marks)


def _iou(first: Box, second: Box) -> float:
  width = min(first.x + first.width, second.x + second.width) - max(first.x, second.x)
  height = min(first.y + first.height, second.y + second.height) - max(first.y, second.y)
  if width <= 0 or height <= 0:
    return 0.0
  common = width * height
  return common / (first.width * first.height + second.width * second.height - common)


def _reported(examination: Examination) -> Iterator[Finding]:
  """Yields what preparing the dataset would report."""
  places: dict[str, list[int]] = {}
  for place, image in enumerate(examination.images):
    for problem in image.report.to_json():
      places.setdefault(problem, []).append(place)
  for problem, found in examination.report.to_json().items():
    grade, title, meaning = MEANINGS[problem]
    shown = places.get(problem, [])
    # The images with most of them first.
    shown = sorted(shown, key=lambda place: -examination.images[place].report.count(problem))
    has_picture = problem in ("boxes_outside", "boxes_clipped", "images_many_boxes")
    yield Finding(
      problem,
      grade,
      title or PROBLEMS[problem],
      found["count"],
      meaning,
      found["examples"],
      shown[:3] if has_picture else (),
    )
