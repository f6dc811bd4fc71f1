"""Detection by a model server: TensorFlow Serving with an export, over REST or gRPC."""

import dataclasses
import itertools
import os
import random
import re
import ssl
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from official_nasfpn.data.detections import Detections, split_batch
from official_nasfpn.data.image_headers import IMAGE_STARTS
from official_nasfpn.errors import UserError
from official_nasfpn.installation import require
from official_nasfpn.serving.client.answers import checked
from official_nasfpn.serving.client.transport import (
  TEMPORARY,
  Failure,
  FailureKind,
  Transport,
  one_line,
)
from official_nasfpn.serving.encoded_images import check_encoded
from official_nasfpn.serving.exit_choice import check_exit_choice

_URL_FORMS = "http://host:8501/v1/models/NAME for REST or grpc://host:8500/NAME for gRPC"
_REST_PATH = re.compile(r"(?P<prefix>.*)/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d+))?/?")
_GRPC_PATH = re.compile(r"/(?P<name>[^/:]+)(/(?P<version>\d+))?/?")
# "signature name" over REST, "signature key" over gRPC.
_NO_SIGNATURE = re.compile(r"signature .*not found", re.IGNORECASE)
_LONGEST_PAUSE_S = 10.0
# JSON has no infinity.
_LONGEST_BUDGET_MS = float(np.finfo(np.float32).max)

_Result = TypeVar("_Result")


class ServingError(UserError):
  """A model server gave no detections. The message says which server, why, and what to do."""


@dataclasses.dataclass(frozen=True)
class Refusal:
  """An image that the server cannot decode.

  Attributes:
    index: its position among the images of the call.
    reason: the server's reason, in one line.
  """

  index: int
  reason: str


class DetectionClient:
  """A connection to a model on a server. Usable in a `with` statement."""

  def __init__(
    self,
    url: str,
    timeout_s: float = 60.0,
    attempts: int = 4,
    backoff_s: float = 0.5,
    ca_file: str | os.PathLike[str] | None = None,
  ):
    """Connects on first use.

    Args:
      url: `http(s)://host:8501/v1/models/NAME[/versions/V]` for REST, `grpc(s)://host:8500/NAME[/V]`
        for gRPC; without V the newest version. With the `s` the connection is encrypted, and the
        server must prove by a certificate that it is the host.
      timeout_s: timeout of each attempt in seconds, from connecting to the last byte.
      attempts: number of attempts of each request, as long as another one may help.
      backoff_s: pause in seconds before the second attempt, doubled before each further one, and
        shortened by up to a half at random lest many clients come back at once.
      ca_file: PEM file of the authorities whose certificates are believed; None for those that
        `requests` and gRPC bring along.

    Raises:
      UserError: `url` is neither, `ca_file` cannot be used, or a package is missing.
    """
    self.url = url
    self._shown_url = _without_password(url)
    self._transport = _connect(url, _authorities(url, ca_file))
    self._timeout_s = timeout_s
    self._attempts = attempts
    self._backoff_s = backoff_s

  def __enter__(self) -> "DetectionClient":
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def close(self) -> None:
    """Ends the connection."""
    self._transport.close()

  def detect(
    self,
    encoded: Sequence[bytes],
    exit_number: int | None = None,
    budget_ms: float | None = None,
  ) -> list[Detections | Refusal]:
    """Detects objects.

    Args:
      encoded: JPEG or PNG images, of any and of mixed sizes; an EXIF orientation is not followed.
        They are sent together; when the server refuses them, halves of them, until those that it
        cannot read are alone. These are sent once more, since a server that merges requests refuses
        all that it has merged with a bad one.
      exit_number: the exit of an anytime detector; None takes the last.
      budget_ms: milliseconds for all images together, by which the server chooses the exit; see
        `Detections.expected_ms` for whether it is met.

    Returns:
      One for each image, in order.

    Raises:
      ServingError: there is no answer, or no such exit or model.
      UserError: both an exit and a budget are given, the budget is no time, or an image is not the
        bytes of one.
    """
    images = check_encoded(encoded)
    check_exit_choice(exit_number, budget_ms)
    signature = "serving_default" if exit_number is None else f"exit_{exit_number}"
    budget_per_image_ms = None
    if budget_ms is not None:
      signature = "detect_within"
      budget_per_image_ms = min(budget_ms, _LONGEST_BUDGET_MS) / max(len(images), 1)
    try:
      found = self._detect(images, 0, signature, budget_per_image_ms)
      return self._asked_again(found, images, signature, budget_per_image_ms)
    except Failure as failure:
      raise ServingError(self._sentence(failure)) from failure

  def _asked_again(
    self,
    found: list[Detections | Refusal],
    encoded: list[bytes],
    signature: str,
    budget_per_image_ms: float | None,
  ) -> list[Detections | Refusal]:
    """Asks once more for each image that was refused and may be a good one.

    A server that merges requests refuses all that it has merged with a bad image of others.
    """
    doubtful = [
      one.index
      for one in found
      if isinstance(one, Refusal) and encoded[one.index].startswith(IMAGE_STARTS)
    ]
    if not doubtful or self._attempts < 2:
      return found
    # One of random length, after which a request is not merged with the same others again.
    _pause(self._backoff_s)
    for index in doubtful:
      image = [encoded[index]]
      (found[index],) = self._detect(image, index, signature, budget_per_image_ms, is_part=True)
    return found

  def _detect(
    self,
    encoded: list[bytes],
    first: int,
    signature: str,
    budget_per_image_ms: float | None,
    is_part: bool = False,
  ) -> list[Detections | Refusal]:
    """Detects in some images of a call; `first` is the index of the first of them."""
    if not encoded:
      return []
    inputs = {"image_bytes": np.array(encoded, object)}
    if budget_per_image_ms is not None:
      # One for each image: a server that merges requests wants inputs of equal length.
      budget_ms = budget_per_image_ms * len(encoded)
      inputs["budget_ms"] = np.full(len(encoded), budget_ms, np.float32)
    try:
      outputs = self._retry(lambda: self._predict(signature, inputs))
    except Failure as failure:
      if failure.kind is not FailureKind.INVALID:
        raise
      if not is_part:
        self._check_signature(signature, set(inputs), failure)
      if len(encoded) == 1:
        return [Refusal(first, failure.reason)]
      half = len(encoded) // 2
      return [
        *self._detect(encoded[:half], first, signature, budget_per_image_ms, is_part=True),
        *self._detect(encoded[half:], first + half, signature, budget_per_image_ms, is_part=True),
      ]
    return split_batch(checked(outputs, len(encoded)))

  def _retry(self, ask: Callable[[], _Result]) -> _Result:
    """Repeats a request until there is an answer, or no further attempt can help."""
    pause_s = self._backoff_s
    for attempt in itertools.count(1):
      try:
        return ask()
      except Failure as failure:
        if failure.kind not in TEMPORARY or attempt >= self._attempts:
          raise
      _pause(pause_s)
      pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

  def _predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    try:
      return self._transport.predict(signature, inputs, self._timeout_s)
    except Failure as failure:
      if failure.kind is not FailureKind.NOT_FOUND:
        raise
      version = self._transport.version
      states = [state for v, state in self._versions().items() if version in (None, v)]
      # While a model is loading, the server says that there is none.
      if {"START", "LOADING"} & set(states):
        raise Failure(FailureKind.LOADING, failure.reason) from failure
      raise

  def _versions(self) -> dict[int, str]:
    """Returns the state of every version; empty if the server does not tell."""
    try:
      return self._transport.versions(self._timeout_s)
    except Failure:
      return {}

  def _check_signature(self, signature: str, inputs: set[str], refusal: Failure) -> None:
    """Raises a `ServingError` if a request was refused for another reason than its images."""
    name = signature.replace("_", " ") if "exit_" in signature else f"signature {signature}"
    try:
      signatures = self._transport.signatures(self._timeout_s)
    except Failure:
      # A proxy may let nothing through but predictions.
      if not _NO_SIGNATURE.search(refusal.reason):
        return
      reason = refusal.reason.rstrip(".")
      raise ServingError(f"There is no {name} at {self._shown_url}: {reason}.") from refusal
    if signature not in signatures:
      has = one_line(", ".join(sorted(signatures)))
      raise ServingError(
        f"There is no {name}: the model at {self._shown_url} has the signatures {has}."
      ) from refusal
    if signatures[signature] != inputs:
      takes = one_line(", ".join(sorted(signatures[signature])))
      raise ServingError(
        f"The {name} of the model at {self._shown_url} takes {takes}, not "
        f"{', '.join(sorted(inputs))}: it is no export of ours."
      ) from refusal

  def _sentence(self, failure: Failure) -> str:
    """Returns the message for a failure: what is wrong, and what to do."""
    url, hint, reason = self._shown_url, self._transport.port_hint, failure.reason.rstrip(".")
    tried = f"in {self._attempts} attempts" if self._attempts > 1 else "in one attempt"
    match failure.kind:
      case FailureKind.UNREACHABLE:
        return f"No answer from {url} {tried}: {reason}. Is the server running, and is it {hint}?"
      case FailureKind.TIMEOUT:
        return (
          f"No answer from {url} within {self._timeout_s:g} s {tried}: give the client a larger "
          "timeout_s, or send fewer images at once."
        )
      case FailureKind.BUSY:
        return f"{url} has no room {tried}: {reason}. Send fewer images at once, or try later."
      case FailureKind.LOADING:
        return f"The model {self._transport.model} at {url} is still loading: try again later."
      case FailureKind.NOT_FOUND:
        versions = ", ".join(f"{v} ({s.lower()})" for v, s in sorted(self._versions().items()))
        if not versions:
          return f"There is no model {self._transport.model} at {url}: check MODEL_NAME."
        versions = one_line(versions)
        return f"The model at {url} is not available; the server has its versions {versions}."
      case FailureKind.UNTRUSTED:
        return (
          f"{url} does not prove that it is the server of that name: {reason}. If its certificate "
          "is signed by an authority of your own, give the client that one's as ca_file."
        )
      case FailureKind.FOREIGN:
        return f"{url} does not answer as TensorFlow Serving does: {reason}. Is it {hint}?"
    return f"The server at {url} failed: {reason}. Its log says more."


def _pause(longest_s: float) -> None:
  """Waits for the time or half of it, lest many clients come back at once."""
  time.sleep(min(longest_s, _LONGEST_PAUSE_S) * random.uniform(0.5, 1))


def _authorities(url: str, ca_file: str | os.PathLike[str] | None) -> str | None:
  """Returns `ca_file` as text, once it was read.

  Raises:
    UserError: it is no file of certificates, or nothing is encrypted.
  """
  if ca_file is None:
    return None
  if not url.startswith(("https:", "grpcs:")):
    raise UserError(
      f"ca_file is for https:// and grpcs://; nothing proves who answers at "
      f"{_without_password(url)!r}."
    )
  try:
    ssl.create_default_context(cafile=ca_file)
  except (OSError, ValueError) as error:  # ssl.SSLError is an OSError.
    reason = getattr(error, "strerror", None) or error
    raise UserError(f"ca_file {os.fspath(ca_file)!r} has no certificates: {reason}.") from error
  return os.fspath(ca_file)


def _without_password(url: str) -> str:
  """Returns an address as it may be shown and logged."""
  return re.sub(r"//[^/]*@", "//", url)


def _connect(url: str, ca_file: str | None) -> Transport:
  try:
    parts = urllib.parse.urlsplit(url)
    has_host = bool(parts.hostname) and parts.port != 0  # The port is checked when it is read.
  except ValueError:
    parts, has_host = urllib.parse.urlsplit(""), False
  is_grpc = parts.scheme in ("grpc", "grpcs")
  path = (_GRPC_PATH if is_grpc else _REST_PATH).fullmatch(parts.path)
  if (
    not has_host
    or parts.scheme not in ("grpc", "grpcs", "http", "https")
    or not path
    or parts.query
  ):
    raise UserError(
      f"{_without_password(url)!r} is not the address of a model: that is {_URL_FORMS}."
    )
  if is_grpc and "@" in parts.netloc:
    raise UserError(
      f"{_without_password(url)!r} was given with a user name, which gRPC does not send: leave it "
      "out, or use REST."
    )
  version = int(path["version"]) if path["version"] else None
  if not is_grpc:
    require("A client over REST", "requests")
    from official_nasfpn.serving.client.rest_transport import RestTransport

    server = f"{parts.scheme}://{parts.netloc}{path['prefix']}"
    return RestTransport(server, path["name"], version, ca_file)
  require(
    "A client over gRPC",
    "grpc",
    "tensorflow_serving",
    otherwise="Over REST, http://..., it does not.",
  )
  from official_nasfpn.serving.client.grpc_transport import GrpcTransport

  server = parts.netloc if parts.port else f"{parts.netloc}:8500"
  name, is_encrypted = urllib.parse.unquote(path["name"]), parts.scheme == "grpcs"
  return GrpcTransport(server, name, version, is_encrypted, ca_file)
