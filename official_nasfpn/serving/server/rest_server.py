"""HTTP around a served model: paths, limits, and an answer to every request.

Paths, statuses and errors are those of TensorFlow Serving (`http_rest_api_util.cc`).
"""

import contextlib
import http.server
import json
import re
import socket
import sys
import threading
import time
import traceback
import urllib.parse
from collections.abc import Callable
from typing import TYPE_CHECKING

from official_nasfpn.errors import UserError
from official_nasfpn.serving.server.rest_json import (
  ModelError,
  parse_body,
  read_inputs,
  signature_name,
  write_error,
  write_outputs,
)

if TYPE_CHECKING:
  from official_nasfpn.serving.server.served_model import ServedModel

_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICTION = re.compile(
  rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)", re.IGNORECASE
)
_STATUS = re.compile(
  rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?P<metadata>/metadata)?", re.IGNORECASE
)
# Requests whose bodies are held at the same time; further ones wait.
_NUM_SLOTS = 4
_CHUNK = 1 << 16
_LONGEST_BODY_S = 120.0
_LONGEST_DISCARD_S = 2.0

Spec = tuple[str, int | None]


class HttpError(Exception):
  """A request that is wrong as HTTP.

  Attributes:
    status: the HTTP status.
    text: what is wrong.
  """

  def __init__(self, status: int, text: str):
    super().__init__(text)
    self.status = status
    self.text = text


class RestServer(http.server.ThreadingHTTPServer):
  """A server that holds its port from the beginning and listens once it is activated.

  Attributes:
    model: the served model; set before the server is activated.
    max_body_bytes: the largest body of a request.
    is_verbose: whether each request is logged as a line on standard error.
  """

  daemon_threads = True
  request_queue_size = 64
  model: "ServedModel"

  def __init__(
    self,
    host: str,
    port: int,
    max_body_bytes: int = 128 << 20,
    handler: type["RestHandler"] | None = None,
    is_verbose: bool = False,
  ):
    """Takes the port.

    Args:
      host: name or address of this machine.
      port: 0 for a free one, which `server_port` tells.
      max_body_bytes: a larger request is refused.
      handler: another class in place of `RestHandler`.
      is_verbose: see above.

    Raises:
      UserError: the port is taken or not allowed, or the host is not this machine's.
    """
    self.max_body_bytes = max_body_bytes
    self.is_verbose = is_verbose
    self._slots = threading.BoundedSemaphore(_NUM_SLOTS)
    try:
      found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
      self.address_family, *_, address = found[0]
      super().__init__(address[:2], handler or RestHandler, bind_and_activate=False)
      try:
        self.server_bind()
      except BaseException:
        self.server_close()
        raise
    except (OSError, OverflowError, UnicodeError) as error:
      raise UserError(
        f"--port {port} of --host {host} cannot be served at: {_reason(error)}. Give another "
        "--port, or 0 for a free one."
      ) from error

  def server_bind(self) -> None:
    """Binds the socket; the base class would look up the host's name, which can take seconds."""
    self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    self.socket.bind(self.server_address)
    self.server_address = self.socket.getsockname()
    self.server_name, self.server_port = self.server_address[:2]

  def server_activate(self) -> None:
    """Listens.

    Raises:
      UserError: another server has begun to listen at the port meanwhile.
    """
    try:
      super().server_activate()
    except OSError as error:
      raise UserError(f"--port {self.server_port}: {_reason(error)}. Give another.") from error

  def handle_error(self, request, client_address) -> None:
    """Keeps broken connections from filling the terminal with tracebacks."""
    if not isinstance(sys.exc_info()[1], OSError):
      self.log(f"{client_address[0]}: {traceback.format_exc(limit=1).splitlines()[-1]}")

  def log(self, text: str) -> None:
    """Writes a line to standard error."""
    if self.is_verbose:
      with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)

  @contextlib.contextmanager
  def slot(self):
    """Waits until few enough requests are at work."""
    with self._slots:
      yield

  def drain(self, timeout_s: float) -> bool:
    """Waits for the requests at work; returns whether they have ended in time."""
    end = time.monotonic() + timeout_s
    return all(
      self._slots.acquire(timeout=max(end - time.monotonic(), 0.001)) for _ in range(_NUM_SLOTS)
    )


class RestHandler(http.server.BaseHTTPRequestHandler):
  """One connection."""

  server: RestServer
  protocol_version = "HTTP/1.1"
  server_version = "nasfpn"
  sys_version = ""
  # Seconds of silence after which a connection is given up.
  timeout = 60
  # Header and body in one packet.
  wbufsize = -1

  def do_GET(self) -> None:
    if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
      # Nobody reads this body, and it must not be taken for the next request.
      self.close_connection = True
    self._answer(self._tell)

  def do_POST(self) -> None:
    with self.server.slot():
      self._answer(self._predict)

  def _refuse_method(self) -> None:
    self.close_connection = True  # There may be a body, which nobody reads.
    self._answer(lambda: self._malformed())

  do_DELETE = do_HEAD = do_OPTIONS = do_PATCH = do_PUT = _refuse_method

  def _tell(self) -> bytes:
    match = _STATUS.fullmatch(self._path())
    if not match:
      self._malformed()
    if not match["name"]:
      raise ModelError("INVALID_ARGUMENT", "Missing model name in request.")
    spec, model = _spec(match), self.server.model
    answer = model.metadata(*spec) if match["metadata"] else model.status(*spec)
    return json.dumps(answer, ensure_ascii=False, indent=1).encode() + b"\n"

  def _predict(self) -> bytes:
    body = self._body()
    match = _PREDICTION.fullmatch(self._path())
    if not match:
      self._malformed()
    spec, model = _spec(match), self.server.model
    content = parse_body(body)
    signature = signature_name(content)
    specs = model.inputs_of(*spec, signature)
    if (method := match["method"].lower()) != "predict":
      kind = "classification" if method == "classify" else "regression"
      raise ModelError(
        "INVALID_ARGUMENT",
        f"Expected {kind} signature method_name to be tensorflow/serving/{method}. Was: "
        "tensorflow/serving/predict",
      )
    inputs, in_rows = read_inputs(content, specs)
    del body, content
    return write_outputs(model.predict(signature, inputs), in_rows)

  def _path(self) -> str:
    return self.path.partition("?")[0]

  def _malformed(self) -> None:
    path = self._path()
    if not path.lower().startswith("/v1/"):
      raise HttpError(404, "Not Found")
    raise ModelError("INVALID_ARGUMENT", f"Malformed request: {self.command} {path}")

  def _length(self) -> int:
    """Returns the length of the body that is to come."""
    if "Transfer-Encoding" in self.headers:
      raise HttpError(411, "A request needs a Content-Length")
    if self.headers.get("Content-Encoding", "identity") != "identity":
      raise HttpError(415, "Compressed requests are not read")
    text = self.headers.get("Content-Length", "0")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
      raise HttpError(400, f"Content-Length is {text[:20]!r}, no number of bytes")
    if int(text) > self.server.max_body_bytes:
      raise HttpError(
        413,
        f"The request has {int(text):,} bytes, and at most {self.server.max_body_bytes:,} are "
        "read: send fewer images at once, or start the server with a larger --max_request_mb",
      )
    return int(text)

  def _body(self) -> bytes:
    left = self._length()
    end = time.monotonic() + _LONGEST_BODY_S
    body = bytearray()
    while left:
      chunk = self.rfile.read1(min(left, _CHUNK))
      if not chunk:
        raise ConnectionAbortedError("The request broke off")
      if time.monotonic() > end:
        raise TimeoutError("The request took too long to arrive")
      body += chunk
      left -= len(chunk)
    return bytes(body)

  def handle_expect_100(self) -> bool:
    """Refuses a body before it is sent, where its client asks whether to send it."""
    try:
      self._length()
    except HttpError as error:
      self.close_connection = True
      self._send(error.status, write_error(error.text))
      return False
    return super().handle_expect_100()

  def _answer(self, respond: Callable[[], bytes]) -> None:
    start = time.monotonic()
    try:
      status, content = 200, respond()
    except ModelError as error:
      status, content = error.http_status, write_error(error.text)
    except HttpError as error:
      status, content = error.status, write_error(error.text)
      # What is left of the request cannot be told from the next one.
      self.close_connection = True
    except OSError:
      # The client is gone, or does not go on.
      self.close_connection = True
      return
    except RecursionError:
      status, content = 400, write_error("The lists of the request lie within too many others")
    except MemoryError:
      status, content = 429, write_error("The request needs more memory than there is")
    except Exception as error:
      self.server.log(traceback.format_exc())
      status, content = 500, write_error(f"{type(error).__name__}: {error}")
    self._send(status, content)
    taken_ms = 1000 * (time.monotonic() - start)
    self.server.log(f"{self.command} {ascii(self.path)[1:-1]} {status} {taken_ms:.0f} ms")

  def _send(self, status: int, content: bytes) -> None:
    # A client that gave up waiting is gone.
    with contextlib.suppress(OSError):
      self.send_response(status)
      self.send_header("Content-Type", "application/json")
      self.send_header("Content-Length", str(len(content)))
      if self.close_connection:
        self.send_header("Connection", "close")
      self.end_headers()
      if self.command != "HEAD":
        self.wfile.write(content)
      self.wfile.flush()
      if self.close_connection:
        self._discard()

  def _discard(self) -> None:
    """Reads what the client is still sending; it might not see the answer otherwise."""
    self.connection.shutdown(socket.SHUT_WR)
    end = time.monotonic() + _LONGEST_DISCARD_S
    self.connection.settimeout(_LONGEST_DISCARD_S)
    while time.monotonic() < end and self.connection.recv(_CHUNK):
      pass

  def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
    """Answers what is not an HTTP request."""
    self.close_connection = True
    # A request that cannot be parsed counts as HTTP/0.9, whose responses have no status.
    self.request_version = self.protocol_version
    self._send(code, write_error(message or self.responses[code][0]))

  def log_message(self, format, *args) -> None:
    pass  # One line for a request is enough.


def _spec(match: re.Match) -> Spec:
  """Returns which model a path names."""
  if match["label"]:
    label = urllib.parse.unquote(match["label"])
    raise ModelError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
  version = match["version"]
  if version and len(version) > 18:
    raise ModelError("INVALID_ARGUMENT", f"Failed to convert version: {version} to numeric.")
  return urllib.parse.unquote(match["name"]), int(version) if version else None


def _reason(error: Exception) -> str:
  return getattr(error, "strerror", None) or str(error)
