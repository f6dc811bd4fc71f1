"""A real PostgreSQL server for tests, in a temporary directory; tests may kill it."""

import contextlib
import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa

_PATIENCE_SECONDS = 120
_USER = "nasfpn"
_GUARDED_USER = "guarded"


class PostgresServer:
  """A server on a port of the loopback address. Only one of its users has a password."""

  def __init__(self):
    """Creates the server's files and starts it; skips the test if PostgreSQL is not installed."""
    binaries = _binaries()
    self._binaries = binaries
    self._as_owner = _as_owner()
    # Not in pytest's directories, which the server's user cannot enter.
    self._directory = Path(tempfile.mkdtemp(prefix="nasfpn-postgres-"))
    if self._as_owner:
      shutil.chown(self._directory, "postgres")
    self._data = self._directory / "data"
    with socket.socket() as probe:
      probe.bind(("127.0.0.1", 0))
      self.port = probe.getsockname()[1]
    self._call("initdb", "-D", self._data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync")
    rules = self._data / "pg_hba.conf"
    guard = f"host all {_GUARDED_USER} 127.0.0.1/32 scram-sha-256\n"
    rules.write_text(guard + rules.read_text())
    self.start()

  def start(self) -> None:
    options = (
      f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off "
      "-c shared_buffers=16MB -c max_connections=40"
    )
    log = self._directory / "log"
    self._call("pg_ctl", "start", "-w", "-D", self._data, "-l", log, "-o", options)

  def encrypt(self) -> Path:
    """Makes the server offer TLS from its next start; returns the self-signed certificate's path.

    The certificate is for the name `localhost`, not for the address 127.0.0.1.
    """
    if not shutil.which("openssl"):
      pytest.skip("openssl, which makes a certificate, is not installed")
    certificate, key = self._data / "server.crt", self._data / "server.key"
    self._call_as_owner(
      *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2),
      *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
      *("-keyout", key, "-out", certificate),
    )
    with (self._data / "postgresql.auto.conf").open("a") as file:
      file.write("ssl = on\n")
    return certificate

  def kill(self) -> None:
    """Ends the server like a power cut: by SIGQUIT, without any cleaning up."""
    pid = int((self._data / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGQUIT)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while _is_running(pid):
      assert time.monotonic() < deadline, "the server does not end"
      time.sleep(0.02)

  def new_database(self, password: str | None = None) -> str:
    """Creates an empty database and returns its URL.

    Args:
      password: password that the server asks for and the URL does not contain; None for none.
    """
    name = f"search_{uuid.uuid4().hex}"
    user = _GUARDED_USER if password else _USER
    engine = sa.create_engine(
      f"postgresql+pg8000://{_USER}@127.0.0.1:{self.port}/postgres", isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
      if password:
        if not connection.scalar(sa.text(f"SELECT 1 FROM pg_roles WHERE rolname = '{user}'")):
          connection.exec_driver_sql(f"CREATE ROLE {user} LOGIN")
        connection.exec_driver_sql(f"ALTER ROLE {user} PASSWORD '{password}'")
      connection.exec_driver_sql(f"CREATE DATABASE {name} OWNER {user}")
    engine.dispose()
    return f"postgresql://{user}@127.0.0.1:{self.port}/{name}"

  def close(self) -> None:
    with contextlib.suppress(OSError, ValueError):
      self.kill()
    shutil.rmtree(self._directory, ignore_errors=True)

  def _call(self, program: str, *arguments: object) -> None:
    self._call_as_owner(os.path.join(self._binaries, program), *arguments)

  def _call_as_owner(self, *arguments: object) -> None:
    command = [*self._as_owner, *map(str, arguments)]
    done = subprocess.run(
      command,
      cwd=self._directory,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      timeout=_PATIENCE_SECONDS,
      env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def _is_running(pid: int) -> bool:
  try:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
  except OSError:
    return False
  # It stays a zombie if its parent does not wait for it.
  return state != "Z"


def _binaries() -> str:
  folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=_version, reverse=True)
  if found := next((folder for folder in folders if os.path.exists(f"{folder}/initdb")), None):
    return found
  if initdb := shutil.which("initdb"):
    return os.path.dirname(os.path.realpath(initdb))
  pytest.skip("PostgreSQL's server (initdb) is not installed")


def _version(folder: str) -> float:
  try:
    return float(folder.split("/")[-2])
  except ValueError:
    return 0.0


def _as_owner() -> list[str]:
  """Returns a prefix for commands so that they do not run as root, which PostgreSQL refuses."""
  if os.geteuid() != 0:
    return []
  if not shutil.which("runuser"):
    pytest.skip("PostgreSQL's server does not run as root, and there is no runuser")
  if subprocess.run(["id", "postgres"], capture_output=True).returncode != 0:
    pytest.skip("PostgreSQL's server does not run as root, and there is no user postgres")
  return ["runuser", "-u", "postgres", "--"]
