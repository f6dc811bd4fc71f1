"""The recipe that a search directory belongs to, and what may change when it is continued."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from official_nasfpn.configuration import Stored, stored_bindings
from official_nasfpn.disk import write_text
from official_nasfpn.errors import UserError
from official_nasfpn.folders import claim
from official_nasfpn.search import storage

_NUM_TRIALS = "Search.num_trials"
# How the work is done, not what is computed.
_FREE = ("Search.lease_seconds", "Search.max_attempts", "Search.trials_per_worker")


def settle_recipe(
  recipe: str, search_dir: Path, resolve: Callable[[Stored], str] | None = None
) -> None:
  """Writes `recipe.gin`, or checks that a search which is there already has the same recipe.

  The number of trials may have been raised, and how workers are kept may be another.

  Args:
    recipe: resolved gin text.
    search_dir: of the search; it exists.
    resolve: reads a recipe and writes every setting of it, so that a search from before a setting
      was added has its default; without it the recipe there is taken as it is.

  Raises:
    UserError: the directory holds another search; the message names what differs.
  """
  path = storage.recipe_path(search_dir)
  if claim(search_dir, path.name, recipe, "search", "--search_dir"):
    return
  there = storage.stored_recipe(search_dir)
  stored = _bindings(there.text, there.where)
  old = _bindings(resolve(there), there.where) if resolve else stored
  new = _bindings(recipe, "the recipe")
  _check_continues(old, new, str(search_dir), "--search_dir")
  if stored != new:
    write_text(path, recipe)


def check_continues(
  old_recipe: str, recipe: str, store: str, resolve: Callable[[str], str] | None = None
) -> None:
  """Checks that the search in a trial store may be continued with a recipe.

  Args:
    old_recipe: resolved gin text, of the search that is there.
    recipe: resolved gin text.
    store: what people call it.
    resolve: as that of `settle_recipe`, from text to text.

  Raises:
    UserError: it is another search; the message names what differs.
  """
  old = _bindings(old_recipe, store)
  if resolve:
    old = _bindings(resolve(old_recipe), store)
  _check_continues(old, _bindings(recipe, "the recipe"), store, "--store")


def recipe_version(recipe: str) -> str:
  """Returns a short name of what a recipe computes: what may change in a search is left out.

  Args:
    recipe: resolved gin text.
  """
  counting = [
    f"{key} = {value!r}\n"
    for key, value in sorted(_bindings(recipe, "the recipe").items())
    if key not in (*_FREE, _NUM_TRIALS)
  ]
  return hashlib.sha256("".join(counting).encode()).hexdigest()[:12]


def _check_continues(old: dict[str, object], new: dict[str, object], place: str, flag: str) -> None:
  differing = [
    f"  {key}: {old.get(key, '(none)')} there, {new.get(key, '(none)')} now"
    for key in sorted(old.keys() | new.keys())
    if old.get(key) != new.get(key) and not _may_change(key, old, new)
  ]
  if differing:
    raise UserError(
      f"{place} holds a search with another recipe; choose another {flag}, or "
      f"continue that one ({_NUM_TRIALS} may be raised). What differs:\n" + "\n".join(differing)
    )


def _may_change(key: str, old: dict[str, object], new: dict[str, object]) -> bool:
  return key in _FREE or (key == _NUM_TRIALS and old.get(key, 0) <= new[key])


def read_recipe(search_dir: Path) -> dict[str, object]:
  """Returns the bindings of a search's recipe, such as `Search.num_trials`, as data.

  Args:
    search_dir: of the search.

  Raises:
    UserError: there is no recipe, or it is not a resolved one.
  """
  stored = storage.stored_recipe(search_dir)
  return _bindings(stored.text, stored.where)


def _bindings(text: str, where: str) -> dict[str, object]:
  return stored_bindings(Stored(text, f"{where} is not a resolved recipe"))
