"""The exception for mistakes that the user can mend, and how programs report it."""

import difflib
import errno
import math
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn, TextIO

from absl import app, flags, logging

from official_nasfpn.printable import printable, printable_output

# Characters of a message: more is the middle of what it quotes.
_LONGEST_MESSAGE = 4000
# What is wrong with a path that was given, and not with the program.
_OF_A_PATH = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP)


class UserError(Exception):
  """Something the user can mend. The message says what is wrong, where, and what to do."""

  # Not in a constructor of its own: AutoGraph would raise another exception in place of this one.
  def __str__(self) -> str:
    message, half = super().__str__(), _LONGEST_MESSAGE // 2
    return message if len(message) <= 2 * half else f"{message[:half]} ... {message[-half:]}"


def nearest_name(name: str, known: Iterable[str]) -> str:
  """Returns the known name that is most like `name`; `known` must not be empty."""
  by_lower_case = {other.lower(): other for other in known}
  return by_lower_case[difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.0)[0]]


def run_program(main: Callable[[list[str]], object]) -> None:
  """Runs an absl program.

  A `UserError`, a missing dependency, a wrong version of TensorFlow, want of memory, or a path that
  the system refuses ends it with one line and exit code 1.

  Args:
    main: takes the arguments that are not flags. A program without positional arguments refuses
      them through `refuse_positional_arguments`.
  """

  # Imported here, because that module imports this one.
  from official_nasfpn.installation import check_tensorflow, missing_dependency

  has_begun = False

  def guarded(argv: list[str]) -> None:
    nonlocal has_begun
    has_begun = True
    if not flags.FLAGS["verbosity"].present:
      # Libraries log every loop at level INFO, through the middle of the progress bars.
      logging.set_verbosity(logging.WARNING)
    try:
      _refuse_what_is_no_text(sys.argv[1:])
      _refuse_what_is_no_number()
      check_tensorflow()
      with printable_output():
        main(argv)
        # Now, and not when Python ends and can only complain that nobody reads it.
        if sys.stdout is not None:
          sys.stdout.flush()
    except UserError as error:
      exit_with(error)
    except MemoryError as error:
      exit_with(
        UserError(
          f"This machine has not enough memory left{f' ({error})' if str(error) else ''}. What was "
          "saved is whole: end other programs or ask for less, then start the same command again."
        )
      )
    except OSError as error:
      if error.errno not in _OF_A_PATH or not error.filename:
        raise
      exit_with(
        UserError(
          f"{error.filename!r} cannot be used: {error.strerror}. Give another path, or mend its "
          "permissions."
        )
      )
    except ModuleNotFoundError as error:
      if missing := missing_dependency(error):
        exit_with(missing)
      raise

  try:
    app.run(guarded)
  except SystemExit as end:
    # absl has shown the help that was asked for, which it calls a failure; a wrong flag is one.
    if has_begun or isinstance(end.__context__, flags.Error):
      raise
    sys.exit(0)
  except BrokenPipeError:
    # Whoever reads the output has seen enough, as in `nasfpn train --help | head`.
    if sys.stdout is None or not _nobody_reads(sys.stdout):
      raise
    # Python would try to write what is left when it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + signal.SIGPIPE)


def _nobody_reads(output: TextIO) -> bool:
  """Returns whether an output is a pipe whose other end is closed."""
  poll = select.poll()
  poll.register(output.fileno(), select.POLLOUT)
  return any(event & select.POLLERR for _, event in poll.poll(0))


def _refuse_what_is_no_text(arguments: Iterable[str]) -> None:
  """Refuses arguments that cannot be written into a file, before anything is done with them."""
  for argument in arguments:
    try:
      argument.encode()
    except UnicodeEncodeError as error:
      raise UserError(
        f"{argument!r} is not UTF-8 text, as everything that is written down must be. Rename the "
        "file or folder, or correct the text."
      ) from error


def _refuse_what_is_no_number() -> None:
  """Refuses `nan`, which is neither below a lower bound of absl's nor above an upper one."""
  for name in flags.FLAGS:
    value = flags.FLAGS[name].value
    if isinstance(value, float) and math.isnan(value):
      raise UserError(f"--{name} is not a number: give one.")


def exit_with(error: UserError) -> NoReturn:
  """Prints an error in one line, and ends the process with exit code 1."""
  print(f"error: {printable(str(error))}", file=sys.stderr)
  sys.exit(1)


def refuse_positional_arguments(argv: list[str]) -> None:
  """Raises a `UserError` when the command line has arguments that no flag takes."""
  if len(argv) > 1:
    raise UserError(f"Unexpected argument {argv[1]!r}; every option starts with --. Try --help.")
