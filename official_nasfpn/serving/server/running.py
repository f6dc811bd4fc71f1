"""The program `serve`: takes the port, loads the export, serves until a signal comes."""

import ipaddress
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from official_nasfpn.errors import UserError
from official_nasfpn.serving.export_folder import find_export
from official_nasfpn.serving.server.rest_server import RestServer

_GRACE_S = 5.0


def run_server(export_dir: Path, host: str, port: int, name: str, max_request_mb: int) -> None:
  """Serves an export until SIGINT or SIGTERM, which end it with exit code 130 or 143.

  Args:
    export_dir: folder that `nasfpn export` wrote, in any format.
    host: name or address of this machine; others than loopback are open to the network.
    port: 0 for a free one.
    name: the model's name in its URL.
    max_request_mb: the largest request in units of 2^20 bytes; larger ones are refused.

  Raises:
    UserError: the folder is no export, or the port cannot be taken; both are checked before
      TensorFlow is loaded.
    SystemExit: after a signal.
  """
  export = find_export(export_dir)
  if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
    raise UserError(f"--name {name!r}: a model's name is of letters, digits, '_', '-' and '.'.")
  with _exit_on_signals(), RestServer(host, port, max_request_mb << 20, is_verbose=True) as server:
    if not _is_loopback(server.server_address[0]):
      print(
        f"warning: --host {host} is open to the network: whoever reaches port "
        f"{server.server_port} can use the model, without a password and unencrypted.",
        file=sys.stderr,
      )
    print(f"Loading {export.path} ...", flush=True)
    # TensorFlow takes seconds to start, so errors in the command are reported before.
    import tensorflow as tf

    from official_nasfpn.serving.server.served_model import ServedModel

    tf.get_logger().setLevel("ERROR")
    server.model = ServedModel(export, name)
    server.server_activate()
    print(greeting(server), flush=True)
    _serve(server)


def greeting(server: RestServer) -> str:
  """Returns the message of a server that is ready: its address, and how to call it."""
  model = server.model
  address = server.server_address[0]
  if ipaddress.ip_address(address).is_unspecified:
    address = "127.0.0.1"
  host = f"[{address}]" if ":" in address else address
  url = f"http://{host}:{server.server_port}/v1/models/{model.name}"
  return f"""Serving {model.name}, version {model.version}, at {url}
  signatures: {", ".join(sorted(model.signatures))}
In another terminal, with a photo.jpg:
  (printf '{{"instances": [{{"b64": "'; base64 < photo.jpg; printf '"}}]}}') | \\
    curl -d @- {shlex.quote(f"{url}:predict")}
From Python:
  from official_nasfpn.serving import DetectionClient
  with DetectionClient("{url}") as client:
    print(client.detect([open("photo.jpg", "rb").read()]))
One request is computed at a time: this is for trying and small use. In production, TensorFlow
Serving takes a SavedModel's folder as it is. Ctrl-C ends it."""


def _serve(server: RestServer) -> None:
  """Serves until an exception; requests that are being computed are still answered."""
  thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
  thread.start()
  try:
    thread.join()
  except SystemExit as stop:
    server.shutdown()
    is_done = server.drain(_GRACE_S)
    print("Stopped." if is_done else "Stopped, with requests unanswered.", flush=True)
    if not is_done:
      # Threads within TensorFlow would hold up or crash the end of the process.
      os._exit(stop.code)
    raise


@contextmanager
def _exit_on_signals() -> Iterator[None]:
  """Ends the process with exit code 128 + n at signal n, without a traceback."""

  def stop(number: int, _) -> None:
    raise SystemExit(128 + number)

  former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
  try:
    yield
  finally:
    for number, handler in former.items():
      signal.signal(number, handler)


def _is_loopback(address: str) -> bool:
  return ipaddress.ip_address(address.partition("%")[0]).is_loopback
