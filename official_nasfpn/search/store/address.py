"""Where the database of a trial store is, and how its server is reached."""

import os
import ssl
from pathlib import Path

import sqlalchemy as sa

from official_nasfpn.errors import UserError
from official_nasfpn.installation import require

# libpq's modes, without `allow`. Without any: encrypted where the server can, unverified.
_TLS_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
_OPTIONS = ("sslmode", "sslrootcert")


def parse_url(url: str | Path | sa.URL) -> sa.URL:
  """Returns the address of a database.

  Args:
    url: path of an SQLite file, or a URL: `sqlite:///search.db`, `postgresql://user@host/database`,
      the latter with libpq's options `sslmode` and `sslrootcert` if need be. The password of a
      PostgreSQL URL without one is that of the variable PGPASSWORD, if the URL is a text: one that
      a person has given. What this function or `server_in_file` has returned stays as it is.

  Raises:
    UserError: it is no address of a database that can hold a store, or its driver is missing.
  """
  if isinstance(url, Path):
    return sa.URL.create("sqlite", database=str(url))
  if isinstance(url, sa.URL):
    return url
  try:
    url = sa.make_url(url)
  except (sa.exc.ArgumentError, ValueError):
    # Not quoted: there may be a password in it.
    raise UserError(
      "--store: that is no URL of a database; write postgresql://user@host:5432/database."
    ) from None
  backend = url.drivername.partition("+")[0]
  if backend == "sqlite":
    return url
  if backend not in ("postgresql", "postgres"):
    raise UserError(f"--store: a trial store is in SQLite or PostgreSQL, not in {backend}.")
  require("A trial store in PostgreSQL", "pg8000")
  url = url.set(drivername="postgresql+pg8000")
  if not url.username:
    raise UserError("--store: there is no user in it; write postgresql://user@host:5432/database.")
  if url.password is None and (password := os.environ.get("PGPASSWORD")):
    url = url.set(password=password)
  _check_options(url)
  return url


def parse_server(url: str) -> sa.URL:
  """Like `parse_url`, for a flag that names the database of many machines.

  Raises:
    UserError: it is no address of a PostgreSQL database.
  """
  parsed = parse_url(url)
  if parsed.get_backend_name() == "sqlite":
    raise UserError(
      "--store: a search in SQLite is in its --search_dir, in the file search.db. Leave --store "
      "out, or name a PostgreSQL database, postgresql://user@host:5432/database."
    )
  return parsed


def server_in_file(text: str, where: str) -> sa.URL:
  """Returns an address that a file has: whoever wrote it must not decide where a password goes.

  Args:
    text: of the file.
    where: what error messages call it.

  Raises:
    UserError: it is no address of a PostgreSQL database; what it is instead is not quoted.
  """
  try:
    url = parse_url(text.strip())
  except UserError as error:
    raise UserError(f"{where}: {str(error).removeprefix('--store: ')}") from error
  if url.get_backend_name() == "sqlite":
    raise UserError(
      f"{where} names a file of SQLite, but a search in SQLite is in its own search.db. If it is "
      f"your search, move the file there and delete {where}."
    )
  return url._replace(password=None)


def is_same_server(one: sa.URL, other: sa.URL) -> bool:
  """Returns whether two addresses of PostgreSQL are the same but for password and options."""

  def place(url: sa.URL) -> tuple[object, ...]:
    return url.username, (url.host or "localhost").lower(), url.port or 5432, url.database

  return place(one) == place(other)


def without_password(url: sa.URL) -> str:
  """Returns a URL as it may be shown and written down."""
  # `URL.set` would keep the password: None stands for "as it is" there.
  return url._replace(password=None).render_as_string(hide_password=False)


def without_options(url: sa.URL) -> sa.URL:
  """Returns a URL as the driver takes it, which does not know libpq's options."""
  return url.difference_update_query(_OPTIONS)


def tls_argument(url: sa.URL) -> ssl.SSLContext | bool | None:
  """Returns what pg8000 takes as `ssl_context`.

  Args:
    url: of PostgreSQL, from `parse_url`.

  Raises:
    UserError: the file of root certificates cannot be read.
  """
  mode = _tls_mode(url)
  if mode == "disable":
    return False
  if mode == "prefer":
    return None
  try:
    # Without a file: the certificates that this machine trusts.
    context = ssl.create_default_context(cafile=url.query.get("sslrootcert"))
  except OSError as error:
    raise UserError(
      f"--store: sslrootcert: {url.query['sslrootcert']} has no certificates that can be read "
      f"({error})."
    ) from error
  context.check_hostname = mode == "verify-full"
  if mode == "require":
    context.verify_mode = ssl.CERT_NONE
  return context


def _tls_mode(url: sa.URL) -> str:
  """Returns the mode of a URL; who names root certificates wants them used."""
  has_root = "sslrootcert" in url.query
  mode = url.query.get("sslmode", "verify-ca" if has_root else "prefer")
  # As libpq has it.
  return "verify-ca" if mode == "require" and has_root else mode


def _check_options(url: sa.URL) -> None:
  for name, value in url.query.items():
    if name not in _OPTIONS:
      raise UserError(f"--store: there is no option {name}; there are {', '.join(_OPTIONS)}.")
    if not isinstance(value, str):
      raise UserError(f"--store: {name} is given twice.")
  if (mode := _tls_mode(url)) not in _TLS_MODES:
    raise UserError(f"--store: sslmode is one of {', '.join(_TLS_MODES)}, not {mode}.")
