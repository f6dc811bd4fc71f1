"""What REST and gRPC have in common: what a client asks of a model server, and how that fails."""

import enum
import re
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from official_nasfpn.printable import printable

_LONGEST_REASON = 200
# What of a reason is looked at: some of the patterns below take the square of that in steps.
_LONGEST_READ = 4000
# Names of graph nodes, which TensorFlow writes around a reason.
_NODES = re.compile(r"\{\{(?:function_)?node [^}]*\}\}|\[\[[^\]]*\]\]|\(\d+\) [A-Z_]+:")
# What `signatures.py` asserts; the position is that in a part of the batch.
_ASSERTION = re.compile(r"assertion failed: \[(.*) at position\] \[[\d .]*\]")
_ROOTS = re.compile(r"^\d+ root error\(s\) found\.\s*")


class FailureKind(enum.Enum):
  """Why there is no answer, as far as a client acts on it."""

  UNREACHABLE = "no connection, a connection that broke, or a server that says it is unavailable"
  TIMEOUT = "no answer in time"
  BUSY = "the server has no room for the request"
  LOADING = "the model is not loaded yet"
  INVALID = "the server understood the request, but not what is in it"
  NOT_FOUND = "the server has no such model, or no such version"
  UNTRUSTED = "the server does not prove by a certificate that it is the one asked for"
  FOREIGN = "something answers that is not TensorFlow Serving"
  FAILED = "anything else: the same request would fail again"


# Failures that another attempt may mend.
TEMPORARY = {FailureKind.UNREACHABLE, FailureKind.TIMEOUT, FailureKind.BUSY, FailureKind.LOADING}


class Failure(Exception):
  """A request without an answer.

  Attributes:
    kind: what went wrong.
    reason: the message of the server or of the network, one line.
  """

  def __init__(self, kind: FailureKind, reason: str):
    self.kind = kind
    self.reason = one_line(reason)
    super().__init__(f"{kind.name}: {self.reason}")


class Transport(Protocol):
  """A connection to one model, or to one version of it. All raise `Failure`.

  Attributes:
    model: its name.
    version: None for the newest.
    port_hint: which port of a server this talks to.
  """

  model: str
  version: int | None
  port_hint: str

  def predict(
    self, signature: str, inputs: Mapping[str, np.ndarray], timeout_s: float
  ) -> dict[str, np.ndarray]:
    """Returns those outputs of a signature that an export gives; strings as objects, `str`."""

  def signatures(self, timeout_s: float) -> dict[str, set[str]]:
    """Returns the names of the inputs of every signature."""

  def versions(self, timeout_s: float) -> dict[int, str]:
    """Returns the state of every version of the model: "AVAILABLE", "LOADING" and others."""

  def close(self) -> None:
    """Ends the connection."""


def one_line(message: str) -> str:
  """Returns a server's reason without names of graph nodes, in one line of bounded length."""
  text = _ROOTS.sub("", message[:_LONGEST_READ].strip())
  # Of several roots the first will do, and it ends where its node is named.
  text = next(filter(None, (part.strip() for part in _NODES.split(text))), "no reason given")
  text = printable(_ASSERTION.sub(r"\1", " ".join(text.split())))
  return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]} ..."
