"""The Ray actor that holds a place on a node and runs a worker there.

The worker is a child process of the actor's process. So it is the same program as on one machine. A
crash, or memory that TensorFlow does not free, ends with the worker while the actor keeps its place
on the node. Environment variables are set before any library reads them. The worker exits when the
actor's process is no longer its parent, so a killed actor leaves no training behind. An actor that
gets SIGTERM, which Ray turns into `SystemExit`, stops its worker first.
"""

import collections
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence

_LAST_LINES = 5


class WorkerActor:
  """Runs one worker at a time; the actor's own process does almost nothing."""

  def __init__(self, worker: str, arguments: Sequence[str], variables: Mapping[str, str]):
    """Prepares a worker.

    Args:
      worker: name of the worker.
      arguments: arguments of Python that start a worker; `--worker_id` and `--parent_pid` are
        added.
      variables: environment variables that are added to those of this node.
    """
    # The Python of this node may have another path than the controller's.
    self._command = [
      *(sys.executable, *arguments, f"--worker_id={worker}", f"--parent_pid={os.getpid()}")
    ]
    # Ray sends the controller's code along; code in the current folder must not hide it.
    self._environment = {**os.environ, "PYTHONSAFEPATH": "1", **variables}

  def host(self) -> str:
    """Returns the name of the machine. An answer means that the actor has its place."""
    return socket.gethostname()

  def run(self) -> tuple[int, list[str]]:
    """Runs the worker until it ends; returns its exit code and the last lines of its output.

    The whole output goes to Ray's log of the actor.
    """
    last_lines = collections.deque(maxlen=_LAST_LINES)
    with subprocess.Popen(
      self._command,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      env=self._environment,
      text=True,
      errors="replace",
      # Ray sends SIGTERM to the group of a process that has died. The worker of a killed actor must
      # not hand its trial back as if it were stopped: the launcher counts a death.
      start_new_session=True,
    ) as process:
      try:
        for line in process.stdout:
          print(line, end="", flush=True)
          last_lines.append(line.rstrip())
      except BaseException:
        # Ray ends this process politely, as when a node is drained: so must the worker end, which
        # hands its trial back. It is waited for.
        process.terminate()
        raise
    return process.returncode, list(last_lines)
