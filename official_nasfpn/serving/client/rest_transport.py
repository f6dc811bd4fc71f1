"""TensorFlow Serving over REST: JSON, without TensorFlow.

https://www.tensorflow.org/tfx/serving/api_rest
"""

import base64
import http.client
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import requests
import urllib3

from official_nasfpn.json_text import parse_json
from official_nasfpn.serving.client.answers import ARRAYS, from_json
from official_nasfpn.serving.client.deadline import Deadline, DeadlineAdapter
from official_nasfpn.serving.client.transport import TEMPORARY, Failure, FailureKind

# Parsed, JSON takes up to 24 times as much memory. What an export says of an image is some 130
# bytes a detection.
_MAX_BYTES = 16 << 20
_MAX_BYTES_AN_IMAGE = 1 << 20
# Only the beginning of an error is shown.
_MAX_ERROR_BYTES = 1 << 14

# TensorFlow Serving has one status for each of TensorFlow's codes; proxies add 502 and their own.
_KINDS = {
  400: FailureKind.INVALID,
  404: FailureKind.NOT_FOUND,
  429: FailureKind.BUSY,
  502: FailureKind.UNREACHABLE,
  503: FailureKind.UNREACHABLE,
  504: FailureKind.TIMEOUT,
}

# The end may be cut off.
_ERROR = re.compile(rb'\s*\{\s*"error"\s*:\s*"((?:[^"\\]|\\.|"(?!\s*\}\s*\Z))*)', re.DOTALL)

_Read = TypeVar("_Read")


def _is_readable(record: logging.LogRecord) -> bool:
  """Keeps back the traceback that urllib3 logs for headers of which it can read only a part."""
  return not record.exc_info


logging.getLogger("urllib3.connection").addFilter(_is_readable)


class RestTransport:
  """See `Transport`."""

  port_hint = "the port for REST, by default 8501"

  def __init__(self, server: str, model: str, version: int | None, ca_file: str | None = None):
    """Connects on first use.

    Args:
      server: `http://host:port`, perhaps with a path before `/v1`.
      model: its name, as in a URL.
      version: None for the newest.
      ca_file: PEM file of the authorities that certificates are checked against; None for those
        that `requests` trusts.
    """
    self.model = model
    self.version = version
    self._all_versions = f"{server}/v1/models/{model}"
    self._url = self._all_versions + ("" if version is None else f"/versions/{version}")
    self._ca_file = ca_file
    self._session = requests.Session()
    # What is not compressed cannot grow when it is read.
    self._session.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
      self._session.mount(scheme, DeadlineAdapter())

  def predict(
    self, signature: str, inputs: Mapping[str, np.ndarray], timeout_s: float
  ) -> dict[str, np.ndarray]:
    """Returns the outputs of a signature."""
    request = {
      "signature_name": signature,
      "inputs": {name: _to_json(values) for name, values in inputs.items()},
    }

    def read(answer: Any) -> dict[str, np.ndarray]:
      outputs = answer["outputs"].items()
      return {name: from_json(name, values) for name, values in outputs if name in ARRAYS}

    num_images = max(map(len, inputs.values()))
    return self._ask("POST", f"{self._url}:predict", timeout_s, read, request, num_images)

  def signatures(self, timeout_s: float) -> dict[str, set[str]]:
    """Returns the names of the inputs of every signature."""

    def read(answer: Any) -> dict[str, set[str]]:
      definitions = answer["metadata"]["signature_def"]["signature_def"]
      return {name: set(definition["inputs"]) for name, definition in definitions.items()}

    return self._ask("GET", f"{self._url}/metadata", timeout_s, read)

  def versions(self, timeout_s: float) -> dict[int, str]:
    """Returns the state of every version of the model."""

    def read(answer: Any) -> dict[int, str]:
      return {int(row["version"]): row["state"] for row in answer["model_version_status"]}

    return self._ask("GET", self._all_versions, timeout_s, read)

  def close(self) -> None:
    """Ends the connection."""
    self._session.close()

  def _ask(
    self,
    method: str,
    url: str,
    timeout_s: float,
    read: Callable[[Any], _Read],
    body: Any = None,
    num_images: int = 0,
  ) -> _Read:
    deadline = Deadline(timeout_s)
    try:
      with deadline.limit():
        response = self._session.request(
          method,
          url,
          json=body,
          timeout=timeout_s,
          allow_redirects=False,
          stream=True,
          # Not as a setting of the session, which the environment overrides.
          verify=self._ca_file,
        )
        with response:
          is_answer = response.status_code == 200
          content = _content(
            response, _MAX_BYTES + num_images * _MAX_BYTES_AN_IMAGE if is_answer else None
          )
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
      if deadline.is_over:  # A connection that is closed from within ends in many errors.
        raise Failure(FailureKind.TIMEOUT, "no whole answer") from error
      raise _failure(error) from error
    if deadline.is_over:  # A body without a length ends where its connection does.
      raise Failure(FailureKind.TIMEOUT, "no whole answer")
    kind = response.headers.get("Content-Type", "unknown type").split(";")[0]
    said = f"{response.status_code} {response.reason} with {len(content)} bytes of {kind}"
    if is_answer:
      try:
        return read(parse_json(content))
      except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        # Not chained: what has been read so far would be kept, too.
        raise Failure(FailureKind.FOREIGN, f"its answer is {said}, not as expected") from None
    kind = _KINDS.get(response.status_code, FailureKind.FAILED)
    if error := _ERROR.match(content):
      raise Failure(kind, _unescape(error[1]))
    # Of a proxy, in which only what passes can be believed.
    raise Failure(kind if kind in TEMPORARY else FailureKind.FOREIGN, f"its answer is {said}")


def _content(response: requests.Response, max_bytes: int | None) -> bytes:
  """Returns the body of an answer.

  Args:
    response: whose body has not been read.
    max_bytes: a larger one is refused; None takes the beginning of an error.

  Raises:
    Failure: it is too large, or compressed.
  """
  encoding = response.headers.get("Content-Encoding", "identity")
  if encoding.strip().lower() != "identity":
    raise Failure(
      FailureKind.FOREIGN, f"its answer is compressed ({encoding}), which was not asked for"
    )
  content = bytearray()
  for piece in response.iter_content(1 << 16):
    content += piece
    if max_bytes is None and len(content) > _MAX_ERROR_BYTES:
      return bytes(content[:_MAX_ERROR_BYTES])
    if max_bytes is not None and len(content) > max_bytes:
      raise Failure(FailureKind.FOREIGN, f"its answer has more than {max_bytes >> 20} MB")
  return bytes(content)


def _to_json(values: np.ndarray) -> list:
  if values.dtype == object:
    return [{"b64": base64.b64encode(value).decode()} for value in values]
  return values.tolist()


def _unescape(text: bytes) -> str:
  # The server escapes errors as C does, which is not always JSON: \' for instance.
  plain = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8) & 255]), text)
  plain = re.sub(rb"\\[nrt]", b" ", plain)
  return re.sub(rb"\\(.)", rb"\1", plain).decode(errors="replace")


def _failure(error: Exception) -> Failure:
  """Returns what went wrong, from the innermost of the exceptions around it."""
  causes: list[Any] = [error]
  while causes[-1]:
    # Their contexts would lead on, to whatever the caller is handling.
    inner = [value for value in causes[-1].args if isinstance(value, BaseException)]
    causes.append(inner[-1] if inner else causes[-1].__cause__)
  causes.pop()

  def has(*kinds: type) -> bool:
    return any(isinstance(cause, kinds) for cause in causes)

  reason = getattr(causes[-1], "strerror", None) or str(causes[-1])
  if has(requests.Timeout, urllib3.exceptions.ReadTimeoutError):
    return Failure(FailureKind.TIMEOUT, reason)
  # A closed connection is one of a bad status line, too.
  if has(http.client.BadStatusLine) and not has(ConnectionError):
    return Failure(FailureKind.FOREIGN, "its answer is not HTTP")
  if has(ssl.SSLCertVerificationError):
    return Failure(FailureKind.UNTRUSTED, str(getattr(causes[-1], "verify_message", reason)))
  if has(
    requests.exceptions.SSLError,
    requests.exceptions.ContentDecodingError,
    requests.exceptions.InvalidHeader,
    urllib3.exceptions.HTTPError,
    ValueError,
  ) and not has(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
    return Failure(FailureKind.FOREIGN, reason)
  if has(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
    return Failure(FailureKind.UNREACHABLE, reason)
  return Failure(FailureKind.FAILED, reason)
