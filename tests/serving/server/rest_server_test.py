"""The server of an export: TensorFlow Serving's paths and statuses; no request ends it."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import requests
import tensorflow as tf
from PIL import Image

import official_nasfpn
from official_nasfpn.errors import UserError
from official_nasfpn.serving.export_folder import find_export
from official_nasfpn.serving.server.rest_json import ModelError
from official_nasfpn.serving.server.rest_server import RestServer
from official_nasfpn.serving.server.running import run_server
from official_nasfpn.serving.server.served_model import ServedModel
from tests.decompression_bomb import decompression_bomb

MAX_BODY = 1 << 20


class _Doubling(tf.Module):
  @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
  def lengths(self, image_bytes):
    return {"lengths": tf.strings.length(image_bytes), "copies": image_bytes}

  @tf.function(
    input_signature=[
      tf.TensorSpec([None, 2], tf.float32, name="values"),
      tf.TensorSpec([None], tf.int32, name="limits"),
    ]
  )
  def double(self, values, limits):
    with tf.control_dependencies([tf.debugging.assert_less(limits, 10, "too large")]):
      return {"doubled": 2 * values}


@pytest.fixture(scope="module")
def export(tmp_path_factory):
  """Returns the folder of an export with a small SavedModel."""
  folder = tmp_path_factory.mktemp("served") / "model"
  module = _Doubling()
  signatures = {"serving_default": module.lengths, "double": module.double}
  tf.saved_model.save(module, str(folder / "3"), signatures=signatures)
  (folder / "3" / "assets" / "label_map.json").write_text("{}")
  return folder


@pytest.fixture(scope="module")
def port(export):
  with RestServer("127.0.0.1", 0, MAX_BODY) as server:
    server.model = ServedModel(find_export(export), "cells")
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()


@pytest.fixture
def ask(port):
  """Returns a function that sends a request and returns status and parsed JSON of the answer."""

  def get_or_post(path, content=None):
    url = f"http://127.0.0.1:{port}{path}"
    body = content if content is None or isinstance(content, bytes) else json.dumps(content)
    answer = requests.get(url, timeout=20) if body is None else requests.post(url, body, timeout=20)
    assert answer.headers["Content-Type"] == "application/json"
    if answer.status_code == 200:
      return 200, answer.json()
    error = re.fullmatch(r'\{ "error": "(.*)" \}', answer.text)
    return answer.status_code, error[1]

  return get_or_post


def test_the_state_of_the_model(ask):
  row = {
    "version": "3",
    "state": "AVAILABLE",
    "status": {"error_code": "OK", "error_message": ""},
  }
  for path in ("/v1/models/cells", "/v1/models/cells/versions/3", "/V1/Models/cells?x=1"):
    assert ask(path) == (200, {"model_version_status": [row]})


def test_the_signatures_of_the_model(ask):
  for path in ("/v1/models/cells/metadata", "/v1/models/cells/versions/3/metadata"):
    status, answer = ask(path)
    assert status == 200
    assert answer["model_spec"] == {"name": "cells", "signature_name": "", "version": "3"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "double"}
    info = signatures["double"]["inputs"]["values"]
    assert info["dtype"] == "DT_FLOAT"
    assert [row["size"] for row in info["tensor_shape"]["dim"]] == ["-1", "2"]
    assert signatures["double"]["method_name"] == "tensorflow/serving/predict"


def test_predictions_in_rows_and_in_columns(ask):
  path = "/v1/models/cells:predict"
  rows = [{"b64": "AAE="}, "ü"]
  status, answer = ask(path, {"instances": rows[1:]})
  assert (status, answer) == (200, {"predictions": [{"lengths": 2, "copies": "ü"}]})
  status, answer = ask("/v1/models/cells/versions/3:predict", {"inputs": {"image_bytes": rows}})
  assert (status, answer["outputs"]["lengths"]) == (200, [2, 2])
  content = {"signature_name": "double", "instances": [{"values": [0.1, 2], "limits": 1}]}
  # A single output has no name.
  assert ask(path, content) == (200, {"predictions": [[0.2, 4.0]]})
  content["inputs"] = {"values": [[0.1, 2]], "limits": [1]}
  del content["instances"]
  assert ask(path, content) == (200, {"outputs": [[0.2, 4.0]]})


LIMIT = {"signature_name": "double", "inputs": {"values": [[1, 2]], "limits": [11]}}


@pytest.mark.parametrize(
  ("path", "content", "status", "message"),
  [
    ("/v1/models/tells", None, 404, "Could not find any versions of model tells"),
    ("/v1/models/cells/versions/4", None, 404, "Could not find version 4 of model cells"),
    ("/v1/models/cells/versions/4/metadata", None, 404, "request: Specific(cells, 4)"),
    ("/v1/models/cells/labels/stable", None, 400, "version label: stable"),
    (f"/v1/models/cells/versions/{'9' * 30}", None, 400, "Failed to convert version"),
    ("/v1/models", None, 400, "Missing model name in request."),
    ("/v1/modells/cells", None, 400, "Malformed request: GET /v1/modells/cells"),
    ("/v1/models/cells:predict", None, 400, "Malformed request: GET /v1/models/cells:predict"),
    ("/", None, 404, "Not Found"),
    ("/v1/models/tells:predict", {"instances": ["a"]}, 404, "request: Latest(tells)"),
    ("/v1/models/cells/versions/4:predict", {"instances": ["a"]}, 404, "Specific(cells, 4)"),
    ("/v1/models/cells", {"instances": ["a"]}, 400, "Malformed request: POST /v1/models/cells"),
    ("/v1/models/cells:regress", {"instances": ["a"]}, 400, "tensorflow/serving/regress. Was:"),
    ("/v1/models/cells:predict", {"instances": 3}, 400, "to be an list/array"),
    ("/v1/models/cells:predict", b"", 400, "The document is empty"),
    ("/v1/models/cells:predict", b"{'instances': 3}", 400, "JSON Parse error"),
    ("/v1/models/cells:predict", b'{"instances":' + b"[" * 50_000, 400, "JSON Parse error"),
    ("/v1/models/cells:predict", b'{"instances":' + b"[" * 400 + b"]" * 400 + b"}", 400, "Lists"),
    ("/v1/models/cells:predict", {"signature_name": "exit_9", "inputs": []}, 400, "not found in"),
    ("/v1/models/cells:predict", LIMIT, 400, "too large"),
    ("/v1/models/cells:predict", b"{" + b" " * MAX_BODY, 413, "at most 1,048,576 are read"),
  ],
)
def test_what_cannot_be_answered_is_said_as_tensorflow_serving_does(
  ask, path, content, status, message
):
  found, text = ask(path, content)
  assert found == status
  assert message in text
  assert ask("/v1/models/cells:predict", {"instances": ["a"]})[0] == 200


def png_of(width, height):
  """Returns a PNG with a size and no pixels."""
  chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  checksum = struct.pack(">I", zlib.crc32(chunk))
  return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + checksum


def test_images_that_would_fill_the_memory_are_refused(export):
  model = ServedModel(find_export(export), "cells")
  with pytest.raises(ModelError, match="more than 268,435,456 pixels together") as error:
    model.predict("serving_default", {"image_bytes": np.array([png_of(30_000, 35_000)], object)})
  # The client then sends halves; of 429 it would make the same request again.
  assert error.value.http_status == 400
  many = np.array([png_of(8_000, 8_000)] * 5, object)
  with pytest.raises(ModelError, match="pixels together"):
    model.predict("serving_default", {"image_bytes": many})
  # A complete file that decodes to 11 GB.
  bomb = np.array([decompression_bomb(60_000, 60_000)], object)
  with pytest.raises(ModelError, match="pixels together"):
    model.predict("serving_default", {"image_bytes": bomb})
  few = np.array([png_of(8_000, 8_000), b"no image"], object)
  assert len(model.predict("serving_default", {"image_bytes": few})["lengths"]) == 2


def test_an_image_that_would_be_read_wrong_is_refused(export):
  model = ServedModel(find_export(export), "cells")
  picture, file = Image.new("P", (4, 4)), io.BytesIO()
  picture.putpalette([200, 0, 0, 0, 200, 0])
  picture.save(file, "BMP")
  images = np.array([png_of(8, 8), file.getvalue()], object)
  with pytest.raises(ModelError, match="a BMP with a palette at position 1: send it as a PNG"):
    model.predict("serving_default", {"image_bytes": images})


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_exports_for_other_runtimes_are_served_alike(exported_file, saved_detector, photo, format_):
  model = ServedModel(find_export(exported_file(format_)), "cells")
  assert set(model.signatures) == {"serving_default"}
  assert model.inputs_of("cells", None, "serving_default")["image_bytes"].shape == (None,)
  png = tf.io.encode_png(np.asarray(photo(90, 60))).numpy()
  found = model.predict("serving_default", {"image_bytes": np.array([png, png], object)})
  expected = saved_detector([png, png])
  assert {name: value.shape for name, value in found.items()} == {
    name: value.shape for name, value in expected.items()
  }
  np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-5)
  with pytest.raises(ModelError, match="Image 1 of 2") as error:
    model.predict("serving_default", {"image_bytes": np.array([png, b"text"], object)})
  assert error.value.http_status == 400


def raw(port, data, ending=True):
  """Sends bytes, and returns all that comes back until the server closes the connection."""
  with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
    with contextlib.suppress(OSError):
      connection.sendall(data)
      if ending:
        connection.shutdown(socket.SHUT_WR)
    answer = b""
    with contextlib.suppress(OSError):
      while chunk := connection.recv(1 << 16):
        answer += chunk
  return answer.decode()


POST = b"POST /v1/models/cells:predict HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /v1/models/cells HTTP/1.1\r\nHost: x\r\n"
WHOLE_GET = GET + b"\r\n"


@pytest.mark.parametrize(
  ("data", "expected"),
  [
    (b"\x16\x03\x01\x02\x00\x01\x00", ""),  # TLS.
    (b"GET\r\n\r\n", "Bad request syntax"),
    (b"GET /v1/models/cells HTTP/7.1\r\n\r\n", "505 "),
    (b"PUT /v1/models/cells HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "400 Bad Request"),
    (b"BREW /v1/models/cells HTTP/1.1\r\n\r\n", "501 "),
    (POST + b"\r\n", "The document is empty"),
    (POST + b"Content-Length: -5\r\n\r\n", "Content-Length is \\'-5\\', no number of bytes"),
    (POST + b"Content-Length: \xb2\r\n\r\n", "400 Bad Request"),
    (POST + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n", "400 Bad Request"),
    (POST + b"Content-Length: 99999999999\r\n\r\n" + b"x" * 300_000, "413 "),
    (POST + b"Content-Length: 9999999\r\nExpect: 100-continue\r\n\r\n", "413 "),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "411 Length Required"),
    (POST + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "415 "),
    (POST + b"Content-Length: 50\r\n\r\n{", ""),  # The rest never comes.
    (POST + b"X: " + b"x" * 70_000 + b"\r\n\r\n", "431 "),
    (POST + b"X: x\r\n" * 200 + b"\r\n", "431 "),
    (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", "414 "),
    # A body that nobody reads is no further request.
    (GET + b"Content-Length: %d\r\n\r\n" % len(WHOLE_GET) + WHOLE_GET, "200 OK"),
    (GET + b"Transfer-Encoding: chunked\r\n\r\n" + WHOLE_GET, "200 OK"),
  ],
)
def test_nothing_that_is_sent_ends_the_server(port, ask, data, expected):
  answer = raw(port, data)
  assert expected in answer
  assert answer.count("HTTP/1.1 ") <= 1
  assert ask("/v1/models/cells:predict", {"instances": ["a"]})[0] == 200


def test_a_connection_serves_many_requests(port):
  with requests.Session() as session:
    for number in range(5):
      url = f"http://127.0.0.1:{port}/v1/models/cells:predict"
      answer = session.post(url, json={"instances": ["x" * number]}, timeout=20)
      assert answer.json()["predictions"][0]["lengths"] == number
      assert "Connection" not in answer.headers


def test_an_export_that_is_damaged_is_refused(export, tmp_path):
  shutil.copytree(export, tmp_path / "model")
  (tmp_path / "model" / "3" / "saved_model.pb").write_bytes(b"\x08\xff\xff")
  with pytest.raises(UserError, match=r"model/3 is damaged: .*\. Export it again\."):
    ServedModel(find_export(tmp_path / "model"), "cells")


def test_an_export_where_tensorflow_cannot_load_it_is_not_called_damaged(export, tmp_path):
  shutil.copytree(export, tmp_path / "best[1]")
  with pytest.raises(UserError, match=r"takes \[ in a path for a pattern.* Rename the folder"):
    ServedModel(find_export(tmp_path / "best[1]"), "cells")


def test_a_port_that_is_taken_and_a_host_that_is_not_here_are_refused(export):
  with socket.create_server(("127.0.0.1", 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(UserError, match=f"--port {port} of --host 127.0.0.1 .*in use"):
      run_server(export, "127.0.0.1", port, "cells", 1)
  for host in ("192.0.2.1", "x" * 80):
    with pytest.raises(UserError, match=f"--host {host} cannot be served at"):
      RestServer(host, 0)


def test_what_is_wrong_is_said_before_tensorflow_is_loaded(export, tmp_path):
  (tmp_path / "run" / "checkpoints").mkdir(parents=True)
  (tmp_path / "run" / "config.gin").touch()
  (tmp_path / "foreign").mkdir()
  (tmp_path / "foreign" / "saved_model.pb").touch()
  with socket.create_server(("127.0.0.1", 0)) as taken:
    code = f"""if True:
      import sys
      sys.modules["tensorflow"] = None
      from pathlib import Path
      from official_nasfpn.errors import UserError
      from official_nasfpn.serving.server.running import run_server
      for folder, port, name in [
        ("nowhere", 0, "cells"), ("run", 0, "cells"), ("foreign", 0, "cells"), ("run/..", 0, "x"),
        ({str(export)!r}, {taken.getsockname()[1]}, "cells"), ({str(export)!r}, 0, "a/b"),
      ]:
        try:
          run_server(Path({str(tmp_path)!r}, folder), "127.0.0.1", port, name, 1)
        except UserError as error:
          print(error)
    """
    root = Path(official_nasfpn.__file__).parents[1]
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
  assert process.returncode == 0, process.stderr
  lines = process.stdout.splitlines()
  for line, message in zip(
    lines,
    [
      "There is no folder ",
      "is the run folder of a training, not an export",
      "is a SavedModel, but no export of ours",
      "is no export: it has no saved_model.pb, model.onnx or model.tflite",
      "in use. Give another --port, or 0 for a free one.",
      "--name 'a/b': a model's name is of letters, digits",
    ],
    strict=True,
  ):
    assert message in line


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_server_after_what_it_is_at(export, capfd, monkeypatch, number, code):
  slow = threading.Event()
  answers = []

  class Slow(ServedModel):
    def predict(self, signature_name, inputs):
      slow.set()
      time.sleep(0.3)
      return super().predict(signature_name, inputs)

  monkeypatch.setattr("official_nasfpn.serving.server.served_model.ServedModel", Slow)
  said = io.StringIO()

  def ask_and_signal():
    while "Ctrl-C ends it." not in said.getvalue():
      time.sleep(0.01)
    url = re.search(r"http://\S+/v1/models/cells", said.getvalue())[0]
    question = threading.Thread(
      target=lambda: answers.append(requests.post(f"{url}:predict", '{"instances": ["abc"]}'))
    )
    question.start()
    slow.wait(10)
    os.kill(os.getpid(), number)
    question.join()

  thread = threading.Thread(target=ask_and_signal)
  thread.start()
  former = signal.getsignal(number)
  with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as stop:
    run_server(export, "127.0.0.1", 0, "cells", 1)
  thread.join()
  assert stop.value.code == code
  assert answers[0].json()["predictions"][0]["lengths"] == 3
  assert said.getvalue().endswith("Stopped.\n")
  assert "Traceback" not in capfd.readouterr().err
  assert signal.getsignal(number) is former
