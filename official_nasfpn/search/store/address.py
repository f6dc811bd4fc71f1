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
      PostgreSQL URL without one is that of the variable PGPASSWORD.

  Raises:
    UserError: it is no address of a database that can hold a store, or its driver is missing.
  """
  if isinstance(url, Path):
    return sa.URL.create("sqlite", database=str(url))
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
  if url.password is None and (password := os.environ.get("PGPASSWORD")):
    url = url.set(password=password)
  _check_options(url)
  return url


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
