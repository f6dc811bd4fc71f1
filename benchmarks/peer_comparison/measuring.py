"""How a side of a row is measured: in a process of its own, in turns with the other side.

Both sides are prepared, each in its process, and then asked for one round after the other. So
neither has the other's TensorFlow options, graphs or memory, and other work on the machine slows
both. A side that needs a new process for every round starts a command in it.
"""

import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeVar

from official_nasfpn.errors import UserError
from official_nasfpn.progress import say

REPOSITORY = Path(__file__).resolve().parents[2]

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Settings:
  """What the sides need to know.

  Attributes:
    work_dir: datasets, trained weights, exports and logs; kept for later runs.
    train_steps: train steps of the trained weights of either side.
    metric_images: images of the row of COCO's metrics.
  """

  work_dir: Path
  train_steps: int
  metric_images: int


@dataclasses.dataclass(frozen=True)
class Round:
  """What one round has found.

  Attributes:
    value: seconds or bytes.
    also: other figures by name, for people to judge the value by.
  """

  value: float
  also: Mapping[str, float] = dataclasses.field(default_factory=dict)


Prepare = Callable[[Settings], Callable[[], Round]]


class Side:
  """One side of a row, prepared in a process of its own."""

  def __init__(self, prepare: Prepare, settings: Settings, log: Path):
    """Starts the process and waits until the side is prepared.

    Args:
      prepare: returns the function that measures a round; a function of a module.
      settings: its argument.
      log: gets everything that the process prints.

    Raises:
      UserError: it failed.
    """
    self._log = log
    log.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    self._connection, other = context.Pipe()
    self._process = context.Process(target=_serve, args=(other, prepare, settings, str(log)))
    self._process.start()
    other.close()
    try:
      self._answer()
    except BaseException:
      self.close()
      raise

  def measure(self) -> Round:
    """Returns what the next round finds.

    Raises:
      UserError: it failed.
    """
    self._connection.send("measure")
    return self._answer()

  def close(self) -> None:
    """Ends the process and the commands that it runs."""
    try:
      os.killpg(self._process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # It has no group of its own yet, or is gone.
      self._process.kill()
    self._process.join()
    self._connection.close()

  def _answer(self) -> Round:
    try:
      answer = self._connection.recv()
    except EOFError:
      answer = "the process was killed"
    if isinstance(answer, str):
      raise UserError(f"A side failed: {answer}. All that it said is in {self._log}.")
    return answer


def _serve(
  connection: multiprocessing.connection.Connection,
  prepare: Prepare,
  settings: Settings,
  log: str,
) -> None:
  # The commands that it starts end with it, and the terminal's interrupt is the parent's.
  os.setsid()
  output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
  for standard in (sys.stdout, sys.stderr):
    os.dup2(output, standard.fileno())
  try:
    measure = prepare(settings)
    connection.send(Round(0.0))
    while True:
      connection.recv()
      connection.send(measure())
  except EOFError:
    return
  except Exception as error:
    traceback.print_exc()
    connection.send(f"{type(error).__name__}: {error}")


def timed(function: Callable[[], _T]) -> tuple[float, _T]:
  """Returns the seconds that a call took, and what it returned."""
  start = time.perf_counter()
  result = function()
  return time.perf_counter() - start, result


def program(module: str, *arguments: str, **options: object) -> list[str]:
  """Returns the command that runs a module; options become `--name=value`."""
  flags = [f"--{name}={value}" for name, value in options.items()]
  return [sys.executable, "-m", module, *arguments, *flags]


def run(command: Sequence[str], output: IO | None = None) -> int:
  """Runs a command in the repository to its end.

  Args:
    command: its words.
    output: gets what it prints; None for this process's own output.

  Returns:
    The largest memory that it held, resident, in bytes.

  Raises:
    RuntimeError: it failed.
  """
  process = _start(command, output)
  try:
    _, status, usage = os.wait4(process.pid, 0)
  except BaseException:
    process.kill()
    process.wait()
    raise
  process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    raise RuntimeError(f"exit code {process.returncode} of {' '.join(command)}")
  return usage.ru_maxrss * 1024


def seconds_until(command: Sequence[str], line_part: str) -> float:
  """Starts a command, waits for a line with some text, and ends it.

  Returns:
    The seconds from its start.

  Raises:
    RuntimeError: it has ended without such a line.
  """
  start = time.perf_counter()
  process = _start(command, subprocess.PIPE)
  try:
    for line in process.stdout:
      print(line, end="")
      if line_part in line:
        return time.perf_counter() - start
  finally:
    process.kill()
    process.wait()
  raise RuntimeError(f"no line with {line_part!r} from {' '.join(command)}")


def _start(command: Sequence[str], output: IO | int | None) -> subprocess.Popen:
  environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
  return subprocess.Popen(
    command,
    cwd=REPOSITORY,
    env=environment,
    stdout=output,
    stderr=subprocess.STDOUT if output else None,
    text=True,
  )


def make_once(
  settings: Settings, name: str, commands: Callable[[Path], Sequence[Sequence[str]]]
) -> Path:
  """Returns a folder that commands have made, in this run or in an earlier one.

  Args:
    settings: say where.
    name: of the folder.
    commands: takes the folder; returns the commands that make it. Those that were interrupted are
      run again.

  Raises:
    UserError: a command failed.
  """
  folder = settings.work_dir / name
  done, log = settings.work_dir / f"{name}.done", settings.work_dir / "logs" / f"{name}.txt"
  if done.is_file():
    return folder
  log.parent.mkdir(parents=True, exist_ok=True)
  say(f"making {folder}, once for all runs; see {log}")
  with log.open("a", encoding="utf-8") as output:
    for command in commands(folder):
      try:
        run(command, output)
      except RuntimeError as error:
        raise UserError(f"{folder} could not be made: {error}. See {log}.") from error
  done.touch()
  return folder
