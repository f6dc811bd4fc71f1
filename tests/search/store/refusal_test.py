"""A server that refuses us, or refuses connections without TLS, is reported at once."""

import certifi
import pytest
import sqlalchemy as sa

from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.loop import begun_store
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.search import Search
from official_nasfpn.search.store.trial_store import TrialStore
from official_nasfpn.search.workers.launchers import LauncherConfig
from tests.search.store.postgres_server import PostgresServer


def open_and_close(url: str) -> None:
  store = TrialStore(url)
  try:
    store.create()
  finally:
    store.close()


@pytest.mark.parametrize(
  ("change", "reason"),
  [
    ({"database": "elsewhere"}, 'database "elsewhere" does not exist'),
    ({"username": "nobody"}, 'role "nobody" does not exist'),
    ({"query": {"sslmode": "require"}}, "Server refuses SSL"),
  ],
)
def test_a_server_that_refuses_is_not_waited_for(postgres, change, reason):
  url = sa.make_url(postgres.new_database()).set(**change)
  with pytest.raises(UserError, match=f"The trial store .* cannot be opened: {reason}"):
    open_and_close(url.render_as_string(hide_password=False))


def test_a_wrong_address_does_not_bind_the_directory(postgres, recipe, tmp_path):
  right = postgres.new_database(password="s3cret").replace("@", ":s3cret@")
  search_dir = tmp_path / "search"
  for wrong, reason in (
    (f"{postgres.new_database()}er", "does not exist"),
    (right.replace("s3cret", "wrong"), "password authentication failed"),
  ):
    with pytest.raises(UserError, match=f"cannot be opened: .*{reason}"):
      Search(search_dir, read_recipe([recipe]), wrong).run(LauncherConfig("none"))
    assert {path.name for path in search_dir.iterdir()} == {".controller.lock", "recipe.gin"}
  begun = read_recipe([storage.stored_recipe(search_dir)])
  with begun_store(search_dir, begun, right):
    pass
  assert storage.store_place(search_dir) == sa.make_url(right).set(
    drivername="postgresql+pg8000"
  )._replace(password=None)
  # From now on it does.
  other = postgres.new_database()
  with pytest.raises(UserError, match="not in"), begun_store(search_dir, begun, other):
    pass


def test_another_search_does_not_bind_the_directory(postgres, recipe, tmp_path):
  url = postgres.new_database()
  with begun_store(tmp_path, read_recipe([recipe], ["Search.seed = 1"]), url):
    pass
  elsewhere = tmp_path / "elsewhere"
  elsewhere.mkdir()
  refused = pytest.raises(UserError, match=r"Search\.seed: 1 there, 0 now")
  with refused, begun_store(elsewhere, read_recipe([recipe]), url):
    pass
  assert not [*elsewhere.iterdir()]


def test_missing_rights_are_named(postgres):
  url = postgres.new_database()
  open_and_close(url)
  engine = sa.create_engine(url.replace("postgresql:", "postgresql+pg8000:"))
  with engine.begin() as connection:
    connection.exec_driver_sql("CREATE ROLE reader LOGIN")
  engine.dispose()
  store = TrialStore(url.replace("nasfpn@", "reader@"))
  try:
    with pytest.raises(UserError, match="cannot be opened: permission denied for table"):
      store.release_expired()
  finally:
    store.close()


@pytest.fixture(scope="module")
def encrypted():
  """Returns a server with TLS, and the path of its certificate."""
  server = PostgresServer()
  try:
    certificate = server.encrypt()
    server.kill()
    server.start()
    yield server, certificate
  finally:
    server.close()


def is_encrypted(server: PostgresServer, options: str, host: str = "localhost") -> bool:
  url = server.new_database().replace("127.0.0.1", host) + options
  open_and_close(url)
  store = TrialStore(url)
  try:
    return store._database.read(
      lambda connection: connection.exec_driver_sql(
        "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
      ).scalar()
    )
  finally:
    store.close()


class TestTls:
  @pytest.mark.parametrize(
    ("options", "expected"),
    [
      ("", True),
      ("?sslmode=disable", False),
      ("?sslmode=prefer", True),
      ("?sslmode=require", True),
      ("?sslrootcert={}", True),
      ("?sslmode=verify-ca&sslrootcert={}", True),
      ("?sslmode=verify-full&sslrootcert={}", True),
    ],
  )
  def test_a_mode_means_what_it_means_to_libpq(self, encrypted, options, expected):
    server, certificate = encrypted
    assert is_encrypted(server, options.format(certificate)) == expected

  def test_a_name_that_the_certificate_does_not_have_is_refused(self, encrypted):
    server, certificate = encrypted
    options = f"sslrootcert={certificate}"
    assert is_encrypted(server, f"?{options}", host="127.0.0.1")
    with pytest.raises(UserError, match=r"cannot be opened: .*certificate verify failed"):
      is_encrypted(server, f"?sslmode=verify-full&{options}", host="127.0.0.1")

  def test_tls_of_another_machine_is_verified_unless_the_address_says_otherwise(self, encrypted):
    # Not seen to be this machine, which it is.
    elsewhere = "2130706433"
    with pytest.raises(
      UserError, match=r"cannot be opened: .*certificate verify failed.*\?sslrootcert=FILE"
    ):
      is_encrypted(encrypted[0], "", host=elsewhere)
    assert is_encrypted(encrypted[0], "?sslmode=require", host=elsewhere)
    assert is_encrypted(encrypted[0], f"?sslrootcert={encrypted[1]}", host=elsewhere)

  def test_a_server_of_another_machine_may_have_no_tls(self, postgres):
    assert not is_encrypted(postgres, "", host="2130706433")
    with pytest.raises(UserError, match="cannot be opened: Server refuses SSL"):
      is_encrypted(postgres, "?sslmode=verify-full", host="2130706433")

  def test_an_unknown_issuer_is_refused(self, encrypted):
    with pytest.raises(UserError, match=r"cannot be opened: .*certificate verify failed"):
      is_encrypted(encrypted[0], "?sslmode=verify-ca")

  def test_root_certificates_are_used_when_encryption_alone_is_required(self, encrypted):
    options = f"?sslmode=require&sslrootcert={certifi.where()}"
    with pytest.raises(UserError, match=r"cannot be opened: .*certificate verify failed"):
      is_encrypted(encrypted[0], options)

  def test_a_file_without_certificates_is_named(self, encrypted, tmp_path):
    with pytest.raises(
      UserError, match=r"sslrootcert: no certificates can be read from .*root\.crt"
    ):
      is_encrypted(encrypted[0], f"?sslmode=verify-ca&sslrootcert={tmp_path}/root.crt")
    (tmp_path / "root.crt").write_text("no certificate")
    with pytest.raises(
      UserError, match=r"sslrootcert: no certificates can be read from .*root\.crt"
    ):
      is_encrypted(encrypted[0], f"?sslmode=verify-ca&sslrootcert={tmp_path}/root.crt")
