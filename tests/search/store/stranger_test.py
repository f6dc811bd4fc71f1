"""A stranger's search directory decides neither where a password is sent nor what is opened."""

import contextlib
import socket
import sqlite3
import struct
import threading

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.report.found import found_architecture, read_search, read_trials
from official_nasfpn.search.report.html.page import write_report
from official_nasfpn.search.store.address import parse_url, without_password
from official_nasfpn.search.store.trial_store import TrialStore

PASSWORD = "s3cret"
# The ways in which a server may ask for a password: in clear, as MD5, by SCRAM.
CLEAR, MD5, SCRAM = (
  struct.pack(">I", 3),
  struct.pack(">I4s", 5, b"salt"),
  struct.pack(">I", 10) + b"SCRAM-SHA-256\0\0",
)


class Stranger:
  """A server that speaks just enough of PostgreSQL's protocol to ask for a password."""

  def __init__(self, question: bytes):
    self.received = b""
    self.num_connections = 0
    self._question = question
    self._socket = socket.create_server(("127.0.0.1", 0))
    self.address = f"me@127.0.0.1:{self._socket.getsockname()[1]}/search"
    self._thread = threading.Thread(target=self._serve, daemon=True)
    self._thread.start()

  def close(self) -> None:
    self._socket.shutdown(socket.SHUT_RDWR)
    self._socket.close()
    self._thread.join()

  def _serve(self) -> None:
    with contextlib.suppress(OSError):
      while True:
        connection, _ = self._socket.accept()
        with connection, contextlib.suppress(OSError):
          self.num_connections += 1
          connection.settimeout(5)
          if len(connection.recv(1000)) == 8:  # The client asks for TLS.
            connection.sendall(b"N")
            connection.recv(1000)
          connection.sendall(b"R" + struct.pack(">I", 4 + len(self._question)) + self._question)
          if (message := connection.recv(1000)).startswith(b"p"):  # A password message.
            self.received += message
          error = b"SFATAL\0C28P01\0Mwrong\0\0"
          connection.sendall(b"E" + struct.pack(">I", 4 + len(error)) + error)


@pytest.fixture(params=[CLEAR, MD5, SCRAM], ids=["clear", "md5", "scram"])
def stranger(request, monkeypatch):
  monkeypatch.setenv("PGPASSWORD", PASSWORD)
  server = Stranger(request.param)
  yield server
  server.close()


@pytest.fixture
def search_dir(tmp_path, stranger):
  (tmp_path / "recipe.gin").write_text("Search.num_trials = 3\nSearch.algorithm = @PPO()\n")
  (tmp_path / "store.txt").write_text(f"postgresql+pg8000://{stranger.address}\n")
  return tmp_path


READERS = {
  "trials": read_trials,
  "search": read_search,
  "architecture": lambda search_dir, store=None: found_architecture(str(search_dir), store),
  "report": lambda search_dir, store=None: write_report(
    search_dir, search_dir / "report.html", 0.0, store
  ),
}


@pytest.mark.parametrize("reader", READERS)
def test_an_address_in_a_directory_gets_no_password(search_dir, stranger, reader):
  with pytest.raises(UserError, match="the server asks for a password; set PGPASSWORD and give"):
    READERS[reader](search_dir)
  assert stranger.num_connections == 1
  assert stranger.received == b""
  assert not (search_dir / "report.html").exists()


@pytest.mark.parametrize("reader", READERS)
def test_an_address_that_a_person_gives_gets_it(search_dir, stranger, reader):

  with pytest.raises(UserError, match="cannot be opened: wrong"):
    READERS[reader](search_dir, f"postgres://{stranger.address}?sslmode=disable")
  assert stranger.received


@pytest.mark.parametrize("change", [("me@", "you@"), ("/search", "/other"), ("127.0.0.1", "host")])
def test_another_address_is_refused_before_anything_is_sent(search_dir, stranger, change):
  with pytest.raises(UserError, match=r"The trials of .* are in .*, not in .*Give --store that"):
    read_trials(search_dir, f"postgresql://{stranger.address.replace(*change)}")
  assert stranger.num_connections == 0


def test_a_worker_and_a_controller_send_none_either(search_dir, stranger):
  store = TrialStore(storage.store_place(search_dir), keeps_connection=False)
  assert store.environment == {}
  for operation in (store.recipe, store.create, store.exclusive().__enter__):
    with pytest.raises(UserError, match="the server asks for a password"):
      operation()
  store.close()
  assert stranger.received == b""


def test_a_password_in_the_directory_is_none(search_dir, stranger):
  (search_dir / "store.txt").write_text(f"postgresql://{stranger.address.replace('@', ':pw@')}")
  assert storage.store_place(search_dir).password is None
  confirmed = storage.store_place(search_dir, f"postgresql://{stranger.address}")
  assert confirmed.password == PASSWORD
  assert PASSWORD not in without_password(confirmed)
  assert parse_url(storage.store_place(search_dir)).password is None


@pytest.mark.parametrize(
  "text",
  [
    "sqlite:////{}/other.db",
    "sqlite:///search.db",
    "sqlite://",
    "mysql://me@host/search",
    "postgresql://host/search",
    "postgresql://me@host/search?options=-c%20x",
    "s3cret of somebody",
    "",
    "\0",
    "x" * 100_000,
  ],
)
def test_a_directory_names_a_server_or_none(tmp_path, text):
  (tmp_path / "store.txt").write_text(text.replace("{}", str(tmp_path)))
  with pytest.raises(UserError) as error:
    read_trials(tmp_path)
  assert str(error.value).startswith(str(tmp_path / "store.txt"))
  assert ("an SQLite file" in str(error.value)) == text.startswith("sqlite")
  assert "s3cret" not in str(error.value)
  assert [path.name for path in tmp_path.iterdir()] == ["store.txt"]


def test_a_link_to_a_file_is_no_address(tmp_path):
  (tmp_path / "secret").write_text("postgresql://me@127.0.0.1:1/s3cret")
  (tmp_path / "store.txt").symlink_to(tmp_path / "secret")
  with pytest.raises(UserError, match="is a symbolic link") as error:
    read_trials(tmp_path)
  assert "s3cret" not in str(error.value)


def test_a_search_in_sqlite_has_no_address(tmp_path):
  with contextlib.closing(TrialStore(storage.database_path(tmp_path))) as store:
    store.create()
  with pytest.raises(UserError, match="Leave --store out"):
    read_trials(tmp_path, "postgresql://me@host/search")
  with pytest.raises(UserError, match=r"in the file search\.db"):
    read_trials(tmp_path, f"sqlite:///{tmp_path}/search.db")
  assert read_trials(tmp_path) == []


def test_a_database_that_is_a_link_is_not_followed(tmp_path):
  (tmp_path / "mine").mkdir()
  with contextlib.closing(TrialStore(storage.database_path(tmp_path / "mine"))) as store:
    store.create()
  storage.database_path(tmp_path).symlink_to(storage.database_path(tmp_path / "mine"))
  for place in (read_trials, storage.store_place, storage.new_store_place):
    with pytest.raises(UserError, match=r"search\.db is a symbolic link"):
      place(tmp_path)


def test_a_file_that_is_no_database_is_named(tmp_path):
  storage.database_path(tmp_path).write_bytes(b"no database at all" * 100)
  with pytest.raises(UserError, match=r"search\.db cannot be read: file is not a database"):
    read_trials(tmp_path)
  storage.database_path(tmp_path).unlink()
  with contextlib.closing(sqlite3.connect(storage.database_path(tmp_path))) as database:
    database.execute("CREATE TABLE other (id)")
  with pytest.raises(UserError, match="holds no search"):
    read_trials(tmp_path)


def test_a_server_that_asks_for_a_password_is_read_when_a_person_names_it(
  postgres, tmp_path, monkeypatch
):
  url = postgres.new_database(password=PASSWORD)
  monkeypatch.setenv("PGPASSWORD", PASSWORD)
  storage.settle_store(tmp_path, without_password(parse_url(url)))
  with contextlib.closing(TrialStore(url)) as store:
    store.create()
  with pytest.raises(UserError, match="the server asks for a password"):
    read_trials(tmp_path)
  assert read_trials(tmp_path, url) == []
  # A search that is continued with the given address passes the password on to its workers.
  for place in (storage.new_store_place(tmp_path, url), storage.store_place(tmp_path, url)):
    with contextlib.closing(TrialStore(place)) as store, store.exclusive():
      assert store.environment == {"PGPASSWORD": PASSWORD}
      store.create()
  monkeypatch.delenv("PGPASSWORD")
  with pytest.raises(UserError, match="the server asks for a password"):
    read_trials(tmp_path, url)
