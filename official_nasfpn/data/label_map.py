"""Class indices of a detector and the category ids and names of the dataset behind them."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json


@dataclass(frozen=True)
class Category:
  """One class as the dataset knows it.

  Attributes:
    id: the dataset's own number for the class; ids may have gaps and start anywhere.
    name: what a person calls it.
    text_id: the dataset's id where that is text, and `id` a number given to it.
  """

  id: int
  name: str
  text_id: str | None = field(default=None, compare=False)

  @property
  def dataset_id(self) -> int | str:
    """The id as the dataset has it."""
    return self.id if self.text_id is None else self.text_id


@dataclass(frozen=True)
class LabelMap:
  """The classes of a dataset; a category's position is its class index, 0 to num_classes - 1.

  TFRecords hold class index + 1, since Model Garden counts the background as label 0.

  Attributes:
    categories: the classes in the order of their class indices.
  """

  categories: tuple[Category, ...]

  def __post_init__(self) -> None:
    ids = [category.id for category in self.categories]
    twice = sorted({id_ for id_ in ids if ids.count(id_) > 1})
    if twice:
      raise ValueError(f"category id {twice[0]} stands for more than one category")

  @property
  def num_classes(self) -> int:
    """Number of object classes; the background is not one of them."""
    return len(self.categories)

  def category_id(self, index: int) -> int:
    """Returns the dataset's id of a class index."""
    return self.categories[index].id

  def name(self, index: int) -> str:
    """Returns the name of a class index."""
    return self.categories[index].name

  def index_of(self, category_id: int) -> int:
    """Returns the class index of a dataset's category id.

    Raises:
      KeyError: the dataset has no such category.
    """
    for index, category in enumerate(self.categories):
      if category.id == category_id:
        return index
    raise KeyError(category_id)

  def to_json(self) -> str:
    """Returns the text that `load` reads; `label` is what TFRecords hold."""
    rows = [
      {"label": index + 1, "id": category.id, "name": category.name}
      | ({"text_id": category.text_id} if category.text_id is not None else {})
      for index, category in enumerate(self.categories)
    ]
    return json.dumps({"categories": rows}, indent=2, ensure_ascii=False) + "\n"

  def save(self, path: str | Path) -> None:
    """Writes the label map as JSON."""
    Path(path).write_text(self.to_json(), encoding="utf-8")

  @classmethod
  def load(cls, path: str | Path) -> "LabelMap":
    """Reads a label map that `save` wrote.

    Raises:
      UserError: the file is missing, cannot be read, or is not a label map.
    """
    try:
      rows = parse_json(Path(path).read_text(encoding="utf-8"))["categories"]
      labels = [row["label"] for row in rows]
      categories = tuple(
        Category(int(row["id"]), str(row["name"]), row.get("text_id")) for row in rows
      )
      if labels != list(range(1, len(rows) + 1)):
        raise ValueError(f"labels {labels} are not 1, 2, 3, ...")
      return cls(categories)
    except FileNotFoundError as error:
      raise UserError(f"There is no label map {str(path)!r}.") from error
    except OSError as error:
      raise UserError(f"The label map {path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
      raise UserError(f"{path} is not a label map: {error!r}.") from error
