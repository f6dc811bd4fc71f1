"""Ids that are text, in COCO JSON that says `"id": "cat"`, as numbers and back."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from official_nasfpn.data.json_numbers import whole_number
from official_nasfpn.data.label_map import LabelMap


def with_number_ids(content: dict[str, Any]) -> dict[str, Any]:
  """Returns COCO JSON in which ids that are text are numbers; rows keep the text as `text_id`.

  Ids are numbered in the order of their texts, so that files with the same classes number them
  alike. Where all ids of a list are numbers, however they are spelt, nothing is changed.
  """
  images, image_number = _number(content["images"])
  categories, category_number = _number(content["categories"])
  if not image_number and not category_number:
    return content
  annotations = []
  for row in content["annotations"]:
    if isinstance(row, dict):
      row = dict(row)
      if image_number:
        # Of an image that is not in the list: kept, for the report of such boxes.
        row["image_id"] = image_number.get(str(row.get("image_id")), -1)
      if category_number and "category_id" in row:
        row["category_id"] = category_number.get(str(row["category_id"]), row["category_id"])
    annotations.append(row)
  return {**content, "images": images, "categories": categories, "annotations": annotations}


def with_text_ids(
  results: Iterable[Mapping[str, Any]], image_texts: Mapping[int, str], label_map: LabelMap
) -> list[dict[str, Any]]:
  """Returns COCO results with the ids that the dataset has, text where it is text.

  Args:
    results: with numbers as ids.
    image_texts: text of the images that have one, by number.
    label_map: with that of the classes.
  """
  return [
    {**row, "image_id": image_texts.get(row["image_id"], row["image_id"])}
    for row in with_text_category_ids(results, label_map)
  ]


def with_text_category_ids(
  rows: Iterable[Mapping[str, Any]], label_map: LabelMap
) -> list[dict[str, Any]]:
  """Returns rows with the category ids that the dataset has, text where it is text.

  Args:
    rows: with numbers as category ids.
    label_map: has the text of the classes.
  """
  ids = {category.id: category.dataset_id for category in label_map.categories}
  return [{**row, "category_id": ids.get(row["category_id"], row["category_id"])} for row in rows]


def _number(rows: Sequence[Any]) -> tuple[Sequence[Any], dict[str, int]]:
  """Returns rows with numbers as ids, and the number of each text; none if none is needed."""
  ids = [row["id"] for row in rows if isinstance(row, dict) and "id" in row]
  if not any(isinstance(id_, str) and whole_number(id_) is None for id_ in ids):
    return rows, {}
  texts = sorted({str(id_) for id_ in ids if isinstance(id_, str | int)})
  numbers = {text: number for number, text in enumerate(texts, start=1)}
  numbered = [
    {**row, "id": numbers[str(row["id"])], "text_id": str(row["id"])}
    if isinstance(row, dict) and str(row.get("id")) in numbers
    else row
    for row in rows
  ]
  return numbered, numbers
