"""Fetching published weights: from a server on this machine, which does what servers do."""

import dataclasses
import hashlib
import http.server
import threading

import numpy as np
import pytest
from safetensors.numpy import save

from official_nasfpn.errors import UserError
from official_nasfpn.modeling.imagenet_weights import PublishedFile
from official_nasfpn.modeling.weights_cache import FOLDER_VARIABLE, cache_folder, cached_file

CONTENT = save({"conv1.weight": np.zeros([64, 3, 7, 7], np.float32)})


class _Handler(http.server.BaseHTTPRequestHandler):
  """Serves `/whole`, `/moved` (there), `/short` (half of it), `/page` and nothing else."""

  def do_GET(self):
    self.server.asked.append(self.path)
    if self.path == "/moved":
      self.send_response(302)
      self.send_header("Location", "/whole")
      self.end_headers()
      return
    content = {"/whole": CONTENT, "/short": CONTENT, "/page": b"<html>Log in</html>"}.get(self.path)
    if content is None:
      self.send_error(404)
      return
    self.send_response(200)
    self.send_header("Content-Length", str(len(content)))
    self.end_headers()
    self.wfile.write(content[: len(content) // 2] if self.path == "/short" else content)

  def log_message(self, *arguments):
    pass


@pytest.fixture(scope="module")
def server():
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "weights"))
  # A proxy would be asked for this machine, too.
  monkeypatch.setenv("no_proxy", "127.0.0.1")
  return tmp_path / "weights"


def _file(server, path, checksum=None):
  url = f"http://127.0.0.1:{server.server_port}{path}"
  return PublishedFile("test/r18", "R-18-torch", url, "r18.safetensors", "MIT", checksum=checksum)


WHOLE = [
  None,
  ("md5", hashlib.md5(CONTENT).hexdigest()),
  ("sha256", hashlib.sha256(CONTENT).hexdigest()),
  ("sha256", hashlib.sha256(CONTENT).hexdigest()[:8]),
]


@pytest.mark.parametrize("checksum", WHOLE, ids=["none", "md5", "sha256", "its beginning"])
def test_it_is_fetched_once(checksum, server, folder, capfd):
  file = _file(server, "/whole", checksum)
  assert cached_file(file) == folder / "r18.safetensors"
  assert (folder / "r18.safetensors").read_bytes() == CONTENT
  assert "fetch test/r18" in capfd.readouterr().err
  asked = len(server.asked)
  assert cached_file(file) == folder / "r18.safetensors"
  assert len(server.asked) == asked
  assert [path.name for path in folder.iterdir()] == ["r18.safetensors"]


def test_a_redirection_is_followed(server, folder):
  assert cached_file(_file(server, "/moved")).read_bytes() == CONTENT


@pytest.mark.parametrize(
  ("path", "checksum", "message"),
  [
    (
      "/short",
      WHOLE[2],
      r"cannot be fetched: the connection ended after 18,\d+ of 37,\d+ bytes\. ",
    ),
    ("/short", None, r"cannot be fetched: the connection ended after "),
    (
      "/whole",
      ("md5", "0" * 32),
      r"is not the published file: its checksum is \w{32}, not MD5 000",
    ),
    ("/whole", ("sha256", "00000000"), r"its checksum is \w{64}, not SHA-256 begins with 00000000"),
    ("/page", None, "is not the published file: it is neither a file of PyTorch "),
    ("/nothing", None, "cannot be fetched: HTTP Error 404: Not Found"),
  ],
  ids=["cut short", "cut short, no checksum", "md5", "sha256", "a page", "not there"],
)
def test_what_is_wrong_is_said_and_nothing_is_left(path, checksum, message, server, folder):
  with pytest.raises(UserError, match=message) as error:
    cached_file(_file(server, path, checksum))
  stated = f" ({_file(server, path, checksum).checksum_text})" if checksum else ""
  assert f"Put that file{stated} at {folder}" in str(error.value)
  assert list(folder.iterdir()) == []


def test_a_refused_connection_is_one_sentence(server, folder):
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as closed:
    port = closed.server_port
  file = dataclasses.replace(_file(server, "/whole"), url=f"http://127.0.0.1:{port}/whole")
  with pytest.raises(
    UserError, match=r"/whole cannot be fetched: Connection refused\. Put that file"
  ):
    cached_file(file)
  assert list(folder.iterdir()) == []


def test_a_file_that_was_put_there_is_checked(server, folder):
  folder.mkdir()
  (folder / "r18.safetensors").write_bytes(CONTENT[:-1])
  for checksum in WHOLE:
    with pytest.raises(UserError, match=r"r18\.safetensors is not the published file: .*Delete it"):
      cached_file(_file(server, "/whole", checksum))
  (folder / "r18.safetensors").write_bytes(CONTENT)
  assert cached_file(_file(server, "/not asked for", WHOLE[1])).read_bytes() == CONTENT


def test_a_file_of_another_layout_is_refused(server, folder):
  file = dataclasses.replace(_file(server, "/whole"), backbone="R-50-keras")
  with pytest.raises(UserError, match="one for other backbones than R-50-keras"):
    cached_file(file)


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path, monkeypatch):
  (tmp_path / "file").write_text("no folder")
  monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file" / "weights"))
  with pytest.raises(UserError, match=f"weights cannot be written.*{FOLDER_VARIABLE}"):
    cached_file(_file(server, "/whole"))


def test_the_folder_is_in_the_user_s_caches(monkeypatch, tmp_path):
  monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  assert cache_folder() == tmp_path / "official_nasfpn" / "weights"
  monkeypatch.delenv("XDG_CACHE_HOME")
  monkeypatch.setenv("HOME", str(tmp_path))
  assert cache_folder() == tmp_path / ".cache" / "official_nasfpn" / "weights"
