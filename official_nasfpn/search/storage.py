"""The files of a search directory: paths, reading and writing, and the lock of the controller."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from official_nasfpn.configuration import Stored, read_stored, read_text
from official_nasfpn.disk import FileLock, disk_errors, write_text
from official_nasfpn.errors import UserError
from official_nasfpn.folders import claim
from official_nasfpn.search.recipe import SearchRecipe, check_continues, read_recipe
from official_nasfpn.search.store.address import (
  is_same_server,
  parse_server,
  server_in_file,
  without_password,
)
from official_nasfpn.search.store.schema import NoSearchYet


def database_path(search_dir: Path) -> Path:
  return search_dir / "search.db"


def store_path(search_dir: Path) -> Path:
  return search_dir / "store.txt"


def store_place(search_dir: Path, confirmed: str | None = None) -> Path | sa.URL:
  """Returns the database that holds the trials of a search: a file or a PostgreSQL address.

  Args:
    search_dir: directory of the search.
    confirmed: address of the database as a person has given it. A password is sent only to such an
      address, because the directory may come from a stranger.

  Raises:
    NoSearchYet: there is no search.
    UserError: its trials are not in the given database, or their database is missing.
  """
  place = new_store_place(search_dir, confirmed)
  if isinstance(place, Path) and not place.is_file():
    check_without_store(search_dir, place.name)
    raise NoSearchYet(f"There is no search in {search_dir}: it has no {place.name}.")
  return place


def check_without_store(search_dir: Path, store: str) -> None:
  """Raises a `UserError` if a directory has trials of a search, given that its store has none.

  Args:
    search_dir: directory of the search.
    store: name of the store for people.
  """
  if any(trial_dir(search_dir, 1).parent.glob("*/architecture.gin")):
    raise UserError(
      f"{search_dir} is a search without its store: it has trials, but {store} is missing or "
      "empty. All rewards were there: put a copy of it back, or search in a new --search_dir."
    )


def new_store_place(search_dir: Path, confirmed: str | None = None) -> Path | sa.URL:
  """Like `store_place`, but the search need not exist yet."""
  there = _server(search_dir)
  if confirmed is None:
    if there is None and database_path(search_dir).is_symlink():
      raise UserError(
        f"{database_path(search_dir)} is a symbolic link; the database of a search must be a real "
        "file. Move the file there."
      )
    return there or database_path(search_dir)
  given = parse_server(confirmed)
  if there is None:
    raise UserError(
      f"--store: {search_dir} does not say that its trials are in a database elsewhere. Leave "
      "--store out."
    )
  _check_same_server(search_dir, there, given)
  return given


def check_store(search_dir: Path, url: str | None) -> None:
  """Checks that the trials of a search are in no other database than the given one.

  Args:
    search_dir: existing directory of the search.
    url: URL of the database; None for a file in the directory, or for the database that an earlier
      start has recorded.

  Raises:
    UserError: the trials are in another database.
  """
  there = _server(search_dir)
  if url is None:
    return
  if database_path(search_dir).exists():
    raise UserError(
      f"The trials of {search_dir} are in its search.db. Continue without --store, or choose "
      "another --search_dir."
    )
  if there is not None:
    _check_same_server(search_dir, there, parse_server(url))


def settle_store(search_dir: Path, url: str | None) -> None:
  """Records in the search directory which database holds the trials, or checks the record.

  Args:
    search_dir: existing directory of the search.
    url: of a database that has answered, as `check_store` takes it: a slip of the pen must not bind
      the directory. The password is not written.

  Raises:
    UserError: the trials are in another database.
  """
  check_store(search_dir, url)
  if url is not None and not store_path(search_dir).exists():
    write_text(store_path(search_dir), f"{without_password(parse_server(url))}\n")


def _server(search_dir: Path) -> sa.URL | None:
  """Returns the database that a search directory names, without a password."""
  path = store_path(search_dir)
  if not os.path.lexists(path):
    return None
  return server_in_file(read_text(path, follows_links=False), str(path))


def _check_same_server(search_dir: Path, there: sa.URL, given: sa.URL) -> None:
  if not is_same_server(there, given):
    raise UserError(
      f"The trials of {search_dir} are in {without_password(there)}, not in "
      f"{without_password(given)}. Give --store that address or none, or choose another "
      "--search_dir."
    )


def recipe_path(search_dir: Path) -> Path:
  return search_dir / "recipe.gin"


def stored_recipe(search_dir: Path) -> Stored:
  """Reads the recipe of a search directory as data.

  Raises:
    UserError: there is no search, or its recipe cannot be read.
  """
  path = recipe_path(search_dir)
  if not path.is_file():
    raise UserError(f"There is no search in {search_dir}: it has no {path.name}.")
  # The report shows the whole text, so it must not be another file.
  return read_stored(path, follows_links=False)


def continued_recipe(recipe: SearchRecipe, search_dir: Path) -> SearchRecipe:
  """Returns a recipe with the numbers that 'auto' is in the search of a directory, if it has one.

  Raises:
    UserError: the recipe in the directory cannot be read.
  """
  if not recipe_path(search_dir).is_file():
    return recipe
  return recipe.continuing(read_recipe([stored_recipe(search_dir)]))


def settle_recipe(recipe: SearchRecipe, search_dir: Path) -> None:
  """Writes `recipe.gin`, or checks that the recipe continues the search that is in the directory.

  Args:
    recipe: recipe of the search.
    search_dir: existing directory of the search.

  Raises:
    UserError: the directory holds another search; the message names what differs.
  """
  path, text = recipe_path(search_dir), recipe.to_gin()
  if claim(search_dir, path.name, text, "search", "--search_dir"):
    return
  there = stored_recipe(search_dir)
  check_continues(read_recipe([there]), recipe, str(search_dir), "--search_dir")
  if there.text != text:
    write_text(path, text)


def trial_dir(search_dir: Path, number: int) -> Path:
  return search_dir / "trials" / f"{number:06d}"


def worker_log(search_dir: Path, worker: str) -> Path:
  return search_dir / "workers" / f"{worker}.log"


def worker_lock(search_dir: Path, worker: str) -> Path:
  return search_dir / "workers" / f".{worker}.lock"


@contextlib.contextmanager
def search_disk_errors(search_dir: Path) -> Iterator[None]:
  """Turns errors of the disk, raised within the block, into a `UserError`."""
  with disk_errors(
    search_dir,
    "Nothing that was recorded is lost: make room or mend its permissions, then start the same "
    "command again.",
  ):
    yield


@contextlib.contextmanager
def exclusive(search_dir: Path) -> Iterator[None]:
  """Creates a search directory if it is missing, and locks it against other controllers.

  Raises:
    UserError: another controller has locked the directory, or it cannot be written.
  """
  with search_disk_errors(search_dir):
    search_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(search_dir / ".controller.lock")
    if not lock.acquire():
      raise UserError(
        f"Another search, process {lock.holder()}, is running in {search_dir}. Wait for it, stop "
        "it, or choose another --search_dir."
      )
    try:
      yield
    finally:
      lock.release()
