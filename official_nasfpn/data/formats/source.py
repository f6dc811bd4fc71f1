"""What a dataset is prepared from: a training split, and one for validation where there is one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from official_nasfpn.data.foreign_formats import refuse_foreign_images
from official_nasfpn.data.formats.reading import read_annotations
from official_nasfpn.data.formats.structure import Split
from official_nasfpn.data.report import Report
from official_nasfpn.errors import UserError


@dataclass(frozen=True)
class Source:
  """The splits that are prepared; `others` are left out, which the report says.

  Attributes:
    train: the training images, or all where `val` is None.
    val: the validation images.
    others: splits that are there and not prepared.
  """

  train: Split
  val: Split | None = None
  others: tuple[Split, ...] = ()

  @property
  def splits(self) -> list[Split]:
    return [self.train] if self.val is None else [self.train, self.val]


def read_source(
  annotations: str | Path | None,
  images: str | Path | None,
  val_annotations: str | Path | None,
  val_images: str | Path | None,
  format_name: str | None,
  report: Report,
) -> Source:
  """Reads what the options of `nasfpn prepare` name.

  Raises:
    UserError: an option is missing, or the annotations cannot be read.
  """
  if not annotations:
    raise UserError(
      "Give --annotations, and --images where the images are elsewhere; or --synthetic for the "
      "embedded dataset."
    )
  if val_images and not val_annotations:
    raise UserError("--val_images needs --val_annotations.")
  for flag, folder in (("images", images), ("val_images", val_images)):
    if folder:
      refuse_foreign_images(flag, folder)
  splits = read_annotations(annotations, images, format_name, report)
  if not val_annotations:
    return _own_splits(splits, report)
  train = _only(splits, "train", annotations)
  val_splits = read_annotations(val_annotations, val_images or images, format_name, report)
  val = _only(val_splits, "val", val_annotations)
  others = [split for split in (*splits, *val_splits) if split not in (train, val)]
  train, val, *others = _with_same_ids([train, val, *others])
  return Source(train, val, tuple(others))


def _own_splits(splits: Sequence[Split], report: Report) -> Source:
  named = {split.name: split for split in splits}
  # What lies beside the folders of splits belongs to none of them; it is trained on.
  train = named.get("train") or named.get("")
  if train is None:
    raise _none_to_train_on(splits)
  val = named.get("val")
  test = named.get("test")
  if test is not None:
    problem = "images_test_as_val" if val is None else "images_test_unused"
    for row in test.content["images"]:
      report.note(problem, str(row.get("file_name")))
  used = (train, val or test)
  for split in splits:
    if split not in used and split is not test:
      for row in split.content["images"]:
        report.note("images_in_no_split", str(row.get("file_name")))
  others = tuple(split for split in splits if split not in used)
  return Source(train, val or test, others)


def _only(splits: Sequence[Split], name: str, given: str | Path) -> Split:
  """Returns the split that was meant: the only one, or that of a name."""
  if len(splits) == 1:
    if name == "train" and splits[0].name not in ("train", ""):
      raise _none_to_train_on(splits)
    return splits[0]
  split = next((split for split in splits if split.name == name), None)
  if split is None:
    found = ", ".join(repr(one.name or "no name") for one in splits)
    raise UserError(f"{given} has the splits {found}, and none called {name}; give one of them.")
  return split


def _none_to_train_on(splits: Sequence[Split]) -> UserError:
  found = ", ".join(split.name for split in splits)
  return UserError(
    f"{splits[0].origin} has the split{'s' * (len(splits) > 1)} {found} and none to train on; give "
    "the one to train on to --annotations, and the other to --val_annotations."
  )


def _with_same_ids(splits: Sequence[Split]) -> list[Split]:
  """Returns splits with the same ids for the same names, where ids were made up here."""
  if not all(split.ids_are_ours for split in splits):
    return list(splits)
  lists = [split.content["categories"] for split in splits]
  if not all(_is_category(row) for rows in lists for row in rows):
    return list(splits)  # What is wrong is said when they are checked.
  by_name = {row["name"]: row for rows in lists for row in rows}
  id_of = {name: id_ for id_, name in enumerate(sorted(by_name), start=1)}
  categories = [{**by_name[name], "id": id_} for name, id_ in id_of.items()]

  def renumbered(split: Split) -> Split:
    new = {row["id"]: id_of[row["name"]] for row in split.content["categories"]}
    annotations = [
      {**row, "category_id": new[row["category_id"]]}
      if isinstance(row, dict) and _is_known(row.get("category_id"), new)
      else row
      for row in split.content["annotations"]
    ]
    content = {**split.content, "annotations": annotations, "categories": categories}
    return replace(split, content=content)

  return [renumbered(split) for split in splits]


def _is_category(row: Any) -> bool:
  return (
    isinstance(row, dict) and isinstance(row.get("id"), int) and isinstance(row.get("name"), str)
  )


def _is_known(category_id: Any, known: Mapping[int, int]) -> bool:
  return isinstance(category_id, int) and category_id in known
