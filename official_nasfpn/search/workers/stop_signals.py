"""SIGTERM and SIGINT: a worker hands back what it has, and a controller stops its workers."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

# Within so many seconds of a signal the process has ended, even if the trial store does not answer.
# Whoever stops workers must wait longer before SIGKILL: scripts/kubernetes_workers.yaml.
STOP_SECONDS = 10.0
# Preemption, `scancel` and the end of a pod send SIGTERM; Ctrl-C is SIGINT.
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# By the convention of shells.
EXIT_STOPPED = tuple(128 + number for number in _SIGNALS)


class Terminated(KeyboardInterrupt):
  """Raised in a controller by SIGTERM, as `KeyboardInterrupt` is by SIGINT."""


@contextlib.contextmanager
def terminated_like_ctrl_c() -> Iterator[None]:
  """Within the block, SIGTERM raises `Terminated`; further ones are ignored, for they come twice.

  A batch system signals a script and what the script has started, and the script passes it on.
  """

  def terminate(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise Terminated

  former = signal.signal(signal.SIGTERM, terminate)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, former)


def exit_code(stop: KeyboardInterrupt) -> int:
  """Returns the exit code of a process that a signal has stopped, by the convention of shells."""
  return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


class StopSignals:
  """Within the block, SIGTERM and SIGINT end the process with exit code 143 or 130.

  Python runs handlers of signals in the main thread, which may be inside TensorFlow for minutes. So
  a thread of its own is woken, does what `before_exit` has asked for, and ends the process.
  """

  def __init__(self, stop_seconds: float = STOP_SECONDS) -> None:
    """Prepares; nothing is changed before the block.

    Args:
      stop_seconds: the process has ended so long after a signal, whatever hangs.
    """
    self._stop_seconds = stop_seconds
    self._actions: list[Callable[[], str | None]] = []

  def before_exit(self, action: Callable[[], str | None]) -> None:
    """Adds what is done before the process ends, the last first.

    Args:
      action: returns what it has done, in words, or None.
    """
    self._actions.append(action)

  def __enter__(self) -> "StopSignals":
    self._read_end, self._write_end = os.pipe()
    # What the C part of a handler needs: it must never wait.
    os.set_blocking(self._write_end, False)
    self._former_wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
    # Handlers that do nothing: it is the wakeup that counts.
    self._former = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    threading.Thread(target=self._wait, daemon=True, name="stop signals").start()
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    del kind, error, traceback
    for number, handler in self._former.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(self._former_wakeup)
    os.close(self._write_end)

  def _wait(self) -> None:
    while received := os.read(self._read_end, 1):
      if received[0] in _SIGNALS:
        self._stop(received[0])
    os.close(self._read_end)

  def _stop(self, number: int) -> None:
    name = signal.Signals(number).name

    def give_up() -> None:
      _say(f"stopped by {name}: the trial store does not answer; a trial comes back with its lease")
      os._exit(128 + number)

    timer = threading.Timer(self._stop_seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
      done = [action() for action in reversed(self._actions)]
    except Exception as error:  # Whatever it is, the process ends.
      done = [f"{type(error).__name__}: {error}"]
    _say(f"stopped by {name}: {', '.join(filter(None, done)) or 'no trial was running'}")
    os._exit(128 + number)


def _say(line: str) -> None:
  # Not by `print`: the main thread may hold its lock.
  os.write(1, f"{line}\n".encode())
