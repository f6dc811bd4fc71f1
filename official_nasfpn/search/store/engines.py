"""Connections to SQLite and PostgreSQL, and what their errors mean."""

import logging
import os
import socket
import ssl

import sqlalchemy as sa

from official_nasfpn.printable import printable
from official_nasfpn.search.store import address

# How long SQLite's writers wait for one another; each holds the file for a few milliseconds.
_BUSY_SECONDS = 30
# SQLite's words for a file that another process holds. Python 3.10 has no codes of SQLite's errors.
_BUSY = ("database is locked", "database table is locked", "locking protocol")
# No statement of a store takes nearly this long: a server that is silent for longer is down.
_SILENCE_SECONDS = 60

# SQLSTATEs of a server that will soon be back: class 08 means a lost connection, 57P0x a server
# that stops, crashes or starts, or ends idle connections, class 53 too many connections or too
# little memory or disk, 25006 one that only reads, as after a failover.
_OUTAGE_STATES = ("08", "57P01", "57P02", "57P03", "57P05", "25P03", "53", "25006")
# SQLSTATEs of a statement that the server has given up, and the connection stays: cancelled,
# perhaps by `statement_timeout`, or waiting for a lock for too long.
_CANCELLED_STATES = ("57014", "55P03")
# SQLSTATEs of transactions that must be repeated: class 40, as where all are serializable.
_CONFLICT_STATES = ("40",)
# SQLSTATEs that repeating does not help: wrong password, user or database, missing permissions.
_REFUSAL_STATES = ("28", "3D000", "42501", "57P04")
# pg8000's words for a server without TLS.
_NO_TLS = "refuses SSL"
_UNKNOWN_CERTIFICATE = (
  "If its authority is your own, name that one's certificate in the address, ?sslrootcert=FILE; "
  "?sslmode=require encrypts without knowing who answers"
)
# A search directory may come from a stranger, who must not decide where a password is sent.
_NO_PASSWORD = (
  "the server asks for a password; set PGPASSWORD and give this address with --store, because no "
  "password is sent to an address that only a search directory names"
)


def sqlite_engine(url: sa.URL) -> sa.Engine:
  """Returns an engine for an SQLite file."""
  engine = sa.create_engine(url)

  @sa.event.listens_for(engine, "connect")
  def on_connect(connection, _):
    # We begin transactions ourselves, below; Python's sqlite3 must not.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    connection.execute("PRAGMA journal_mode = WAL")
    # A damaged text must not keep the rows around it from being read.
    connection.text_factory = decoded
    # A reported result survives a power cut.
    connection.execute("PRAGMA synchronous = FULL")

  @sa.event.listens_for(engine, "begin")
  def on_begin(connection):
    # Takes the write lock at once: a transaction that reads first and writes later would fail,
    # without waiting, if another process has written in between.
    reads_only = connection.get_execution_options().get("read_only")
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

  return engine


def decoded(text: bytes) -> str:
  """Returns a text of SQLite; what is no UTF-8 becomes U+FFFD."""
  return text.decode("utf-8", "replace")


def postgres_engine(url: sa.URL, **options: object) -> sa.Engine:
  """Returns an engine for a PostgreSQL server.

  Args:
    url: address of the database, from `address.parse_url`.
    **options: further arguments of `sqlalchemy.create_engine`.

  Raises:
    UserError: the file of root certificates cannot be read.
  """
  engine = sa.create_engine(
    address.without_options(url),
    connect_args={
      "timeout": _SILENCE_SECONDS,
      "application_name": f"process {os.getpid()} on {socket.gethostname()}",
      "ssl_context": address.tls_argument(url),
    },
    **options,
  )
  sa.event.listen(engine, "do_connect", _connect)
  sa.event.listen(engine, "handle_error", _classify_error)
  # It would log a traceback for each lost connection that cannot be closed.
  logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
  return engine


def is_outage(error: Exception) -> bool:
  """Returns whether an error that is no refusal means that the PostgreSQL server is down."""
  # pg8000 passes some errors of the socket through unchanged.
  if isinstance(error, OSError) or error.connection_invalidated:
    return True
  return _sqlstate(error.orig).startswith(_CANCELLED_STATES)


def is_busy(error: Exception) -> bool:
  """Returns whether another process has held an SQLite file for longer than one waits for it.

  It may have been suspended, or the network file system under it stalls.
  """
  return str(getattr(error, "orig", None)) in _BUSY


def is_conflict(error: Exception) -> bool:
  """Returns whether a transaction met another one, and need only be repeated."""
  return _sqlstate(getattr(error, "orig", None) or error).startswith(_CONFLICT_STATES)


def is_refusal(error: Exception) -> bool:
  """Returns whether an error means that the server refuses us, or its certificate is not valid."""
  original = getattr(error, "orig", None) or error
  return (
    isinstance(original, ssl.SSLCertVerificationError)
    or isinstance(original.__cause__, ssl.SSLCertVerificationError)
    or _sqlstate(original).startswith(_REFUSAL_STATES)
    # pg8000 gives no SQLSTATE for a server without TLS.
    or _NO_TLS in str(original)
    or _NO_PASSWORD in str(original)
  )


def reason(error: Exception) -> str:
  """Returns the reason of an error for people, without the statement, which may be long."""
  original = getattr(error, "orig", None) or error
  if isinstance(cause := original.__cause__ or original, ssl.SSLCertVerificationError):
    return f"{cause.strerror or cause}. {_UNKNOWN_CERTIFICATE}"
  if isinstance(cause := original.__cause__, OSError):
    return cause.strerror or str(cause)
  details = original.args[0] if original.args else ""
  # A server may say anything.
  return printable(str(details.get("M", details)) if isinstance(details, dict) else str(original))


def _connect(
  dialect: sa.Dialect, record: object, arguments: list[object], parameters: dict[str, object]
) -> object:
  """Connects as pg8000 does; see `address.IfOffered`, too."""
  tls = parameters["ssl_context"]
  if not isinstance(tls, address.IfOffered):
    return _open(dialect, arguments, parameters)
  try:
    return _open(dialect, arguments, {**parameters, "ssl_context": tls.context})
  except dialect.loaded_dbapi.InterfaceError as error:
    if _NO_TLS not in str(error):
      raise
  return _open(dialect, arguments, {**parameters, "ssl_context": False})


def _open(dialect: sa.Dialect, arguments: list[object], parameters: dict[str, object]) -> object:
  """Connects as pg8000 does, but closes the socket if the server goes away meanwhile."""
  server = (parameters.get("host", "localhost"), parameters.get("port", 5432))
  try:
    connection = socket.create_connection(server, parameters["timeout"])
  except OSError as error:
    raise dialect.loaded_dbapi.InterfaceError("There is no connection.") from error
  try:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # `pg8000.connect` would not pass the socket on.
    return dialect.loaded_dbapi.Connection(*arguments, **parameters, sock=connection)
  except BaseException as error:
    connection.close()
    # pg8000 uses the password without checking that there is one.
    has_none = parameters.get("password") is None
    if has_none and (isinstance(error, AttributeError) or "no password was" in str(error)):
      raise dialect.loaded_dbapi.InterfaceError(_NO_PASSWORD) from error
    raise


def _classify_error(context: sa.engine.ExceptionContext) -> None:
  """Tells SQLAlchemy which of pg8000's errors are outages, by their SQLSTATE or their cause."""
  error = context.original_exception
  state = _sqlstate(error)
  lost = isinstance(error, OSError) or isinstance(error.__cause__, OSError)
  if lost or state.startswith(_OUTAGE_STATES):
    context.is_disconnect = True


def _sqlstate(error: BaseException) -> str:
  details = error.args[0] if error.args else None
  return str(details.get("C", "")) if isinstance(details, dict) else ""
