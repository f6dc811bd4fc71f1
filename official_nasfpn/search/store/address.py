"""Addresses of trial store databases: parsing, TLS options, hidden passwords."""

import ipaddress
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from official_nasfpn.errors import UserError
from official_nasfpn.installation import require

# libpq's modes, except `allow`. `prefer` encrypts if the server can, and verifies nothing.
_TLS_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
_OPTIONS = ("sslmode", "sslrootcert")


@dataclass(frozen=True)
class IfOffered:
  """TLS if the server offers it, and then only with a certificate that proves its name.

  Attributes:
    context: checks certificates.
  """

  context: ssl.SSLContext


def parse_url(url: str | Path | sa.URL) -> sa.URL:
  """Parses the address of a database.

  Args:
    url: path of an SQLite file, or a URL: `sqlite:///search.db` or
      `postgresql://user@host/database`. A PostgreSQL URL may have libpq's options `sslmode` and
      `sslrootcert`; without, TLS that a server on another machine offers is verified. If it is
      text, given by a person, and has no password, the environment variable PGPASSWORD provides
      one. An `sa.URL` is returned unchanged.

  Raises:
    UserError: this is no address of an SQLite or PostgreSQL database, or the driver is missing.
  """
  if isinstance(url, Path):
    return sa.URL.create("sqlite", database=str(url))
  if isinstance(url, sa.URL):
    return url
  try:
    url = sa.make_url(url)
  except (sa.exc.ArgumentError, ValueError):
    # The message does not quote the URL: it may contain a password.
    raise UserError(
      "--store: this is not a database URL; write postgresql://user@host:5432/database."
    ) from None
  backend = url.drivername.partition("+")[0]
  if backend == "sqlite":
    return url
  if backend not in ("postgresql", "postgres"):
    raise UserError(f"--store: a trial store is kept in SQLite or PostgreSQL, not in {backend}.")
  require("A trial store in PostgreSQL", "pg8000")
  url = url.set(drivername="postgresql+pg8000")
  if not url.username:
    raise UserError("--store: the URL names no user; write postgresql://user@host:5432/database.")
  if url.password is None and (password := os.environ.get("PGPASSWORD")):
    url = url.set(password=password)
  _check_options(url)
  return url


def parse_server(url: str) -> sa.URL:
  """Like `parse_url`, for flags that name a database which many machines share.

  Raises:
    UserError: this is no address of a PostgreSQL database.
  """
  parsed = parse_url(url)
  if parsed.get_backend_name() == "sqlite":
    raise UserError(
      "--store: a search in SQLite is kept in the file search.db of its --search_dir. Leave "
      "--store out, or name a PostgreSQL database, postgresql://user@host:5432/database."
    )
  return parsed


def server_in_file(text: str, where: str) -> sa.URL:
  """Parses the address of a PostgreSQL database that was read from a file.

  Whoever wrote the file must not decide where a password is sent, so the result has no password.

  Args:
    text: content of the file.
    where: name of the file in error messages.

  Raises:
    UserError: this is no address of a PostgreSQL database; the message does not quote the text.
  """
  try:
    url = parse_url(text.strip())
  except UserError as error:
    raise UserError(f"{where}: {str(error).removeprefix('--store: ')}") from error
  if url.get_backend_name() == "sqlite":
    raise UserError(
      f"{where} names an SQLite file, but a search in SQLite is kept in its own search.db. If this "
      f"is your search, move the file there and delete {where}."
    )
  return url._replace(password=None)


def is_same_server(one: sa.URL, other: sa.URL) -> bool:
  """Returns whether two PostgreSQL addresses are equal, apart from password and options."""

  def place(url: sa.URL) -> tuple[object, ...]:
    return url.username, (url.host or "localhost").lower(), url.port or 5432, url.database

  return place(one) == place(other)


def without_password(url: sa.URL) -> str:
  """Returns a URL that may be shown and written to files."""
  # Not `URL.set(password=None)`, where None means "unchanged".
  return url._replace(password=None).render_as_string(hide_password=False)


def without_options(url: sa.URL) -> sa.URL:
  """Returns a URL for the driver, which does not know libpq's options."""
  return url.difference_update_query(_OPTIONS)


def tls_argument(url: sa.URL) -> ssl.SSLContext | IfOffered | bool | None:
  """Returns pg8000's argument `ssl_context` for a server, or `IfOffered`.

  Args:
    url: a PostgreSQL URL, from `parse_url`.

  Returns:
    False for no TLS, None for TLS that is not verified, if the server offers it, or a context that
    demands TLS. `IfOffered` where the URL says nothing, and the server is on another machine.

  Raises:
    UserError: the file of root certificates cannot be read.
  """
  mode = _tls_mode(url)
  if mode is None:
    # Nobody listens on the way to this machine, and its certificate is mostly its own.
    return None if _is_here(url.host) else IfOffered(ssl.create_default_context())
  if mode == "disable":
    return False
  if mode == "prefer":
    return None
  try:
    # Without a file, the certificates that this machine trusts are used.
    context = ssl.create_default_context(cafile=url.query.get("sslrootcert"))
  except OSError as error:
    raise UserError(
      f"--store: sslrootcert: no certificates can be read from {url.query['sslrootcert']} "
      f"({error})."
    ) from error
  context.check_hostname = mode == "verify-full"
  if mode == "require":
    context.verify_mode = ssl.CERT_NONE
  return context


def _is_here(host: str | None) -> bool:
  """Returns whether a host is this machine, as far as its name tells."""
  if not host or host.lower() == "localhost":
    return True
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return False


def _tls_mode(url: sa.URL) -> str | None:
  """Returns the TLS mode of a URL. Naming root certificates asks for verification."""
  has_root = "sslrootcert" in url.query
  mode = url.query.get("sslmode", "verify-ca" if has_root else None)
  # As in libpq.
  return "verify-ca" if mode == "require" and has_root else mode


def _check_options(url: sa.URL) -> None:
  for name, value in url.query.items():
    if name not in _OPTIONS:
      raise UserError(f"--store: unknown option {name}; the options are {', '.join(_OPTIONS)}.")
    if not isinstance(value, str):
      raise UserError(f"--store: {name} is given twice.")
  if (mode := _tls_mode(url)) not in (None, *_TLS_MODES):
    raise UserError(f"--store: sslmode must be one of {', '.join(_TLS_MODES)}, not {mode}.")
