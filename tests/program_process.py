"""Programs in processes of their own, without the seconds that TensorFlow takes to import.

Python's fork server imports the large libraries once; a program is a fork of it, taken before any
module of ours is imported. All else is as if a person had started it: it has its own flags, folder,
environment and output, may be killed, and ends with an exit code.
"""

import atexit
import contextlib
import dataclasses
import functools
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]

# The package itself is there for the variables that it sets before TensorFlow is imported.
_IMPORTED_ONCE = (
  "official_nasfpn",
  "tensorflow",
  "tf_keras",
  "orbit",
  "official.core.base_trainer",
  "official.vision.modeling.backbones.resnet",
  "pydantic.dataclasses",
  "sqlalchemy.dialects.postgresql.pg8000",
  "sqlalchemy.dialects.sqlite",
)


@functools.cache
def fork_server() -> multiprocessing.context.BaseContext:
  """Returns how to start processes of Python that have the large libraries."""
  context = multiprocessing.get_context("forkserver")
  context.set_forkserver_preload(_IMPORTED_ONCE)
  return context


class ProgramProcess:
  """A program that runs, like `subprocess.Popen` of it; its output goes to two files.

  Args:
    module: the program, such as `official_nasfpn.train`.
    arguments: of its command line.
    cwd: the folder that it runs in.
    environment: variables beside those of this process.
    new_session: whether it gets a process group of its own, with those that it starts.
  """

  def __init__(
    self,
    module: str,
    arguments: Sequence[object],
    cwd: Path = REPOSITORY,
    environment: Mapping[str, str] | None = None,
    new_session: bool = False,
  ):
    self._output = Path(tempfile.mkdtemp(prefix="program-"))
    weakref.finalize(self, shutil.rmtree, self._output, ignore_errors=True)
    call = _Call(
      module,
      tuple(map(str, arguments)),
      str(cwd),
      # Processes of tests share the cores: a second thread would wait more than it computes.
      {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", **(environment or {})},
      str(self._output),
      new_session,
    )
    self._process = fork_server().Process(target=_run, args=(call,))
    self._process.start()
    self.pid = self._process.pid
    # Else Python would wait for it when the tests end.
    atexit.register(self.kill)

  @property
  def stdout(self) -> str:
    """What it has printed so far."""
    return _read(self._output / "stdout")

  @property
  def stderr(self) -> str:
    """What it has printed on standard error so far."""
    return _read(self._output / "stderr")

  @property
  def returncode(self) -> int | None:
    """Its exit code; None while it runs."""
    return self.poll()

  def poll(self) -> int | None:
    return self._process.exitcode

  def kill(self) -> None:
    self._process.kill()

  def wait(self, timeout: float) -> int:
    """Waits for its end and returns its exit code.

    Raises:
      subprocess.TimeoutExpired: it has not ended in so many seconds; it is killed.
    """
    self._process.join(timeout)
    if self._process.exitcode is None:
      self.kill()
      self._process.join()
      raise subprocess.TimeoutExpired(self._output.name, timeout, self.stdout, self.stderr)
    atexit.unregister(self.kill)
    return self._process.exitcode


@dataclasses.dataclass(frozen=True)
class _Call:
  module: str
  arguments: tuple[str, ...]
  cwd: str
  environment: dict[str, str]
  output: str
  new_session: bool


def _run(call: _Call) -> None:
  """Becomes the program; runs in the fork."""
  if call.new_session:
    os.setsid()
  # Where the tests run in the background of a shell, they ignore Ctrl-C, and so would the program.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  for number, name in ((1, "stdout"), (2, "stderr")):
    file = os.open(f"{call.output}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, number)
    os.close(file)
  # As with any standard output that is no terminal: what is printed last stands last.
  sys.stdout.reconfigure(encoding="utf-8", line_buffering=False)
  os.environ.clear()
  os.environ.update(call.environment)
  os.chdir(call.cwd)
  sys.path[:] = [call.cwd, *(entry for entry in sys.path if entry != call.cwd)]
  sys.argv = [call.module, *call.arguments]
  code = 1
  try:
    runpy.run_module(call.module, run_name="__main__", alter_sys=True)
    code = 0
  except SystemExit as error:
    code = error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error.code, str):
      print(error.code, file=sys.stderr)
  except BaseException:
    sys.excepthook(*sys.exc_info())
  atexit._run_exitfuncs()
  with contextlib.suppress(OSError):
    sys.stdout.flush()
  os._exit(code)


def _read(path: Path) -> str:
  with contextlib.suppress(FileNotFoundError):
    return path.read_text(encoding="utf-8", errors="replace")
  return ""
