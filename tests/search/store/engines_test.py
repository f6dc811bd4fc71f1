"""Connections that fail while they are opened."""

import contextlib
import gc
import socket
import struct
import threading
import warnings
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from official_nasfpn.search.store.address import parse_url
from official_nasfpn.search.store.engines import is_outage, postgres_engine


@contextlib.contextmanager
def resetting_server() -> Iterator[int]:
  """Yields the port of a server that resets each connection at its first bytes."""
  with socket.create_server(("127.0.0.1", 0)) as server:

    def serve() -> None:
      with contextlib.suppress(OSError):
        while True:
          connection, _ = server.accept()
          with connection:
            connection.recv(1)
            # Closes at once and drops unsent and unread bytes.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
      yield server.getsockname()[1]
    finally:
      server.shutdown(socket.SHUT_RDWR)
      thread.join()


@pytest.mark.parametrize("mode", ["prefer", "require", "disable"])
def test_a_server_that_goes_away_meanwhile_leaves_no_socket_open(mode):
  with resetting_server() as port, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    engine = postgres_engine(parse_url(f"postgresql://me@127.0.0.1:{port}/x?sslmode={mode}"))
    for _ in range(3):
      with pytest.raises((OSError, sa.exc.DBAPIError)) as raised:
        engine.connect()
      assert is_outage(raised.value)
    del raised
    engine.dispose()
    gc.collect()
  assert not [each for each in caught if issubclass(each.category, ResourceWarning)]


def test_no_server_at_all_is_an_outage():
  with socket.create_server(("127.0.0.1", 0)) as server:
    port = server.getsockname()[1]
  engine = postgres_engine(parse_url(f"postgresql://me@127.0.0.1:{port}/x"))
  with pytest.raises(sa.exc.DBAPIError) as raised:
    engine.connect()
  assert is_outage(raised.value)
