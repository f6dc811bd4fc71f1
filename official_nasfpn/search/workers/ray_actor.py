"""A worker's place on a Ray cluster.

The worker is a process of its own, below the actor's. So it is the same program as on one machine;
a crash, or memory that TensorFlow does not give back, ends with it while the place on the node is
kept; and its variables are set before any library reads them. It ends by itself when the actor's
process is not its parent any more, so that a killed actor leaves nothing training behind it.
"""

import collections
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence

_LAST_LINES = 5


class WorkerActor:
  """Runs one worker at a time; the actor's process itself does next to nothing."""

  def __init__(self, worker: str, arguments: Sequence[str], variables: Mapping[str, str]):
    """Prepares a worker.

    Args:
      worker: its name.
      arguments: of Python; they start a worker. `--worker_id` and `--parent_pid` are added.
      variables: that its environment has beside those of this node.
    """
    # This node's Python, which need not be where the controller's is.
    self._command = [
      *(sys.executable, *arguments, f"--worker_id={worker}", f"--parent_pid={os.getpid()}")
    ]
    # Ray sends the controller's own code along. That of the current folder must not hide it.
    self._environment = {**os.environ, "PYTHONSAFEPATH": "1", **variables}

  def host(self) -> str:
    """Returns the name of the machine; who has the answer knows that the actor has its place."""
    return socket.gethostname()

  def run(self) -> tuple[int, list[str]]:
    """Runs the worker until it ends; returns its exit code and the last lines that it printed.

    Whatever it prints goes to Ray's log of the actor.
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
    ) as process:
      for line in process.stdout:
        print(line, end="", flush=True)
        last_lines.append(line.rstrip())
    return process.returncode, list(last_lines)
