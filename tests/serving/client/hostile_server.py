"""Servers that answer anything but detections: each hands out what a test gives it."""

import contextlib
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

# Takes the connection, whose request has been read up to the end of its headers.
Answer = Callable[[socket.socket], object]
_TYPES = {
  "boxes": np.float32,
  "scores": np.float32,
  "classes": np.int32,
  "category_ids": np.int64,
  "labels": object,
  "num_detections": np.int32,
  "exit": np.int32,
  "expected_ms": np.float32,
}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextlib.contextmanager
def raw_server(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[int]:
  """Serves whatever `answer` writes to every connection, whose request it need not read.

  Yields:
    The port.
  """

  class Handler(socketserver.BaseRequestHandler):
    def handle(self):
      with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        connection = self.request
        if tls:
          connection = stack.enter_context(tls.wrap_socket(connection, server_side=True))
        received = b""
        while b"\r\n\r\n" not in received:
          received += connection.recv(65536) or b"\r\n\r\n"
        answer(connection)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # A reset would take the answer away.
          pass

  class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

  with Server(("127.0.0.1", 0), Handler) as server:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
      yield server.server_address[1]
    finally:
      server.shutdown()
      thread.join()


def page(status: int, body: bytes, kind: str = "application/json") -> Answer:
  """Returns an answer that is a whole HTTP message."""
  head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
  return lambda connection: connection.sendall(head.encode() + body)


def dripping(start: bytes, byte: bytes) -> Answer:
  """Returns an answer that goes on for ever, slowly."""

  def answer(connection: socket.socket) -> None:
    connection.sendall(start)
    while True:
      connection.sendall(byte)
      time.sleep(0.05)

  return answer


def endless(start: bytes, piece: bytes) -> Answer:
  """Returns an answer that goes on for ever, as fast as it is taken."""

  def answer(connection: socket.socket) -> None:
    connection.sendall(start)
    while True:
      connection.sendall(piece)

  return answer


def response_of(outputs):
  """Returns a prediction over gRPC, of lists by the names of an export's outputs."""
  response = predict_pb2.PredictResponse()
  for name, values in outputs.items():
    array = np.array(values, _TYPES[name])
    response.outputs[name].CopyFrom(tf.make_tensor_proto(array, shape=array.shape))
  return response


@contextlib.contextmanager
def grpc_server(
  answer: Callable[[], bytes],
  compression: grpc.Compression | None = None,
  credentials: grpc.ServerCredentials | None = None,
) -> Iterator[int]:
  """Serves whatever `answer` returns to every request over gRPC; yields the port."""
  handler = grpc.unary_unary_rpc_method_handler(lambda request, context: answer())

  class AnyMethod(grpc.GenericRpcHandler):
    def service(self, handler_call_details):
      return handler

  options = [("grpc.max_send_message_length", -1)]
  with futures.ThreadPoolExecutor(2) as pool:
    server = grpc.server(pool, [AnyMethod()], options=options, compression=compression)
    address = "127.0.0.1:0"
    port = (
      server.add_secure_port(address, credentials)
      if credentials
      else server.add_insecure_port(address)
    )
    server.start()
    try:
      yield port
    finally:
      server.stop(None).wait()


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
  """Makes a certificate that signs itself, of a host's name or address.

  Returns:
    The certificate and its key, PEM files.
  """
  certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
  kind = "IP" if name[0].isdigit() else "DNS"
  subprocess.run(
    [
      *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
      *("-subj", f"/CN={name}", "-addext", f"subjectAltName={kind}:{name}"),
      *("-keyout", key, "-out", certificate),
    ],
    check=True,
    capture_output=True,
  )
  return certificate, key
