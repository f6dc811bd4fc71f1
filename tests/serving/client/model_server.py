"""Our own server of an export over REST and gRPC, which fails on demand.

Errors over gRPC have the statuses and texts of `predict_util.cc` and `get_model_status_impl.cc` in
TensorFlow Serving.
"""

import collections
import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
  get_model_metadata_pb2,
  get_model_status_pb2,
  model_service_pb2_grpc,
  predict_pb2,
  prediction_service_pb2_grpc,
)

from official_nasfpn.serving.export_folder import find_export
from official_nasfpn.serving.server.rest_json import ModelError
from official_nasfpn.serving.server.rest_server import RestHandler, RestServer
from official_nasfpn.serving.server.served_model import ServedModel


class ModelServer(ServedModel):
  """One version of one model, over REST and gRPC.

  Attributes:
    state: the state of the model; it predicts only in "AVAILABLE".
    faults: functions to call before the next predictions, one each; they raise a `ModelError` or
      take time.
    pages: status, type and body to send instead of the next REST answers to predictions.
    renamed: labels to send in place of the model's.
    num_predictions: number of requests for predictions so far, answered or not.
    has_metadata: whether it answers requests for the signatures.
  """

  def __init__(self, export: Path, name: str):
    super().__init__(find_export(export), name)
    self._counting = threading.Lock()
    self.reset()

  def reset(self) -> None:
    """Removes all faults."""
    self.state = "AVAILABLE"
    self.faults = collections.deque()
    self.pages = collections.deque()
    self.renamed = {}
    self.num_predictions = 0
    self.has_metadata = True

  def begin(self) -> None:
    """Counts a request for a prediction, and applies the next fault."""
    with self._counting:
      self.num_predictions += 1
      fault = self.faults.popleft() if self.faults else None
    if fault:
      fault()

  def find(self, name, version):
    super().find(name, version)
    if self.state != "AVAILABLE":
      raise ModelError("NOT_FOUND", f"Servable not found for request: Latest({name})")

  def status(self, name, version):
    answer = super().status(name, version)
    answer["model_version_status"][0]["state"] = self.state
    return answer

  def inputs_of(self, name, version, signature_name):
    self.begin()
    return super().inputs_of(name, version, signature_name)

  def predict(self, signature_name, inputs):
    outputs = super().predict(signature_name, inputs)
    rename = np.vectorize(lambda label: self.renamed.get(label, label), otypes=[object])
    return {**outputs, "labels": rename(outputs["labels"])} if "labels" in outputs else outputs

  def metadata(self, name, version):
    answer = super().metadata(name, version)
    if not self.has_metadata:
      raise ModelError("INTERNAL", "No metadata here")
    return answer

  @contextlib.contextmanager
  def serve(self) -> Iterator[tuple[int, int]]:
    """Serves on free ports of this machine; yields those of REST and gRPC."""
    rest = RestServer("127.0.0.1", 0, handler=_Handler)
    rest.model = self
    rest.server_activate()
    thread = threading.Thread(target=rest.serve_forever, args=(0.01,))
    thread.start()
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with futures.ThreadPoolExecutor(4) as pool:
      rpc = grpc.server(pool, options=options)
      prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Predictions(self), rpc)
      model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(self), rpc)
      port = rpc.add_insecure_port("127.0.0.1:0")
      rpc.start()
      try:
        yield rest.server_port, port
      finally:
        rpc.stop(None).wait()
        rest.shutdown()
        thread.join()
        rest.server_close()


def wait(seconds: float):
  """Returns a fault that delays the answer."""
  return lambda: time.sleep(seconds)


def failing(code: grpc.StatusCode, text: str):
  """Returns a fault that answers with an error."""

  def fault() -> None:
    raise ModelError(code.name, text)

  return fault


class _Handler(RestHandler):
  def do_POST(self):
    model = self.server.model
    if not model.pages:
      super().do_POST()
      return
    self._body()
    model.num_predictions += 1
    status, kind, body = model.pages.popleft()
    with contextlib.suppress(OSError):
      self.send_response(status)
      self.send_header("Content-Type", kind)
      self.send_header("Content-Length", str(len(body)))
      self.end_headers()
      self.wfile.write(body)


@contextlib.contextmanager
def _status_of(context: grpc.ServicerContext) -> Iterator[None]:
  try:
    yield
  except ModelError as error:
    context.abort(grpc.StatusCode[error.code], error.text[:1024])


def _spec(spec) -> tuple[str, int | None]:
  return spec.name, spec.version.value if spec.HasField("version") else None


class _Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
  def __init__(self, model):
    self._model = model

  def Predict(self, request, context):
    with _status_of(context):
      inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
      response = predict_pb2.PredictResponse()
      for name, value in self._predict(request.model_spec, inputs).items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
      return response

  def _predict(self, spec, inputs):
    self._model.begin()
    self._model.find(*_spec(spec))
    signature = self._model.signatures.get(spec.signature_name)
    if signature is None:
      text = f'Serving signature key "{spec.signature_name}" not found.'
      raise ModelError("FAILED_PRECONDITION", text)
    if set(inputs) != set(signature.inputs):
      text = f"input size does not match signature: {len(inputs)}!={len(signature.inputs)}"
      raise ModelError("INVALID_ARGUMENT", text)
    return self._model.predict(spec.signature_name, inputs)

  def GetModelMetadata(self, request, context):
    with _status_of(context):
      answer = self._model.metadata(*_spec(request.model_spec))["metadata"]["signature_def"]
      definitions = json_format.ParseDict(answer, get_model_metadata_pb2.SignatureDefMap())
      response = get_model_metadata_pb2.GetModelMetadataResponse()
      response.metadata["signature_def"].Pack(definitions)
      return response


class _Models(model_service_pb2_grpc.ModelServiceServicer):
  def __init__(self, model):
    self._model = model

  def GetModelStatus(self, request, context):
    with _status_of(context):
      answer = self._model.status(*_spec(request.model_spec))
      return json_format.ParseDict(answer, get_model_status_pb2.GetModelStatusResponse())
