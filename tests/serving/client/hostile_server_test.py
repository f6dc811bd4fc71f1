"""A model server that answers nonsense: one kind of error, in bounded time and memory."""

import gzip
import json
import resource
import shutil
import ssl
import time

import grpc
import pytest
import tensorflow as tf

from official_nasfpn.errors import UserError
from official_nasfpn.serving.client.client import DetectionClient, ServingError
from official_nasfpn.serving.client.transport import one_line
from tests.serving.client.hostile_server import (
  HEAD,
  dripping,
  endless,
  grpc_server,
  make_certificate,
  page,
  raw_server,
  response_of,
)

IMAGE = b"\x89PNG"
GOOD = {
  "boxes": [[[0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0]]],
  "scores": [[0.5, 0.0]],
  "classes": [[1, 0]],
  "category_ids": [[9, 0]],
  "labels": [["bee", ""]],
  "num_detections": [1],
}


def body_of(outputs):
  return json.dumps({"outputs": outputs}).encode()


def ask_rest(answer, timeout_s=5.0, budget_ms=None, tls=None, host="127.0.0.1", **settings):
  """Returns what a client makes of a server's answer; asks once."""
  scheme = "https" if tls else "http"
  with (
    raw_server(answer, tls) as port,
    DetectionClient(
      f"{scheme}://{host}:{port}/v1/models/m", timeout_s, attempts=1, **settings
    ) as client,
  ):
    return client.detect([IMAGE], budget_ms=budget_ms)


def ask_grpc(response, budget_ms=None, scheme="grpc", host="127.0.0.1", ca_file=None, **server):
  with (
    grpc_server(response.SerializeToString, **server) as port,
    DetectionClient(f"{scheme}://{host}:{port}/m", 20.0, attempts=1, ca_file=ca_file) as client,
  ):
    return client.detect([IMAGE], budget_ms=budget_ms)


def with_one(name, value):
  return {**GOOD, name: value}


# What is wrong, and what is said of it; each is sent over REST and, where it can be, over gRPC.
NONSENSE = {
  "a negative number": (with_one("num_detections", [-1]), "num_detections is -1 of 2 rows"),
  "more than there are": (with_one("num_detections", [99]), "num_detections is 99 of 2 rows"),
  "a nested number": (with_one("num_detections", [[1]]), r"num_detections is \[1, 1\], not \[1\]"),
  "seven columns": (with_one("boxes", [[[0.0] * 7] * 2]), r"boxes is \[1, 2, 7\], not \[1, "),
  "a flat box": (with_one("boxes", [[0.0] * 4]), r"boxes is \[1, 4\]"),
  "no number": (with_one("boxes", [[[float("nan")] * 4] * 2]), "boxes has .* no finite numbers"),
  "infinity": (with_one("scores", [[float("inf"), 0.0]]), "scores has .* no finite numbers"),
  "a score above 1": (with_one("scores", [[1.5, 0.0]]), "scores has values above 1"),
  "a score below 0": (with_one("scores", [[-0.5, 0.0]]), "scores has values below 0"),
  "a negative class": (with_one("classes", [[-1, 0]]), "classes has values below 0"),
  "rows that differ": (with_one("scores", [[0.5]]), r"scores is \[1, 1\], not \[1, 2\]"),
  "two images": ({name: rows * 2 for name, rows in GOOD.items()}, r"\w+ is \[2, .*\], not \[1, "),
  "no labels": ({k: v for k, v in GOOD.items() if k != "labels"}, "there is no labels"),
  "an exit 0": ({**GOOD, "exit": [0], "expected_ms": [1.0]}, "exit has values below 1"),
  "a nested exit": ({**GOOD, "exit": [[1]], "expected_ms": [1.0]}, r"exit is \[1, 1\]"),
  "no time": ({**GOOD, "exit": [1], "expected_ms": [float("nan")]}, "expected_ms has .* finite"),
}
WRONG_JSON = {
  "a half number": with_one("num_detections", [1.5]),
  "a large number": with_one("classes", [[2**40, 0]]),
  "a truth": with_one("num_detections", [True]),
  "nothing": with_one("num_detections", [None]),
  "numbers as text": with_one("scores", [["0.5", "0"]]),
  "labels that are numbers": with_one("labels", [[1, 2]]),
  "labels that are lists": with_one("labels", [[["bee"], [""]]]),
  "an object": with_one("boxes", {"a": 1}),
}
FOREIGN = "does not answer as TensorFlow Serving does: its "


def test_a_good_answer_is_taken():
  for (found,) in (ask_rest(page(200, body_of(GOOD))), ask_grpc(response_of(GOOD))):
    assert found.labels == ("bee",)
    assert found.boxes.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_refused(what):
  outputs, problem = NONSENSE[what]
  budget_ms = 5.0 if "exit" in outputs else None
  message = f"{FOREIGN}outputs are not those of an export: {problem}"
  with pytest.raises(ServingError, match=message):
    ask_rest(page(200, body_of(outputs)), budget_ms=budget_ms)
  with pytest.raises(ServingError, match=message):
    ask_grpc(response_of(outputs), budget_ms)


@pytest.mark.parametrize("what", WRONG_JSON)
def test_what_json_allows_beyond_that(what):
  with pytest.raises(ServingError, match=f"{FOREIGN}(answer is 200 X|outputs are not those)"):
    ask_rest(page(200, body_of(WRONG_JSON[what])))


def test_a_tensor_that_says_to_be_huge_is_not_made():
  response = response_of(GOOD)
  axes = response.outputs["scores"].tensor_shape.dim
  for sizes in ((1, 10**12), (10**6, 2), (1, -1)):
    for axis, size in zip(axes, sizes, strict=True):
      axis.size = size
    with pytest.raises(ServingError, match=f"{FOREIGN}outputs .*: scores is"):
      ask_grpc(response)
  response = response_of(GOOD)
  response.outputs["scores"].dtype = tf.string.as_datatype_enum
  with pytest.raises(ServingError, match="scores is no float32"):
    ask_grpc(response)


@pytest.mark.parametrize(
  "body",
  [
    b"[" * 100_000,
    b'{"outputs": ' + b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"outputs": {"boxes": ' + b"[" * 500 + b"]" * 500 + b"}}",
    b'{"outputs": {"num_detections": [' + b"9" * 10_000 + b"]}}",
  ],
  ids=["lists", "lists in outputs", "objects", "an array of 500 axes", "a long number"],
)
def test_deep_json(body):
  with pytest.raises(ServingError, match=FOREIGN):
    ask_rest(page(200, body))


@pytest.mark.parametrize(
  "text", [b"[[" * 100_000, b"{{node " * 30_000, b"(1) A" * 40_000, b"\\" * 200_001, b'"' * 200_000]
)
def test_a_long_error_is_cut_before_anything_is_looked_for_in_it(text):
  start = time.monotonic()
  with pytest.raises(ServingError) as caught:
    ask_rest(page(500, b'{"error": "' + text + b'"}'))
  one_line(text.decode())
  assert time.monotonic() - start < 5
  assert len(str(caught.value)) < 500


SLOW = {
  "before the answer": dripping(b"", b"H"),
  "between the headers": dripping(HEAD, b"X-Header: 1\r\n"),
  "within a header": dripping(HEAD + b"X-Header: ", b"1"),
  "in a body of known length": dripping(HEAD + b"Content-Length: 9999\r\n\r\n", b" "),
  "in a body of unknown length": dripping(HEAD + b"\r\n", b" "),
  "in chunks": dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
  "one continue after the other": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("where", SLOW)
def test_a_byte_now_and_then_does_not_hold_the_client(where):
  start = time.monotonic()
  with pytest.raises(
    ServingError, match=r"(within 1 s|does not answer as TensorFlow Serving does)"
  ):
    ask_rest(SLOW[where], timeout_s=1.0)
  assert time.monotonic() - start < 4


def test_the_deadline_of_a_request_is_not_that_of_the_next():
  with (
    raw_server(page(200, body_of(GOOD))) as port,
    DetectionClient(f"http://127.0.0.1:{port}/v1/models/m", 0.5, attempts=1) as client,
  ):
    client.detect([IMAGE])
    time.sleep(0.7)
    client.detect([IMAGE])


MOST_MEMORY = 1 << 30


@pytest.mark.parametrize(
  ("answer", "problem"),
  [
    (endless(HEAD + b"\r\n", b"[" * 65536), "answer has more than 17 MB"),
    (page(200, b"[" * (18 << 20)), "answer has more than 17 MB"),
    (
      lambda c: c.sendall(
        HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"[" * (64 << 20))
      ),
      r"answer is compressed \(gzip\), which was not asked for",
    ),
  ],
  ids=["endless", "large", "compressed"],
)
def test_a_body_of_any_size_takes_little_memory(answer, problem):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with pytest.raises(ServingError, match=problem):
    ask_rest(answer, timeout_s=20.0)
  assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < 128 << 20


def test_an_endless_error_is_read_to_its_beginning_alone():
  head = b'HTTP/1.1 500 X\r\nContent-Type: application/json\r\n\r\n{"error": "no '
  with pytest.raises(ServingError, match="failed: no x"):
    ask_rest(endless(head, b"x" * 65536))


def test_a_compressed_answer_over_grpc_is_not_unpacked():
  response = response_of(GOOD)
  response.outputs["more"].tensor_content = bytes(64 << 20)
  with pytest.raises(ServingError):
    ask_grpc(response, compression=grpc.Compression.Gzip)


def test_control_characters_of_a_server_reach_no_terminal():
  with pytest.raises(ServingError, match=r"failed: \\x1b\[2Jgone \\u202e") as caught:
    ask_rest(page(500, '{"error": "\x1b[2Jgone \u202e"}'.encode()))
  assert "\x1b" not in str(caught.value)
  with pytest.raises(ServingError) as caught:
    ask_rest(page(200, b"", kind="text/\x1b[31mred"))
  assert "\x1b" not in str(caught.value)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
  """Returns certificate and key of this machine, and those of another name."""
  if not shutil.which("openssl"):
    pytest.skip("openssl, which makes a certificate, is not installed")
  folder = tmp_path_factory.mktemp("certificates")
  return make_certificate(folder, "127.0.0.1"), make_certificate(folder, "elsewhere.example")


def tls_of(pair):
  context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
  context.load_cert_chain(*pair)
  return context


def credentials_of(pair):
  certificate, key = (path.read_bytes() for path in pair)
  return grpc.ssl_server_credentials([(key, certificate)])


class TestCertificates:
  """Who answers over TLS must prove its name, unless nobody asked for TLS."""

  @pytest.mark.parametrize("transport", ["rest", "grpc"])
  def test_a_certificate_of_an_authority_that_is_given_is_believed(self, certificates, transport):
    here, _ = certificates
    (found,) = ask(transport, here, ca_file=here[0])
    assert found.labels == ("bee",)

  @pytest.mark.parametrize("transport", ["rest", "grpc"])
  def test_one_that_signs_itself_is_refused(self, certificates, transport):
    here, _ = certificates
    with pytest.raises(ServingError, match="does not prove that it is the server of that name: "):
      ask(transport, here)

  @pytest.mark.parametrize("transport", ["rest", "grpc"])
  def test_one_of_another_name_is_refused(self, certificates, transport):
    _, elsewhere = certificates
    with pytest.raises(ServingError, match="does not prove that it is the server of that name: "):
      ask(transport, elsewhere, ca_file=elsewhere[0])

  @pytest.mark.parametrize("transport", ["rest", "grpc"])
  def test_one_of_another_authority_is_refused(self, certificates, transport):
    here, elsewhere = certificates
    with pytest.raises(ServingError, match=r"does not prove .* give the client .* as ca_file"):
      ask(transport, here, ca_file=elsewhere[0])

  def test_the_environment_cannot_change_the_authorities_that_are_given(
    self, certificates, monkeypatch
  ):
    here, elsewhere = certificates
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(here[0]))
    assert ask("rest", here)
    with pytest.raises(ServingError, match="does not prove"):
      ask("rest", here, ca_file=elsewhere[0])

  def test_a_handshake_that_stalls_has_the_deadline_of_the_request(self):
    start = time.monotonic()
    with (
      raw_server(dripping(b"", b"\x16"), None) as port,
      DetectionClient(f"https://127.0.0.1:{port}/v1/models/m", 1.0, attempts=1) as client,
      pytest.raises(ServingError),
    ):
      client.detect([IMAGE])
    assert time.monotonic() - start < 4

  def test_a_file_of_authorities_is_read_before_anything_is_asked(self, tmp_path, certificates):
    for content in (b"", b"text"):
      (tmp_path / "ca.pem").write_bytes(content)
      with pytest.raises(UserError, match=r"ca_file '.*ca\.pem' has no certificates: "):
        DetectionClient("https://localhost/v1/models/m", ca_file=tmp_path / "ca.pem")
    with pytest.raises(UserError, match=r"'/gone' has no certificates: No such file"):
      DetectionClient("grpcs://localhost/m", ca_file="/gone")
    with pytest.raises(UserError, match="ca_file is for https:// and grpcs://"):
      DetectionClient("http://localhost/v1/models/m", ca_file=certificates[0][0])


def ask(transport, certificate, ca_file=None):
  """Asks a server that has a certificate, over TLS."""
  if transport == "rest":
    return ask_rest(page(200, body_of(GOOD)), tls=tls_of(certificate), ca_file=ca_file)
  credentials = credentials_of(certificate)
  return ask_grpc(response_of(GOOD), scheme="grpcs", ca_file=ca_file, credentials=credentials)
