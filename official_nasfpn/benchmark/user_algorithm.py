"""The user's algorithm: named as MODULE:CLASS, imported, and watched while it runs."""

import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.errors import UserError, nearest_name
from official_nasfpn.search.algorithms.algorithm import (
  AlgorithmSettings,
  Outcome,
  Proposal,
  SearchAlgorithm,
)

_METHODS = ("propose", "learn")
# Where files of others lie; Python's own import machinery is frozen.
_LIBRARIES = ("<frozen", *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))


def load_algorithm(name: str) -> AlgorithmSettings:
  """Imports an algorithm's settings; the module's code is run.

  Args:
    name: `MODULE:CLASS`, where the module can be imported, also from the current folder, or is a
      file `mine.py`; or `MODULE:OBJECT`, an object of such a class.

  Raises:
    UserError: there is no such module or name, the import fails, or it is no algorithm.
  """
  module_name, _, attribute = name.rpartition(":")
  if not module_name or not attribute:
    raise UserError(f"--algorithm {name!r}: write MODULE:CLASS, such as my_search:MySearch.")
  module = _import(name, module_name)
  if not hasattr(module, attribute):
    public = [other for other in vars(module) if other[0] != "_"]
    nearest = f" Did you mean {nearest_name(attribute, public)}?" if public else ""
    raise UserError(f"--algorithm {name}: {module_name} has no {attribute}.{nearest}")
  value = getattr(module, attribute)
  if isinstance(value, type):
    lacking = [method for method in ("check", "make") if not callable(getattr(value, method, None))]
    if lacking:
      raise UserError(
        f"--algorithm {name}: {attribute} is no AlgorithmSettings, it has no method "
        f"{' and no '.join(lacking)}. Name the class with the settings; "
        "docs/benchmark.md has an example."
      )
    try:
      value = value()
    except Exception as error:
      raise UserError(
        f"--algorithm {name}: {attribute}() failed: {_reason(error)}. Give all settings a default, "
        "or name an object of the class."
      ) from error
  if not isinstance(value, AlgorithmSettings):
    raise UserError(
      f"--algorithm {name}: {attribute} is a {type(value).__name__}, no AlgorithmSettings with "
      "methods check and make."
    )
  try:
    value.check()
  except UserError:
    raise
  except Exception as error:
    raise UserError(f"--algorithm {name}: check() raised {_reason(error)}.") from error
  return value


def make_watched(
  name: str, settings: AlgorithmSettings, space: SearchSpace, seed: int
) -> "WatchedAlgorithm":
  """Makes an algorithm whose errors and wrong proposals become a `UserError`.

  Args:
    name: what to call it in messages.
    settings: the algorithm's.
    space: the search space.
    seed: of the search.
  """
  try:
    algorithm = settings.make(space, seed)
  except UserError:
    raise
  except Exception as error:
    raise UserError(f"{name}, seed {seed}: make raised {_reason(error)}.") from error
  lacking = [method for method in _METHODS if not callable(getattr(algorithm, method, None))]
  if lacking:
    raise UserError(
      f"{name}: make returned a {type(algorithm).__name__}, which has no method "
      f"{' and no '.join(lacking)}."
    )
  return WatchedAlgorithm(f"{name}, seed {seed}", algorithm, space)


class WatchedAlgorithm:
  """An algorithm whose proposals are checked; says in which update something went wrong."""

  def __init__(self, name: str, algorithm: SearchAlgorithm, space: SearchSpace):
    self._name = name
    self._algorithm = algorithm
    self._space = space

  def propose(self, update: int, count: int) -> list[Proposal]:
    """Returns the algorithm's proposals.

    Raises:
      UserError: it failed, or a proposal is wrong.
    """
    where = f"{self._name}, update {update}"
    try:
      proposals = self._algorithm.propose(update, count)
    except Exception as error:
      _refuse(f"{where}: propose", error)
    if not isinstance(proposals, Sequence) or len(proposals) != count:
      got = f"{len(proposals)}" if isinstance(proposals, Sequence) else type(proposals).__name__
      raise UserError(f"{where}: propose must return {count} proposals, and returned {got}.")
    return [
      self._checked(f"{where}, proposal {number}", proposal)
      for number, proposal in enumerate(proposals, start=1)
    ]

  def learn(self, update: int, outcomes: Sequence[Outcome]) -> object:
    """Lets the algorithm learn.

    Raises:
      UserError: it failed.
    """
    try:
      return self._algorithm.learn(update, outcomes)
    except Exception as error:
      _refuse(f"{self._name}, update {update}: learn", error)

  def _checked(self, where: str, proposal: Proposal) -> Proposal:
    if not isinstance(proposal, Proposal):
      raise UserError(f"{where} is a {type(proposal).__name__}, and should be a Proposal.")
    try:
      if any(choice != int(choice) for choice in proposal.choices):
        raise ValueError("choices are integers")
      self._space.decode(proposal.choices)
      if len(proposal.log_probs) != len(proposal.choices):
        raise ValueError(
          f"it has {len(proposal.log_probs)} log_probs for {len(proposal.choices)} choices"
        )
    except (TypeError, ValueError, OverflowError) as error:
      raise UserError(
        f"{where}, choices {proposal.choices!r}, is no architecture of the space: {error}. "
        "SearchSpace.mask says which choices are valid next."
      ) from error
    return proposal


def _import(name: str, module_name: str) -> ModuleType:
  try:
    if module_name.endswith(".py"):
      return _import_file(name, Path(module_name))
    # Behind everything else, so that no file of the folder is taken for one of a library.
    if os.getcwd() not in map(os.path.abspath, sys.path):
      sys.path.append(os.getcwd())
    return importlib.import_module(module_name)
  except UserError:
    raise
  except ModuleNotFoundError as error:
    if error.name and f"{module_name}.".startswith(f"{error.name}."):
      raise UserError(
        f"--algorithm {name}: there is no module {error.name}, neither installed nor in the "
        f"current folder {os.getcwd()}."
      ) from error
    raise UserError(
      f"--algorithm {name}: {module_name} needs the package {error.name}, which is not installed."
    ) from error
  except Exception as error:
    raise UserError(
      f"--algorithm {name}: {module_name} cannot be imported: {_reason(error)}."
    ) from error


def _import_file(name: str, path: Path) -> ModuleType:
  if not path.is_file():
    raise UserError(f"--algorithm {name}: there is no file {path}.")
  spec = importlib.util.spec_from_file_location(path.stem, path)
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  # Dataclasses look their module up.
  sys.modules.setdefault(path.stem, module)
  # What lies beside it can be imported, as by Python itself.
  sys.path.append(str(path.parent.resolve()))
  spec.loader.exec_module(module)
  return module


def _refuse(what: str, error: Exception) -> NoReturn:
  if isinstance(error, MemoryError):
    raise error
  raise UserError(f"{what} raised {_reason(error)}.") from error


def _reason(error: Exception) -> str:
  """Returns kind, message and place of an error; the whole of it stays chained."""
  # The first frame is this module's. Of the others, the last that is no library's says most.
  frames = [
    frame
    for frame in traceback.extract_tb(error.__traceback__)[1:]
    if not frame.filename.startswith(_LIBRARIES)
  ]
  place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
  return f"{type(error).__name__}: {error}{place}"
