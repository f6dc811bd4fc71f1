"""A model server that answers as TensorFlow Serving does, and fails when told to.

It runs a SavedModel in a session, as TensorFlow Serving does, and so refuses images in the same
words. Statuses, texts of errors and their escaping are those of `http_server.cc`,
`http_rest_api_handler.cc`, `predict_util.cc` and `get_model_status_impl.cc`.
"""

import base64
import collections
import contextlib
import http.server
import json
import re
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

_HTTP_STATUS = {
  grpc.StatusCode.INVALID_ARGUMENT: 400,
  grpc.StatusCode.FAILED_PRECONDITION: 400,
  grpc.StatusCode.NOT_FOUND: 404,
  grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
  grpc.StatusCode.INTERNAL: 500,
  grpc.StatusCode.UNAVAILABLE: 503,
  grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(:predict|/metadata)?")


class ServerError(Exception):
  """What a request is answered with instead.

  Attributes:
    code: of gRPC.
    text: of the error.
  """

  def __init__(self, code: grpc.StatusCode, text: str):
    super().__init__(text)
    self.code = code
    self.text = text


class ModelServer:
  """One version of one model, over REST and gRPC.

  Attributes:
    state: of the model; unless "AVAILABLE" there is no prediction.
    faults: called before further predictions, one each: they raise a `ServerError`, or take time.
    pages: status, type and body, sent instead of REST's further answers to predictions.
    renamed: labels to send in place of the model's.
    num_predictions: requests for predictions so far, answered or not.
    has_metadata: whether it tells the signatures.
  """

  def __init__(self, export: Path, name: str):
    self.name = name
    self.reset()
    graph = tf.Graph()
    with graph.as_default():
      self._session = tf.compat.v1.Session(graph=graph)
      meta = tf.compat.v1.saved_model.load(self._session, ["serve"], str(export / "1"))
    self._signatures = dict(meta.signature_def)
    del self._signatures["__saved_model_init_op"]
    self._lock = threading.Lock()

  def reset(self) -> None:
    """Makes it well again."""
    self.state = "AVAILABLE"
    self.faults = collections.deque()
    self.pages = collections.deque()
    self.renamed = {}
    self.num_predictions = 0
    self.has_metadata = True

  def predict(self, spec, signature_name: str, inputs: dict, rest: bool = False) -> dict:
    with self._lock:
      self.num_predictions += 1
      fault = self.faults.popleft() if self.faults else None
    if fault:
      fault()
    self._find(*spec)
    signature = self._signatures.get(signature_name)
    if signature is None and rest:
      text = f'Serving signature name: "{signature_name}" not found in signature def'
      raise ServerError(grpc.StatusCode.INVALID_ARGUMENT, text)
    if signature is None:
      text = f'Serving signature key "{signature_name}" not found.'
      raise ServerError(grpc.StatusCode.FAILED_PRECONDITION, text)
    if set(inputs) != set(signature.inputs):
      text = f"input size does not match signature: {len(inputs)}!={len(signature.inputs)}"
      raise ServerError(grpc.StatusCode.INVALID_ARGUMENT, text)
    try:
      outputs = self._session.run(
        {name: info.name for name, info in signature.outputs.items()},
        {signature.inputs[name].name: values for name, values in inputs.items()},
      )
    except tf.errors.OpError as error:
      # Python's session rewrites what TensorFlow said, which the server passes on.
      said = error.__context__
      raise ServerError(_CODES[said.error_code], said.message) from None
    rename = np.vectorize(lambda label: self.renamed.get(label, label), otypes=[object])
    return {**outputs, "labels": rename(outputs["labels"])} if "labels" in outputs else outputs

  def status(self, name: str) -> get_model_status_pb2.GetModelStatusResponse:
    if name != self.name:
      raise ServerError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}")
    response = get_model_status_pb2.GetModelStatusResponse()
    state = get_model_status_pb2.ModelVersionStatus.State.Value(self.state)
    response.model_version_status.add(version=1, state=state)
    return response

  def metadata(self, spec) -> get_model_metadata_pb2.SignatureDefMap:
    self._find(*spec)
    if not self.has_metadata:
      raise ServerError(grpc.StatusCode.INTERNAL, "No metadata here")
    return get_model_metadata_pb2.SignatureDefMap(signature_def=self._signatures)

  def _find(self, name: str, version: int | None) -> None:
    if name != self.name or version not in (None, 1) or self.state != "AVAILABLE":
      asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
      raise ServerError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")

  @contextlib.contextmanager
  def serve(self) -> Iterator[tuple[int, int]]:
    """Serves on free ports of this machine: those of REST and gRPC."""
    rest = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _rest_handler(self))
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
        self._session.close()


def wait(seconds: float):
  """Returns a fault: the answer comes late."""
  return lambda: time.sleep(seconds)


def failing(code: grpc.StatusCode, text: str):
  """Returns a fault: an error is the answer."""

  def fault() -> None:
    raise ServerError(code, text)

  return fault


def _rest_handler(server: ModelServer) -> type:
  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # Header and body in one packet.

    def do_POST(self):
      body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
      if server.pages:
        server.num_predictions += 1
        self._send(*server.pages.popleft())
        return
      self._answer(lambda spec, _: _to_json(self._predict(spec, body)))

    def do_GET(self):
      def answer(spec, method):
        if method == "/metadata":
          return {
            "model_spec": {"name": server.name, "signature_name": "", "version": "1"},
            "metadata": {"signature_def": _message(server.metadata(spec))},
          }
        return _message(server.status(spec[0]))

      self._answer(answer)

    def _predict(self, spec, body):
      inputs = {}
      for name, values in body["inputs"].items():
        if values and isinstance(values[0], dict):
          decoded = [base64.b64decode(value["b64"], validate=True) for value in values]
          inputs[name] = np.array(decoded, object)
        else:
          inputs[name] = np.array(values, np.float32)
      return server.predict(spec, body["signature_name"], inputs, rest=True)

    def _answer(self, answer):
      path = _PATH.fullmatch(self.path)
      if not path:
        self._send(404, "text/html", b"<html><body><h1>Not Found</h1></body></html>")
        return
      spec = (path[1], int(path[2]) if path[2] else None)
      try:
        text = json.dumps(answer(spec, path[3]), ensure_ascii=False, indent=4)
        self._send(200, "application/json", text.encode())
      except ServerError as error:
        text = f'{{ "error": "{_c_escape(error.text)}" }}'
        self._send(_HTTP_STATUS[error.code], "application/json", text.encode())

    def _send(self, status, kind, body):
      # A client that gave up waiting is gone.
      with contextlib.suppress(ConnectionError):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
      pass

  return Handler


def _message(message) -> dict:
  return json.loads(json_format.MessageToJson(message, preserving_proto_field_name=True))


def _to_json(outputs: dict) -> dict:
  def values(array: np.ndarray) -> list:
    if array.dtype == object:
      return np.vectorize(bytes.decode, otypes=[object])(array).tolist()
    # As few digits as tell one float from another.
    return array.astype(str).astype(float).tolist() if array.dtype.kind == "f" else array.tolist()

  return {"outputs": {name: values(array) for name, array in outputs.items()}}


def _c_escape(text: str) -> str:
  """Escapes as `absl::CEscape`, which is not JSON."""
  known = {"\n": r"\n", "\r": r"\r", "\t": r"\t", '"': r"\"", "'": r"\'", "\\": r"\\"}
  return "".join(
    known.get(chr(byte)) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}")
    for byte in text.encode()
  )


@contextlib.contextmanager
def _status_of(context: grpc.ServicerContext) -> Iterator[None]:
  try:
    yield
  except ServerError as error:
    context.abort(error.code, error.text[:1024])


def _spec(spec) -> tuple[str, int | None]:
  return spec.name, spec.version.value if spec.HasField("version") else None


class _Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
  def __init__(self, server):
    self._server = server

  def Predict(self, request, context):
    with _status_of(context):
      inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
      spec = request.model_spec
      outputs = self._server.predict(_spec(spec), spec.signature_name, inputs)
      response = predict_pb2.PredictResponse()
      for name, value in outputs.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
      return response

  def GetModelMetadata(self, request, context):
    with _status_of(context):
      response = get_model_metadata_pb2.GetModelMetadataResponse()
      response.metadata["signature_def"].Pack(self._server.metadata(_spec(request.model_spec)))
      return response


class _Models(model_service_pb2_grpc.ModelServiceServicer):
  def __init__(self, server):
    self._server = server

  def GetModelStatus(self, request, context):
    with _status_of(context):
      return self._server.status(request.model_spec.name)
