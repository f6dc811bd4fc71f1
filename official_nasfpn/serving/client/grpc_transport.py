"""TensorFlow Serving over gRPC: images and detections as they are, without Base64 and JSON.

Needs TensorFlow and `tensorflow-serving-api`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
  get_model_metadata_pb2,
  get_model_status_pb2,
  model_service_pb2_grpc,
  predict_pb2,
  prediction_service_pb2_grpc,
)

from official_nasfpn.serving.client.transport import Failure, FailureKind

_OPTIONS = (
  # Four megabytes otherwise; what is sent has no limit.
  ("grpc.max_receive_message_length", -1),
  # The client counts attempts: gRPC shall make none of its own, nor refuse one without trying.
  ("grpc.enable_retries", 0),
  ("grpc.initial_reconnect_backoff_ms", 100),
  ("grpc.min_reconnect_backoff_ms", 100),
  ("grpc.max_reconnect_backoff_ms", 500),
)

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
_NOT_HTTP2 = re.compile(r"http1\.x|Failed parsing HTTP/2")


class GrpcTransport:
  """See `Transport`."""

  port_hint = "the port for gRPC, by default 8500"

  def __init__(self, server: str, model: str, version: int | None):
    """Connects on first use.

    Args:
      server: `host:port`.
      model: its name.
      version: None for the newest.
    """
    self.model = model
    self.version = version
    self._channel = grpc.insecure_channel(server, options=_OPTIONS)
    self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
    self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

  def predict(
    self, signature: str, inputs: Mapping[str, np.ndarray], timeout_s: float
  ) -> dict[str, np.ndarray]:
    """Returns the outputs of a signature."""
    request = self._of_model(predict_pb2.PredictRequest())
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
      request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    outputs = _ask(self._predictions.Predict, request, timeout_s).outputs
    return {name: _as_str(tf.make_ndarray(proto)) for name, proto in outputs.items()}

  def signatures(self, timeout_s: float) -> dict[str, set[str]]:
    """Returns the names of the inputs of every signature."""
    request = self._of_model(get_model_metadata_pb2.GetModelMetadataRequest())
    request.metadata_field.append("signature_def")
    answer = _ask(self._predictions.GetModelMetadata, request, timeout_s)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(definitions)
    return {name: set(found.inputs) for name, found in definitions.signature_def.items()}

  def versions(self, timeout_s: float) -> dict[int, str]:
    """Returns the state of every version of the model."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = self.model
    rows = _ask(self._models.GetModelStatus, request, timeout_s).model_version_status
    return {row.version: row.State.Name(row.state) for row in rows}

  def close(self) -> None:
    """Ends the connection."""
    self._channel.close()

  def _of_model(self, request: Any) -> Any:
    request.model_spec.name = self.model
    if self.version is not None:
      request.model_spec.version.value = self.version
    return request


def _ask(method: Callable, request: Any, timeout_s: float) -> Any:
  try:
    return method(request, timeout=timeout_s)
  except grpc.RpcError as error:
    kind = _KINDS.get(error.code(), FailureKind.FAILED)
    reason = (error.details() or error.code().name).rsplit("last error: ", 1)[-1]
    if kind is FailureKind.UNREACHABLE and _NOT_HTTP2.search(reason):
      raise Failure(FailureKind.FOREIGN, "its answer is not HTTP/2") from error
    raise Failure(kind, reason) from error


def _as_str(values: np.ndarray) -> np.ndarray:
  if values.dtype != object:
    return values
  texts = [text.decode(errors="replace") for text in values.flat]
  return np.array(texts, np.str_).reshape(values.shape)
