"""Answers of strange model servers over both protocols: sound detections, or one sentence."""

import json

import numpy as np
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from official_nasfpn.serving.client.client import DetectionClient, Refusal, ServingError
from official_nasfpn.serving.client.grpc_transport import GrpcTransport
from official_nasfpn.serving.client.transport import Failure
from tests.fuzz.fuzzing import check_sentence, examples, opened_files, readable_logs
from tests.fuzz.mutations import mutated
from tests.serving.client.hostile_server import grpc_server, raw_server, response_of

NUM_IMAGES = 2
IMAGES = [b"\x89PNG", b"\xff\xd8"]
GOOD = {
  "boxes": [[[0.0, 1.0, 2.0, 3.0], [0.0] * 4], [[4.0, 4.0, 5.5, 9.0], [1.0] * 4]],
  "scores": [[0.5, 0.0], [0.75, 0.5]],
  "classes": [[1, 0], [0, 1]],
  "category_ids": [[9, 0], [3, 9]],
  "labels": [["bee", ""], ["ant", "bee"]],
  "num_detections": [1, 2],
  "exit": [1, 3],
  "expected_ms": [1.5, 2.0],
}
VALUES = st.recursive(
  st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 4),
    st.floats(),
    st.sampled_from([2**31, 2**63, -(2**70), 1e308, 1e-320, "0.5", "", "\ud800", "\x1b[2J", "🦝"]),
    st.text(max_size=4),
  ),
  lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)
  ),
  max_leaves=12,
)


@st.composite
def outputs(draw):
  """Returns good outputs, in which a few are something else, missing or beside others."""
  changed = json.loads(json.dumps(GOOD))
  for _ in range(draw(st.integers(0, 3))):
    name = draw(st.sampled_from(sorted(GOOD)))
    kind = draw(st.sampled_from(("one number", "whole", "missing", "another")))
    if kind == "missing":
      changed.pop(name, None)
    elif kind == "another":
      changed[draw(st.text(max_size=9))] = draw(VALUES)
    elif kind == "whole" or not isinstance(changed.get(name), list):
      changed[name] = draw(VALUES)
    else:
      row = changed[name]
      while row and isinstance(row[0], list):
        row = row[0]
      row[:1] = [draw(VALUES)]
  return changed


def message(status, body, *headers):
  head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
  return "\r\n".join(head).encode() + b"\r\n\r\n" + body


JSON = "Content-Type: application/json"
MESSAGES = [
  message(200, json.dumps({"outputs": GOOD}).encode(), JSON),
  message(200, json.dumps({"outputs": GOOD}, indent=1).encode(), JSON),
  message(400, b'{"error": "assertion failed: [no image at position] [1]"}', JSON),
  message(400, b'{"error": "signature \\"detect_within\\" not found"}', JSON),
  message(404, b'{"error": "Servable not found for request: Latest(m)"}', JSON),
  message(503, b'{"error": "busy"}', JSON),
  message(302, b"", "Location: http://127.0.0.1:1/v1/models/m"),
  message(200, b"<html>", "Content-Type: text/html"),
  b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
  b'c\r\n{"outputs":1\r\n1\r\n}\r\n0\r\n\r\n',
]
PIECES = [
  b"",
  b"\r\n",
  b"\n",
  b"\r\n\r\n",
  b"\0",
  b"\xff",
  b"\xed\xa0\x80",
  b"\x1b[2J",
  b"[" * 3000,
  b'{"a":' * 2000,
  b"9" * 5000,
  b"-1",
  b"1e999",
  b"NaN",
  b"null",
  b"true",
  b'"',
  b"HTTP/1.1 100 Continue\r\n\r\n",
  b"HTTP/2",
  b" 999 ",
  b" 000 ",
  b" 1000 ",
  b"Content-Length: 99\r\n",
  b"Content-Length: -1\r\n",
  b"Content-Length: 99999999999999999999\r\n",
  b"Content-Encoding: gzip\r\n",
  b"Transfer-Encoding: chunked\r\n",
  b"Content-Type: \x1b[31m\r\n",
  b"Set-Cookie: a=b\r\n",
  b"X-Header: 1\r\n" * 200,
  b"{{node a}}" * 50,
  b"ffffffff\r\n",
]


def check_detections(found):
  """Fails unless the answer to a call is one that an export can give."""
  assert len(found) == NUM_IMAGES
  for number, image in enumerate(found):
    if isinstance(image, Refusal):
      assert image.index == number
      assert 0 < len(image.reason) <= 300
      assert image.reason.isprintable()
      continue
    rows = len(image.scores)
    assert image.boxes.shape == (rows, 4)
    assert len(image.labels) == len(image.classes) == len(image.category_ids) == rows
    assert np.isfinite(image.boxes).all()
    assert ((image.scores >= 0) & (image.scores <= 1)).all()
    assert (image.classes >= 0).all()
    assert all(isinstance(label, str) for label in image.labels)


def ask(client, budget_ms):
  found, sentence = None, None
  with opened_files() as opened, readable_logs():
    try:
      found = client.detect(IMAGES, budget_ms=budget_ms)
    except ServingError as error:
      check_sentence(error)
      sentence = str(error)
  assert not [path for path, writes in opened if writes]
  event("taken" if sentence is None else "refused")
  if sentence is None:
    check_detections(found)
  else:
    assert len(sentence) < 700
    assert sentence.isprintable()


class Answer:
  """What a server answers at the moment."""

  def __init__(self):
    self.data = b""


@pytest.fixture(scope="module")
def rest():
  answer = Answer()
  with (
    raw_server(lambda connection: connection.sendall(answer.data)) as port,
    DetectionClient(f"http://127.0.0.1:{port}/v1/models/m", 5.0, attempts=1) as client,
  ):
    yield answer, client


@pytest.fixture(scope="module")
def grpc():
  answer = Answer()
  with (
    grpc_server(lambda: answer.data) as port,
    DetectionClient(f"grpc://127.0.0.1:{port}/m", 5.0, attempts=1) as client,
  ):
    yield answer, client


@examples(120)
@given(
  body=st.builds(lambda found: {"outputs": found}, outputs()) | VALUES, has_budget=st.booleans()
)
def test_json_of_any_shape(rest, body, has_budget):
  answer, client = rest
  answer.data = message(200, json.dumps(body).encode("utf-8", "surrogatepass"), JSON)
  ask(client, 5.0 if has_budget else None)


# urllib3 warns of it in one line.
TWO_LENGTHS = (
  b"HTTP/1.1 400 X\r\nContent-Length: 50\rTransfer-Encoding: chunked\r\n\n"
  b'Content-Type: application/json\r\n\r\n{"error": "not found"}'
)


@examples(150)
@given(data=mutated(MESSAGES, PIECES) | st.binary(max_size=64))
@example(data=TWO_LENGTHS)
def test_a_damaged_message(rest, data):
  answer, client = rest
  answer.data = data
  ask(client, None)


RESPONSES = [
  response_of(outputs).SerializeToString()
  for outputs in (GOOD, {name: GOOD[name] for name in list(GOOD)[:6]})
]
WIRE = [
  b"",
  b"\0",
  b"\x7f",
  b"\xff" * 9,
  b"\x0a\x00",
  b"\x12\x03",
  b"\x08\x01",
  b"boxes",
  b"\x12" * 50,
]


@examples(150)
@given(data=mutated(RESPONSES, WIRE) | st.binary(max_size=64))
def test_a_damaged_message_over_grpc(grpc, data):
  answer, client = grpc
  answer.data = data
  ask(client, None)


@st.composite
def odd_tensors(draw):
  """Returns a message of tensors whose types, shapes and contents need not agree."""
  response = predict_pb2.PredictResponse.FromString(RESPONSES[0])
  for _ in range(draw(st.integers(1, 3))):
    tensor = response.outputs[draw(st.sampled_from(sorted(GOOD)))]
    kind = draw(st.sampled_from(("type", "size", "axis", "content", "values")))
    if kind == "type":
      tensor.dtype = draw(st.integers(0, 30))
    elif kind == "size" and tensor.tensor_shape.dim:
      axis = draw(st.sampled_from(tensor.tensor_shape.dim))
      axis.size = draw(st.sampled_from((-1, 0, 1, 2, 3, 10**6, 2**62)))
    elif kind == "axis":
      tensor.tensor_shape.dim.add(size=draw(st.integers(-1, 3)))
    elif kind == "content":
      tensor.tensor_content = draw(st.binary(max_size=80))
    else:
      tensor.float_val.extend(draw(st.lists(st.floats(width=32), max_size=9)))
      tensor.int_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=9)))
      tensor.string_val.extend(draw(st.lists(st.binary(max_size=5), max_size=5)))
  return response.SerializeToString()


@examples(150)
@given(data=odd_tensors())
def test_tensors_of_any_shape_over_grpc(grpc, data):
  answer, client = grpc
  answer.data = data
  ask(client, None)


def descriptions():
  """Returns what a server says of a model: its signatures, and its versions."""
  definitions = get_model_metadata_pb2.SignatureDefMap()
  definitions.signature_def["serving_default"].inputs["image_bytes"].name = "x:0"
  metadata = get_model_metadata_pb2.GetModelMetadataResponse()
  metadata.metadata["signature_def"].Pack(definitions)
  status = get_model_status_pb2.GetModelStatusResponse()
  status.model_version_status.add(version=3, state="AVAILABLE")
  return [metadata.SerializeToString(), status.SerializeToString()]


@pytest.fixture(scope="module")
def transport():
  answer = Answer()
  with grpc_server(lambda: answer.data) as port:
    transport = GrpcTransport(f"127.0.0.1:{port}", "m", None)
    yield answer, transport
    transport.close()


@examples(100)
@given(data=mutated(descriptions(), WIRE) | st.binary(max_size=64))
def test_what_a_server_says_of_its_model_over_grpc(transport, data):
  answer, asked = transport
  answer.data = data
  for ask_for in (asked.signatures, asked.versions):
    with readable_logs():
      try:
        found = ask_for(5.0)
      except Failure as failure:
        found = {}
        check_sentence(failure)
    event("read" if found else "refused or empty")
    assert all(isinstance(value, set | str) for value in found.values())
