"""A network whose connections break in the middle of an answer."""

import contextlib
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def cutting_relay(port: int, num_bytes: int, cuts: int) -> Iterator[int]:
  """Relays to a port; the first `cuts` connections break after some bytes of the answer."""
  limits = iter([num_bytes] * cuts)
  ends = []

  def forward(source: socket.socket, target: socket.socket, limit: float) -> None:
    with contextlib.suppress(OSError):
      while limit > 0 and (data := source.recv(min(limit, 65536))):
        target.sendall(data)
        limit -= len(data)
    shut(source, target)

  def shut(*sockets: socket.socket) -> None:
    for end in sockets:
      with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)

  class Handler(socketserver.BaseRequestHandler):
    def handle(self):
      limit = next(limits, sys.maxsize)
      with socket.create_connection(("127.0.0.1", port)) as far:
        ends.extend([self.request, far])
        requests = threading.Thread(target=forward, args=(self.request, far, sys.maxsize))
        requests.start()
        forward(far, self.request, limit)
        requests.join()

  with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as relay:
    thread = threading.Thread(target=relay.serve_forever, args=(0.01,))
    thread.start()
    try:
      yield relay.server_address[1]
    finally:
      relay.shutdown()
      thread.join()
      shut(*ends)
