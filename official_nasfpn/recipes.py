"""Lists the recipes that come with this package, and finds them by name.

    nasfpn recipes

In a checkout they lie in its top-level folder `gin/`; the build puts that folder into the package.
A flag `--gin_file gin/bccd_search.gin` names one wherever there is no such file.
"""

import itertools
import re
from pathlib import Path

from official_nasfpn.errors import UserError, nearest_name, refuse_positional_arguments, run_program

_PACKAGE = Path(__file__).resolve().parent
_FOLDER = "gin"


def recipes_folder() -> Path:
  """Returns the folder of the recipes.

  Raises:
    UserError: this installation lacks it.
  """
  folder = _PACKAGE / _FOLDER
  if not folder.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file():
    folder = _PACKAGE.parent / _FOLDER
  if not folder.is_dir():
    raise UserError(
      f"This installation has no recipes: there is no folder {folder}. Install official-nasfpn "
      "again."
    )
  return folder


def recipe_names() -> list[str]:
  """Returns all recipes by the names that `find_recipe` knows, such as `gin/bccd_search.gin`."""
  folder = recipes_folder()
  paths = sorted(folder.rglob("*.gin"), key=lambda path: (len(path.parts), path))
  return [f"{_FOLDER}/{path.relative_to(folder).as_posix()}" for path in paths]


def find_recipe(name: str | Path) -> Path:
  """Returns the file that `--gin_file` names.

  Args:
    name: a file; or, where there is no such file, a recipe of this package, with or without its
      folder `gin/` and its ending: `gin/bccd_search.gin`, `bccd_search`, `paper/ssdlite.gin`.

  Raises:
    UserError: there is neither; the message proposes the nearest recipe.
  """
  path = Path(name)
  if path.is_file():
    return path
  if path.is_absolute():
    raise UserError(f"There is no gin file {str(path)!r}.")
  try:
    folder = recipes_folder()
  except UserError as error:
    raise UserError(f"There is no gin file {str(path)!r}. {error}") from None
  wanted = _full_name(path)
  names = recipe_names()
  if wanted in names:
    return folder / Path(wanted).relative_to(_FOLDER)
  # Compared by file name: the folders are few.
  by_stem = {Path(known).stem: known for known in names}
  raise UserError(
    f"There is no gin file {str(path)!r}, and no recipe of that name in {folder}. Did you mean "
    f"{by_stem[nearest_name(path.stem, by_stem)]}? `nasfpn recipes` lists them."
  )


def _full_name(path: Path) -> str:
  name = path.as_posix().removeprefix(f"{_FOLDER}/")
  return f"{_FOLDER}/{name}" if name.endswith(".gin") else f"{_FOLDER}/{name}.gin"


def _summary(recipe: Path) -> str:
  """Returns the start of a recipe's first comment, up to a full stop or colon."""
  text = recipe.read_text(encoding="utf-8")
  comment = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
  words = " ".join(line.removeprefix("#").strip() for line in comment)
  return re.split(r"[.:?!](?:\s|$)", words, maxsplit=1)[0]


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  folder = recipes_folder()
  names = recipe_names()
  width = max(map(len, names))
  for name in names:
    print(f"  {name:{width}}  {_summary(folder / Path(name).relative_to(_FOLDER))}")
  print(f"\nThey lie in {folder}.")


if __name__ == "__main__":
  run_program(main)
