"""The one exception that is meant for a person, and how a program shows it."""

import difflib
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

from absl import app, flags, logging


class UserError(Exception):
  """Something the user can mend. The message says what is wrong, where, and what to do."""


def nearest_name(name: str, known: Iterable[str]) -> str:
  """Returns which of the known names a person may have meant; there must be one at least."""
  by_lower_case = {other.lower(): other for other in known}
  return by_lower_case[difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.0)[0]]


def run_program(main: Callable[[list[str]], object]) -> None:
  """Runs an absl program; a `UserError` ends it with one clear line and exit code 1.

  So does a dependency that is missing, and a TensorFlow of another version.

  Args:
    main: takes the arguments that are not flags. A program without positional arguments refuses
      them through `refuse_positional_arguments`.
  """

  # It raises what this module defines.
  from official_nasfpn.installation import check_tensorflow, missing_dependency

  def guarded(argv: list[str]) -> None:
    if not flags.FLAGS["verbosity"].present:
      # Libraries log every loop at level INFO, through the middle of the progress bars.
      logging.set_verbosity(logging.WARNING)
    try:
      check_tensorflow()
      main(argv)
    except UserError as error:
      exit_with(error)
    except ModuleNotFoundError as error:
      if missing := missing_dependency(error):
        exit_with(missing)
      raise

  app.run(guarded)


def exit_with(error: UserError) -> NoReturn:
  """Ends the process as every program does that a person has to mend something for."""
  print(f"error: {error}", file=sys.stderr)
  sys.exit(1)


def refuse_positional_arguments(argv: list[str]) -> None:
  """Raises a `UserError` when the command line has arguments that no flag takes."""
  if len(argv) > 1:
    raise UserError(f"Unexpected argument {argv[1]!r}; every option starts with --. Try --help.")
