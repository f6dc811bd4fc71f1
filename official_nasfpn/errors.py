"""The one exception that is meant for a person, and how a program shows it."""

import sys
from collections.abc import Callable

from absl import app, flags, logging


class UserError(Exception):
  """Something the user can mend. The message says what is wrong, where, and what to do."""


def run_program(main: Callable[[list[str]], object]) -> None:
  """Runs an absl program; a `UserError` ends it with one clear line and exit code 1.

  Args:
    main: takes the arguments that are not flags. A program without positional arguments refuses
      them through `refuse_positional_arguments`.
  """

  def guarded(argv: list[str]) -> None:
    if not flags.FLAGS["verbosity"].present:
      # Libraries log every loop at level INFO, through the middle of the progress bars.
      logging.set_verbosity(logging.WARNING)
    try:
      main(argv)
    except UserError as error:
      print(f"error: {error}", file=sys.stderr)
      sys.exit(1)

  app.run(guarded)


def refuse_positional_arguments(argv: list[str]) -> None:
  """Raises a `UserError` when the command line has arguments that no flag takes."""
  if len(argv) > 1:
    raise UserError(f"Unexpected argument {argv[1]!r}; every option starts with --. Try --help.")
