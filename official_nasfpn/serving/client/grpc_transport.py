"""TensorFlow Serving over gRPC: images and detections as they are, without Base64 and JSON.

Needs TensorFlow and `tensorflow-serving-api`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google.protobuf.message
import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from official_nasfpn.serving.client.answers import ARRAYS, check_shape
from official_nasfpn.serving.client.transport import Failure, FailureKind

_OPTIONS = (
  # Four megabytes otherwise; what is sent has no limit.
  ("grpc.max_receive_message_length", 256 << 20),
  # What is not compressed cannot grow when it is read.
  ("grpc.compression_enabled_algorithms_bitset", 1),
  ("grpc.per_message_decompression", 0),
  # The client counts attempts: gRPC shall make none of its own, nor refuse one without trying.
  ("grpc.enable_retries", 0),
  ("grpc.initial_reconnect_backoff_ms", 100),
  ("grpc.min_reconnect_backoff_ms", 100),
  ("grpc.max_reconnect_backoff_ms", 500),
)

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

_KINDS = {
  grpc.StatusCode.UNAVAILABLE: FailureKind.UNREACHABLE,
  grpc.StatusCode.DEADLINE_EXCEEDED: FailureKind.TIMEOUT,
  grpc.StatusCode.RESOURCE_EXHAUSTED: FailureKind.BUSY,
  grpc.StatusCode.NOT_FOUND: FailureKind.NOT_FOUND,
  grpc.StatusCode.UNIMPLEMENTED: FailureKind.FOREIGN,
  # These three are one over REST.
  grpc.StatusCode.INVALID_ARGUMENT: FailureKind.INVALID,
  grpc.StatusCode.FAILED_PRECONDITION: FailureKind.INVALID,
  grpc.StatusCode.OUT_OF_RANGE: FailureKind.INVALID,
}
_UNTRUSTED = re.compile(r"(CERTIFICATE_VERIFY_FAILED|[Hh]ostname|[Pp]eer name).*", re.DOTALL)
_NOT_HTTP2 = re.compile(r"http1\.x|Failed parsing HTTP/2")


class GrpcTransport:
  """See `Transport`."""

  port_hint = "the port for gRPC, by default 8500"

  def __init__(
    self,
    server: str,
    model: str,
    version: int | None,
    is_encrypted: bool = False,
    ca_file: str | None = None,
  ):
    """Connects on first use.

    Args:
      server: `host:port`.
      model: its name.
      version: None for the newest.
      is_encrypted: whether the connection is, and the server's certificate is checked.
      ca_file: PEM file of the authorities that it is checked against; None for those of gRPC.
    """
    self.model = model
    self.version = version
    if is_encrypted:
      authorities = Path(ca_file).read_bytes() if ca_file else None
      credentials = grpc.ssl_channel_credentials(authorities)
      self._channel = grpc.secure_channel(server, credentials, options=_OPTIONS)
    else:
      self._channel = grpc.insecure_channel(server, options=_OPTIONS)

  def predict(
    self, signature: str, inputs: Mapping[str, np.ndarray], timeout_s: float
  ) -> dict[str, np.ndarray]:
    """Returns the outputs of a signature."""
    request = self._of_model(predict_pb2.PredictRequest())
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
      request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    answer = self._ask(_PREDICT, request, predict_pb2.PredictResponse(), timeout_s)
    outputs = answer.outputs
    num_images = max(map(len, inputs.values()))
    return {name: _array(name, outputs[name], num_images) for name in ARRAYS if name in outputs}

  def signatures(self, timeout_s: float) -> dict[str, set[str]]:
    """Returns the names of the inputs of every signature."""
    request = self._of_model(get_model_metadata_pb2.GetModelMetadataRequest())
    request.metadata_field.append("signature_def")
    answer = get_model_metadata_pb2.GetModelMetadataResponse()
    self._ask(_METADATA, request, answer, timeout_s)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    _read(definitions, answer.metadata["signature_def"].value)
    return {name: set(found.inputs) for name, found in definitions.signature_def.items()}

  def versions(self, timeout_s: float) -> dict[int, str]:
    """Returns the state of every version of the model."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = self.model
    answer = get_model_status_pb2.GetModelStatusResponse()
    rows = self._ask(_STATUS, request, answer, timeout_s).model_version_status
    names = get_model_status_pb2.ModelVersionStatus.State.DESCRIPTOR.values_by_number
    return {row.version: names[row.state].name for row in rows if row.state in names}

  def close(self) -> None:
    """Ends the connection."""
    self._channel.close()

  def _ask(self, method: str, request: Any, answer: Any, timeout_s: float) -> Any:
    """Reads the answer of a method into the message `answer`, and returns it."""
    # Read here: gRPC logs a traceback for what it cannot read.
    call = self._channel.unary_unary(method, type(request).SerializeToString)
    try:
      content = call(request, timeout=timeout_s)
    except grpc.RpcError as error:
      kind = _KINDS.get(error.code(), FailureKind.FAILED)
      reason = (error.details() or error.code().name).rsplit("last error: ", 1)[-1]
      if kind is FailureKind.UNREACHABLE and (untrusted := _UNTRUSTED.search(reason)):
        raise Failure(FailureKind.UNTRUSTED, untrusted[0]) from error
      if kind is FailureKind.UNREACHABLE and _NOT_HTTP2.search(reason):
        raise Failure(FailureKind.FOREIGN, "its answer is not HTTP/2") from error
      raise Failure(kind, reason) from error
    _read(answer, content)
    return answer

  def _of_model(self, request: Any) -> Any:
    request.model_spec.name = self.model
    if self.version is not None:
      request.model_spec.version.value = self.version
    return request


def _read(message: Any, content: bytes) -> None:
  """Reads what a server has sent into a message."""
  try:
    message.ParseFromString(content)
  except google.protobuf.message.DecodeError as error:
    said = f"its answer is no {type(message).__name__}"
    raise Failure(FailureKind.FOREIGN, said) from error


def _array(name: str, proto: TensorProto, num_images: int) -> np.ndarray:
  """Returns one of `ARRAYS`, strings as objects.

  Its shape is checked before: a tensor of any size takes a few bytes if its values are all equal.
  """
  wanted = ARRAYS[name].dtype
  is_text = issubclass(wanted, np.str_)
  if proto.dtype != (tf.string if is_text else tf.as_dtype(wanted)).as_datatype_enum:
    said = f"its outputs are not those of an export: {name} is no {wanted.__name__}"
    raise Failure(FailureKind.FOREIGN, said)
  check_shape(name, tuple(axis.size for axis in proto.tensor_shape.dim), num_images, None)
  try:
    values = tf.make_ndarray(proto)
  except (ValueError, TypeError) as error:
    said = f"its outputs are not those of an export: {name} cannot be read"
    raise Failure(FailureKind.FOREIGN, said) from error
  if not is_text:
    return values
  texts = np.empty(values.size, object)
  texts[:] = [text.decode(errors="replace") for text in values.flat]
  return texts.reshape(values.shape)
