"""TensorFlow Serving over REST: JSON, without TensorFlow.

https://www.tensorflow.org/tfx/serving/api_rest
"""

import base64
import http.client
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import requests
import urllib3

from official_nasfpn.data.detections import BATCH_ARRAYS, BUDGET_ARRAYS
from official_nasfpn.serving.client.transport import TEMPORARY, Failure, FailureKind

# JSON has one kind of number.
_TYPES = {name: spec.dtype for name, spec in {**BATCH_ARRAYS, **BUDGET_ARRAYS}.items()}

# TensorFlow Serving has one status for each of TensorFlow's codes; proxies add 502 and their own.
_KINDS = {
  400: FailureKind.INVALID,
  404: FailureKind.NOT_FOUND,
  429: FailureKind.BUSY,
  502: FailureKind.UNREACHABLE,
  503: FailureKind.UNREACHABLE,
  504: FailureKind.TIMEOUT,
}

_Read = TypeVar("_Read")


class RestTransport:
  """See `Transport`."""

  port_hint = "the port for REST, by default 8501"

  def __init__(self, server: str, model: str, version: int | None):
    """Connects on first use.

    Args:
      server: `http://host:port`, perhaps with a path before `/v1`.
      model: its name, as in a URL.
      version: None for the newest.
    """
    self.model = model
    self.version = version
    self._all_versions = f"{server}/v1/models/{model}"
    self._url = self._all_versions + ("" if version is None else f"/versions/{version}")
    self._session = requests.Session()

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
      return {name: np.array(values, _TYPES.get(name)) for name, values in outputs}

    return self._ask("POST", f"{self._url}:predict", timeout_s, read, request)

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
    self, method: str, url: str, timeout_s: float, read: Callable[[Any], _Read], body: Any = None
  ) -> _Read:
    try:
      response = self._session.request(
        method, url, json=body, timeout=timeout_s, allow_redirects=False
      )
    except requests.RequestException as error:
      raise _failure(error) from error
    kind = response.headers.get("Content-Type", "unknown type").split(";")[0]
    said = f"{response.status_code} {response.reason} with {len(response.content)} bytes of {kind}"
    if response.status_code == 200:
      try:
        return read(json.loads(response.content))
      except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise Failure(FailureKind.FOREIGN, f"its answer is {said}, not as expected") from error
    kind = _KINDS.get(response.status_code, FailureKind.FAILED)
    error = re.fullmatch(rb'\s*\{\s*"error"\s*:\s*"(.*)"\s*\}\s*', response.content, re.DOTALL)
    if error:
      raise Failure(kind, _unescape(error[1]))
    # Of a proxy, in which only what passes can be believed.
    raise Failure(kind if kind in TEMPORARY else FailureKind.FOREIGN, f"its answer is {said}")


def _to_json(values: np.ndarray) -> list:
  if values.dtype == object:
    return [{"b64": base64.b64encode(value).decode()} for value in values]
  return values.tolist()


def _unescape(text: bytes) -> str:
  # The server escapes errors as C does, which is not always JSON: \' for instance.
  plain = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8) & 255]), text)
  plain = re.sub(rb"\\[nrt]", b" ", plain)
  return re.sub(rb"\\(.)", rb"\1", plain).decode(errors="replace")


def _failure(error: requests.RequestException) -> Failure:
  """Returns what went wrong, from the innermost of the exceptions around it."""
  causes = [error]
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
  if has(requests.exceptions.SSLError, requests.exceptions.ContentDecodingError):
    return Failure(FailureKind.FOREIGN, reason)
  if has(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
    return Failure(FailureKind.UNREACHABLE, reason)
  return Failure(FailureKind.FAILED, reason)
