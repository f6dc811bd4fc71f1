"""One deadline for a whole request over HTTP: connection, TLS, headers and body together.

The timeout of a socket begins anew with every byte, so that a server that sends one a second would
hold a client for ever. Here a timer closes the connection under the request instead.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import requests.adapters
import urllib3


class Deadline:
  """When a request must have ended; use it in `limit`.

  Attributes:
    is_over: whether the connection was closed because of it.
  """

  def __init__(self, seconds: float):
    self.is_over = False
    self._socket: socket.socket | None = None
    self._lock = threading.Lock()
    self._timer = threading.Timer(seconds, self._end)
    self._timer.daemon = True

  def watch(self, connected: socket.socket) -> None:
    """Takes the connection that the request goes over."""
    # By another number: TLS takes the first away from its object, and http.client closes it before
    # a body of unknown length.
    twin = socket.socket(fileno=os.dup(connected.fileno()))
    with self._lock:
      self._leave()
      self._socket = twin
      if self.is_over:
        _shut(twin)

  @contextlib.contextmanager
  def limit(self) -> Iterator[None]:
    """Holds for the requests within the block."""
    token = _DEADLINE.set(self)
    self._timer.start()
    try:
      yield
    finally:
      _DEADLINE.reset(token)
      self._timer.cancel()
      with self._lock:  # The connection may serve another request next.
        self._leave()

  def _end(self) -> None:
    with self._lock:
      self.is_over = True
      if self._socket is not None:
        _shut(self._socket)

  def _leave(self) -> None:
    if self._socket is not None:
      self._socket.close()
      self._socket = None


# What `requests` would have to pass on to the connection, and does not.
_DEADLINE: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


class DeadlineAdapter(requests.adapters.HTTPAdapter):
  """Connections that the `Deadline` of their request can close."""

  def init_poolmanager(self, *args: Any, **settings: Any) -> None:
    super().init_poolmanager(*args, **settings)
    self.poolmanager.pool_classes_by_scheme = _POOLS

  def proxy_manager_for(self, *args: Any, **settings: Any) -> Any:
    manager = super().proxy_manager_for(*args, **settings)
    if type(manager) is urllib3.ProxyManager:  # One of SOCKS has connections of its own.
      manager.pool_classes_by_scheme = _POOLS
    return manager


class _Watched:
  """What is added to urllib3's connections. `_new_conn` is where its own SOCKS module enters."""

  sock: socket.socket | None

  def _new_conn(self) -> socket.socket:
    connected = super()._new_conn()  # type: ignore[misc]
    _watch(connected)
    return connected

  def putrequest(self, *args: Any, **settings: Any) -> None:
    if self.sock is not None:  # Of an earlier request.
      _watch(self.sock)
    super().putrequest(*args, **settings)  # type: ignore[misc]


class _HttpConnection(_Watched, urllib3.connection.HTTPConnection):
  pass


class _HttpsConnection(_Watched, urllib3.connection.HTTPSConnection):
  pass


class _HttpPool(urllib3.HTTPConnectionPool):
  ConnectionCls = _HttpConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
  ConnectionCls = _HttpsConnection


_POOLS = {"http": _HttpPool, "https": _HttpsPool}


def _watch(connected: socket.socket) -> None:
  if deadline := _DEADLINE.get():
    deadline.watch(connected)


def _shut(connected: socket.socket) -> None:
  with contextlib.suppress(OSError):
    connected.shutdown(socket.SHUT_RDWR)
