"""Detection by a model server: its answers, and the errors."""

import functools
import io
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf

import official_nasfpn
from official_nasfpn.data.detections import Detections
from official_nasfpn.errors import UserError
from official_nasfpn.serving.client.client import DetectionClient, Refusal, ServingError
from official_nasfpn.serving.client.transport import Failure, FailureKind, one_line
from tests.cutting_relay import cutting_relay
from tests.serving.client.model_server import ModelServer, failing, wait

TRUNCATED = "Invalid JPEG data or crop window"
NO_IMAGE = "image_bytes has no JPEG, PNG, GIF, BMP or WebP image"
UNAVAILABLE = failing(grpc.StatusCode.UNAVAILABLE, "The batch scheduling queue is full")
SERVER_FAULT = failing(grpc.StatusCode.INTERNAL, "2 root error(s) found.\n  (0) INTERNAL: Oops")


@pytest.fixture(scope="module")
def model(anytime_export_dir):
  return ModelServer(anytime_export_dir, "cells")


@pytest.fixture(scope="module")
def ports(model):
  with model.serve() as (rest, rpc):
    yield {"rest": rest, "grpc": rpc}


@pytest.fixture(scope="module")
def local(anytime_detector):
  return anytime_detector


@pytest.fixture(autouse=True)
def healthy(model):
  model.reset()


@pytest.fixture(params=["rest", "grpc"])
def transport(request):
  return request.param


@pytest.fixture
def connect(transport, ports):
  """Returns a function that makes a client, which is closed after the test."""
  clients = []

  def new(model="cells", version=None, port=None, **settings):
    host = f"127.0.0.1:{port or ports[transport]}"
    if transport == "rest":
      url = f"http://{host}/v1/models/{model}" + (f"/versions/{version}" if version else "")
    else:
      url = f"grpc://{host}/{model}" + (f"/{version}" if version else "")
    # gRPC reconnects after 0.1 s at the earliest.
    settings = {"timeout_s": 20, "attempts": 4, "backoff_s": 0.1, **settings}
    clients.append(DetectionClient(url, **settings))
    return clients[-1]

  yield new
  for client in clients:
    client.close()


@pytest.fixture
def jpeg(photo):
  @functools.cache
  def make(width: int, height: int, seed: int = 0) -> bytes:
    stream = io.BytesIO()
    photo(width, height, seed).save(stream, "JPEG")
    return stream.getvalue()

  return make


def assert_same(found, expected, image=0):
  assert isinstance(found, Detections), found
  count = expected["num_detections"][image]
  assert count > 0
  np.testing.assert_allclose(found.boxes, expected["boxes"][image, :count], atol=1e-2)
  np.testing.assert_allclose(found.scores, expected["scores"][image, :count], atol=1e-5)
  for name in ("classes", "category_ids"):
    np.testing.assert_array_equal(getattr(found, name), expected[name][image, :count])
  assert found.labels == tuple(label.decode() for label in expected["labels"][image, :count])
  for name in ("boxes", "scores", "classes", "category_ids"):
    assert getattr(found, name).dtype == expected[name].dtype


def test_images_of_mixed_sizes_give_what_they_give_without_a_server(connect, local, jpeg):
  images = [jpeg(300, 200), jpeg(120, 310, 1), jpeg(256, 128, 2)]
  found = connect().detect(images)
  expected = local(images)
  assert len(found) == 3
  for image, detections in enumerate(found):
    assert_same(detections, expected, image)
    assert detections.exit_number is None
    assert detections.expected_ms is None


def test_a_version_can_be_named(connect, local, jpeg):
  assert_same(connect(version=1).detect([jpeg(300, 200)])[0], local([jpeg(300, 200)]))


def test_each_exit(connect, local, jpeg):
  found = {number: connect().detect([jpeg(300, 200)], number)[0] for number in (1, 2, 3)}
  for number, detections in found.items():
    assert_same(detections, local([jpeg(300, 200)], number))
  assert not np.allclose(found[1].scores[:3], found[3].scores[:3], atol=1e-5)


@pytest.mark.parametrize(("budget", "exit_number"), [(1e6, 3), (0, 1), (float("inf"), 3)])
def test_a_budget_chooses_the_exit(connect, local, jpeg, budget, exit_number):
  (found,) = connect().detect([jpeg(300, 200)], budget_ms=budget)
  assert found.exit_number == exit_number
  expected_ms = local.exit_latency[exit_number - 1].p90_ms
  assert found.expected_ms == pytest.approx(expected_ms, rel=1e-5)
  assert (found.expected_ms <= budget) == (budget > 0)
  assert_same(found, local([jpeg(300, 200)], exit_number))


def test_images_around_a_bad_one_get_the_exit_that_the_budget_buys_for_all(connect, local, jpeg):
  latency = {row.exit: row.p90_ms for row in local.exit_latency}
  per_image = 1.001 * latency[1]
  expected = max([1, *(number for number, ms in latency.items() if ms <= per_image)])
  images = [jpeg(300, 200), b"", jpeg(120, 310, 1), jpeg(256, 128, 2)]
  found = connect().detect(images, budget_ms=4 * per_image)
  assert [getattr(row, "exit_number", None) for row in found] == [expected, None] + [expected] * 2


def test_bad_images_take_nothing_from_those_beside_them(connect, local, jpeg):
  good = {0: jpeg(300, 200), 2: jpeg(120, 310, 1), 3: jpeg(256, 128, 2), 6: jpeg(90, 90, 3)}
  bad = {1: jpeg(300, 200)[:300], 4: b"", 5: "kein Bild, größer".encode()}
  found = connect().detect([{**good, **bad}[index] for index in range(7)])
  for index, image in good.items():
    assert_same(found[index], local([image]))
  for (index, _), reason in zip(sorted(bad.items()), (TRUNCATED, NO_IMAGE, NO_IMAGE), strict=True):
    assert isinstance(found[index], Refusal)
    assert found[index].index == index
    assert reason in found[index].reason
    assert "position" not in found[index].reason
    assert not any(mark in found[index].reason for mark in ("{{", "[[", "\n", "\\", "node"))


def test_one_bad_image_costs_few_requests(connect, model, jpeg):
  found = connect().detect([jpeg(300, 200)] * 7 + [b"text"])
  assert [isinstance(row, Refusal) for row in found] == [False] * 7 + [True]
  assert model.num_predictions == 7  # 8, 4 + 4, 2 + 2, 1 + 1


MERGED = failing(grpc.StatusCode.INVALID_ARGUMENT, "Invalid PNG data, size 7")


def test_a_good_image_that_was_merged_with_a_bad_one_of_others_is_asked_for_again(
  connect, model, local, jpeg
):
  model.faults.append(MERGED)
  (found,) = connect(backoff_s=0.001).detect([jpeg(300, 200)])
  assert_same(found, local([jpeg(300, 200)]))
  assert model.num_predictions == 2


def test_what_may_be_an_image_is_asked_for_once_more_and_no_oftener(connect, model, jpeg):
  images = [jpeg(300, 200)[:300], b"text", jpeg(300, 200), jpeg(120, 310)[:300]]
  found = connect(backoff_s=0.001).detect(images)
  assert [isinstance(row, Refusal) for row in found] == [True, True, False, True]
  assert [row.index for row in found if isinstance(row, Refusal)] == [0, 1, 3]
  assert model.num_predictions == 7 + 2  # 4, 2 + 2, 1 + 1 + 1 + 1, and the two that are cut off.


def test_one_attempt_is_one(connect, model, jpeg):
  model.faults.append(MERGED)
  (found,) = connect(attempts=1).detect([jpeg(300, 200)])
  assert isinstance(found, Refusal)
  assert model.num_predictions == 1


def test_only_bad_images(connect):
  assert [row.index for row in connect().detect([b"", b"text", b""])] == [0, 1, 2]


def test_nothing_is_asked_about_no_images(connect, model):
  assert connect().detect([]) == []
  assert connect().detect([], budget_ms=3) == []
  assert model.num_predictions == 0


def test_answers_larger_than_what_grpc_allows_by_default(connect, model, jpeg):
  name = "ü" * 150_000
  model.renamed = {label: name.encode() for label in (b"ant", b"bee", b"cat")}
  (found,) = connect().detect([jpeg(300, 200)])
  assert len(found.labels) * len(name.encode()) > 4 * 2**20
  assert set(found.labels) == {name}


def test_requests_larger_than_what_grpc_allows_by_default(connect, local):
  noise = np.random.default_rng(0).integers(0, 256, [3, 900, 900, 3], np.uint8)
  images = [tf.io.encode_png(image).numpy() for image in noise]
  assert sum(map(len, images)) > 4 * 2**20
  found = connect().detect(images)
  for image, detections in enumerate(found):
    assert_same(detections, local(images), image)


def test_labels_in_any_script(connect, model, jpeg):
  names = {b"ant": "Ameise „groß“", b"bee": "蜂", b"cat": "кошка \\ \" '"}
  model.renamed = {label: name.encode() for label, name in names.items()}
  (found,) = connect().detect([jpeg(300, 200)])
  assert set(found.labels) <= set(names.values())
  assert [list(names.values())[index] for index in found.classes] == list(found.labels)


@pytest.mark.parametrize(
  "fault", [UNAVAILABLE, failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "No memory")]
)
def test_a_passing_fault_is_overcome(connect, model, local, jpeg, fault):
  model.faults.extend([fault] * 3)
  (found,) = connect(backoff_s=0.001).detect([jpeg(300, 200)])
  assert_same(found, local([jpeg(300, 200)]))
  assert model.num_predictions == 4


def test_pauses_grow(connect, model, jpeg):
  model.faults.extend([UNAVAILABLE] * 3)
  start = time.monotonic()
  connect(backoff_s=0.1).detect([jpeg(300, 200)])
  # At least half of 0.1 + 0.2 + 0.4 s.
  assert 0.35 <= time.monotonic() - start < 2


def test_a_thousand_attempts(connect, jpeg, monkeypatch):
  client, asked = connect(attempts=1100, backoff_s=0.0), []

  def predict(*request):
    asked.append(request)
    raise Failure(FailureKind.UNREACHABLE, "Connection refused")

  monkeypatch.setattr(client._transport, "predict", predict)
  with pytest.raises(ServingError, match="in 1100 attempts"):
    client.detect([jpeg(300, 200)])
  assert len(asked) == 1100


def test_a_lasting_fault_is_reported_after_the_last_attempt(connect, model, jpeg):
  model.faults.extend([UNAVAILABLE] * 9)
  with pytest.raises(ServingError, match=r"No answer from \S+ in 3 attempts: The batch .* is full"):
    connect(attempts=3, backoff_s=0.001).detect([jpeg(300, 200)])
  assert model.num_predictions == 3


def test_a_server_without_room(connect, model, jpeg):
  model.faults.extend([failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "OOM")] * 9)
  with pytest.raises(ServingError, match=r"no room in 2 attempts: OOM\. Send fewer images"):
    connect(attempts=2, backoff_s=0.001).detect([jpeg(300, 200)])


def test_what_fails_for_good_is_not_tried_again(connect, model, jpeg):
  model.faults.append(SERVER_FAULT)
  with pytest.raises(ServingError, match=r"The server at \S+ failed: Oops\. Its log"):
    connect().detect([jpeg(300, 200)])
  assert model.num_predictions == 1


def test_a_late_answer(connect, model, jpeg, local):
  client = connect(timeout_s=0.5, attempts=2, backoff_s=0.001)
  client.detect([jpeg(300, 200)])
  model.faults.append(wait(0.8))
  assert_same(client.detect([jpeg(300, 200)])[0], local([jpeg(300, 200)]))
  model.faults.extend([wait(0.8)] * 2)
  start = time.monotonic()
  with pytest.raises(ServingError, match=r"within 0\.5 s in 2 attempts: .* larger timeout_s"):
    client.detect([jpeg(300, 200)])
  assert 1 <= time.monotonic() - start < 2
  assert model.num_predictions == 5


def test_a_connection_that_breaks_within_the_answer(connect, ports, transport, local, jpeg):
  with cutting_relay(ports[transport], num_bytes=300, cuts=2) as port:
    client = connect(port=port)
    (found,) = client.detect([jpeg(300, 200)])
    client.close()
  assert_same(found, local([jpeg(300, 200)]))


def test_a_connection_that_breaks_every_time(connect, ports, transport, jpeg):
  with cutting_relay(ports[transport], num_bytes=300, cuts=99) as port:
    client = connect(port=port, attempts=3)
    with pytest.raises(ServingError, match=r"No answer from \S+ in 3 attempts: .* running"):
      client.detect([jpeg(300, 200)])
    client.close()


def test_nobody_listening(connect, jpeg):
  with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
  with pytest.raises(
    ServingError, match=r"in 2 attempts: .*refused.*\. Is the server running, and is it the port"
  ):
    connect(port=port, attempts=2).detect([jpeg(300, 200)])


def test_a_reason_is_the_requests_own(connect, jpeg):
  with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
  try:
    raise ValueError("something else")
  except ValueError:
    with pytest.raises(ServingError, match="refused") as caught:
      connect(port=port, attempts=1).detect([jpeg(300, 200)])
  assert "something else" not in str(caught.value)


def test_the_port_of_the_other_protocol(connect, ports, transport, jpeg):
  other = ports["grpc" if transport == "rest" else "rest"]
  with pytest.raises(
    ServingError, match=r"does not answer as TensorFlow Serving does: its answer is not HTTP.*85"
  ):
    connect(port=other, backoff_s=30).detect([jpeg(300, 200)])


def test_an_exit_that_is_not_there(connect, model, jpeg):
  with pytest.raises(
    ServingError,
    match=r"no exit 4: the model at \S+ has the signatures detect_within, exit_1, .*_nms\.",
  ):
    connect().detect([jpeg(300, 200), b""], 4)
  assert model.num_predictions == 1


def test_an_exit_that_is_not_there_where_signatures_are_not_told(connect, model, jpeg):
  model.has_metadata = False
  with pytest.raises(ServingError, match=r'no exit 4 at \S+: Serving signature .*"exit_4"'):
    connect().detect([jpeg(300, 200)] * 2, 4)
  assert model.num_predictions == 1


def test_bad_images_where_signatures_are_not_told(connect, model, jpeg):
  model.has_metadata = False
  found = connect().detect([jpeg(300, 200), b""])
  assert [type(row) for row in found] == [Detections, Refusal]


def test_a_model_or_a_version_that_is_not_there(connect, model, jpeg):
  with pytest.raises(ServingError, match=r"no model tells at \S+: check MODEL_NAME"):
    connect("tells").detect([jpeg(300, 200)])
  with pytest.raises(ServingError, match=r"not available; .* versions 1 \(available\)\."):
    connect(version=7).detect([jpeg(300, 200)])
  assert model.num_predictions == 2


def test_a_model_that_is_loading(connect, model, local, jpeg):
  model.state = "LOADING"

  def finish() -> None:
    model.state = "AVAILABLE"

  model.faults.extend([wait(0), wait(0), finish])
  assert_same(connect(backoff_s=0.001).detect([jpeg(300, 200)])[0], local([jpeg(300, 200)]))
  assert model.num_predictions == 3
  model.state = "LOADING"
  with pytest.raises(ServingError, match=r"The model cells at \S+ is still loading: try again"):
    connect(attempts=2, backoff_s=0.001).detect([jpeg(300, 200)])


def test_a_model_that_failed_to_load(connect, model, jpeg):
  model.state = "END"
  with pytest.raises(ServingError, match=r"not available; the server has its versions 1 \(end\)"):
    connect().detect([jpeg(300, 200)])


@pytest.mark.parametrize("transport", ["rest"], indirect=True)
class TestRest:
  """Answers that only HTTP servers give."""

  def test_the_page_of_a_proxy(self, connect, model, local, jpeg):
    page = (502, "text/html; charset=utf-8", b"<html>" + b"Bad Gateway" * 1000)
    model.pages.append(page)
    client = connect(attempts=2, backoff_s=0.001)
    assert_same(client.detect([jpeg(300, 200)])[0], local([jpeg(300, 200)]))
    model.pages.extend([page] * 2)
    with pytest.raises(ServingError, match=r"in 2 attempts: .*502 Bad Gateway with 11006 .*html"):
      client.detect([jpeg(300, 200)])

  @pytest.mark.parametrize(
    ("page", "reason"),
    [
      ((200, "text/html", b"<html>Welcome"), "200 OK with 13 bytes of text/html"),
      ((200, "application/json", b'{"outputs": {"bo'), "with 16 bytes of application/json"),
      ((200, "application/json", b"[1, 2]"), "200 OK with 6 bytes"),
      ((200, "application/json", b"{}"), "not as expected"),
      ((200, "application/json", b'{"outputs": [[1.0], [2.0]]}'), "not as expected"),
      ((200, "application/json", b'{"outputs": {"boxes": [["a"]]}}'), "not as expected"),
      ((200, "application/json", b'{"outputs": {"classes": [1]}}'), "not those of an export"),
      ((200, "application/json", b'{"outputs": {"boxes": [1.0]}}'), "not those of an export"),
      ((404, "text/html", b"<html>" + b"x" * 9999), "404 Not Found with 10005 bytes of text/html"),
      ((400, "text/plain", b"no"), "400 Bad Request with 2 bytes of text/plain"),
      ((301, "text/html", b""), "301 Moved Permanently"),
    ],
  )
  def test_what_is_no_model_server(self, connect, model, jpeg, page, reason):
    model.pages.append(page)
    with pytest.raises(ServingError, match=f"as TensorFlow Serving does: .*{reason}.* 8501") as e:
      connect().detect([jpeg(300, 200), jpeg(300, 200)])
    assert len(str(e.value)) < 400
    assert model.num_predictions == 1

  def test_errors_that_are_not_json(self, connect, model, jpeg):
    model.faults.append(failing(grpc.StatusCode.INTERNAL, 'It\'s "größer"\nthan \\ 3'))
    with pytest.raises(ServingError, match=r"failed: It's \"größer\" than \\ 3\."):
      connect().detect([jpeg(300, 200)])


@pytest.mark.parametrize(
  "url",
  [
    "localhost:8501",
    "http://localhost:8501",
    "http://localhost:8501/v1/models/cells:predict",
    "http://localhost:8501/v1/models/",
    "http://localhost:port/v1/models/cells",
    "http:///v1/models/cells",
    "ftp://localhost/v1/models/cells",
    "grpc://localhost:8500",
    "grpc://localhost:8500/cells/first",
    "grpc://localhost:85000/cells",
    "http://[::1/v1/models/cells",
    "",
  ],
)
def test_what_is_no_address_of_a_model(url):
  with pytest.raises(UserError, match=r"is not the address of a model: that is http://.* grpc://"):
    DetectionClient(url)


@pytest.mark.parametrize(
  "url",
  [
    "https://models.example.org/vision/v1/models/cells",
    "http://[::1]:8501/v1/models/cells/versions/2/",
    "grpc://localhost/cells",
    "grpc://localhost:8500/cells/2/",
  ],
)
def test_what_is_an_address_of_a_model(url):
  DetectionClient(url).close()


def test_calls_that_cannot_be_meant(connect, jpeg):
  with pytest.raises(UserError, match="a list of encoded images"):
    connect().detect(jpeg(300, 200))
  with pytest.raises(UserError, match="not both"):
    connect().detect([jpeg(300, 200)], exit_number=1, budget_ms=3)
  with pytest.raises(
    UserError, match=r"^Image 1 of 2, counted from 0, is of type str: give the by"
  ):
    connect().detect([jpeg(300, 200), "a.jpg"])
  for budget in (float("nan"), -1.0):
    with pytest.raises(UserError, match=r"budget_ms is .*: give milliseconds, 0 or more"):
      connect().detect([jpeg(300, 200)], budget_ms=budget)


def test_a_password_in_an_address_is_not_shown(jpeg):
  with (
    DetectionClient("http://me:secret@127.0.0.1:9/v1/models/m", 5.0, attempts=1) as client,
    pytest.raises(ServingError, match=r"^No answer from http://127.0.0.1:9/v1/models/m ") as caught,
  ):
    client.detect([jpeg(300, 200)])
  assert "secret" not in str(caught.value)
  for url in ("http://me:secret@host", "ftp://me:p@secret@host/m"):
    with pytest.raises(UserError, match="is not the address of a model") as refused:
      DetectionClient(url)
    assert "secret" not in str(refused.value)
  with pytest.raises(UserError, match="'grpc://host:1/m' was given with a user name"):
    DetectionClient("grpc://me:secret@host:1/m")


def _run(code: str) -> str:
  """Runs code in a new Python process; returns the last line that it prints."""
  root = Path(official_nasfpn.__file__).parents[1]
  result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
  return (result.stdout + result.stderr).strip().splitlines()[-1]


def test_rest_needs_no_tensorflow(ports, jpeg, tmp_path):
  (tmp_path / "image.jpg").write_bytes(jpeg(300, 200))
  code = f"""if True:
    import sys
    sys.modules["tensorflow"] = sys.modules["grpc"] = None
    from official_nasfpn.serving import DetectionClient
    with DetectionClient("http://127.0.0.1:{ports["rest"]}/v1/models/cells") as client:
      (found,) = client.detect([open({str(tmp_path / "image.jpg")!r}, "rb").read()])
    print(len(found.scores), sorted(m for m in sys.modules if m.startswith("tensorflow")))
  """
  assert _run(code) == "20 ['tensorflow']"  # The folder that was put there.


def test_grpc_says_what_it_lacks():
  code = """if True:
    import sys
    import types
    # Imported before the stubs, and slow.
    sys.modules["tensorflow"] = types.ModuleType("tensorflow")
    sys.modules["tensorflow_serving"] = None
    from official_nasfpn.serving import DetectionClient
    DetectionClient("grpc://localhost:8500/cells")
  """
  line = _run(code)
  assert "UserError: A client over gRPC needs the package tensorflow-serving-api" in line
  assert "pip install 'official-nasfpn[serving]'" in line


@pytest.mark.parametrize(
  ("message", "expected"),
  [
    (
      "{{function_node __inference_f_1}} {{function_node __inference_g_2}} Input is empty.\n"
      "\t [[{{node map/while/decode_image/DecodeImage}}]]\n\t [[StatefulPartitionedCall]]",
      "Input is empty.",
    ),
    (
      "2 root error(s) found.\n  (0) INVALID_ARGUMENT: Bad.\n\t [[{{node a}}]]\n"
      "  (1) INVALID_ARGUMENT: Bad.\n\t [[{{node a}}]]\n\t [[b/_31]]\n0 successful operations.",
      "Bad.",
    ),
    ("plain\n text ", "plain text"),
    ("x" * 999, "x" * 200 + " ..."),
    ("", "no reason given"),
  ],
)
def test_reasons_in_one_line(message, expected):
  assert one_line(message) == expected
