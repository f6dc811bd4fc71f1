"""Addresses of databases, whose passwords are never shown."""

from pathlib import Path

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.search import storage
from official_nasfpn.search.store.address import parse_url, without_password
from official_nasfpn.search.store.trial_store import TrialStore


@pytest.mark.parametrize(
  ("url", "driver"),
  [
    (Path("/data/search.db"), "sqlite"),
    ("sqlite:////data/search.db", "sqlite"),
    ("postgresql://me@host:5433/search", "postgresql+pg8000"),
    ("postgres://me@host:5433/search", "postgresql+pg8000"),
    ("postgresql+pg8000://me@host:5433/search", "postgresql+pg8000"),
  ],
)
def test_an_address_names_its_driver(url, driver):
  assert parse_url(url).drivername == driver


@pytest.mark.parametrize("url", ["mysql://me:secret@host/search", "me:secret@host"])
def test_what_is_no_address_is_refused(url):
  with pytest.raises(UserError, match="--store: ") as refusal:
    parse_url(url)
  assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
  ("options", "complaint"),
  [
    ("ssl=true", "unknown option ssl; the options are sslmode, sslrootcert"),
    ("sslmode=always", "sslmode must be one of disable, prefer, .*, not always"),
    ("sslmode=disable&sslmode=require", "sslmode is given twice"),
  ],
)
def test_an_unknown_option_is_refused(options, complaint):
  with pytest.raises(UserError, match=f"--store: {complaint}"):
    parse_url(f"postgresql://me@host/search?{options}")


def test_options_are_part_of_the_name_that_workers_get():
  name = "postgresql+pg8000://me@host/search?sslmode=require"
  assert TrialStore(name.replace("me@", "me:secret@")).name == name


def test_the_password_may_stand_in_the_environment(monkeypatch):
  monkeypatch.setenv("PGPASSWORD", "from there")
  assert parse_url("postgresql://me@host/search").password == "from there"
  assert parse_url("postgresql://me:own@host/search").password == "own"


def test_a_password_is_shown_nowhere(capsys):
  # Nothing listens on port 1.
  store = TrialStore("postgresql://me:se%40cret@127.0.0.1:1/search", outage_seconds=0.2)
  assert store.name == "postgresql+pg8000://me@127.0.0.1:1/search"
  assert store.environment == {"PGPASSWORD": "se@cret"}
  with pytest.raises(UserError, match="has not answered") as refusal:
    store.create()
  shown = str(refusal.value) + capsys.readouterr().err
  assert "127.0.0.1:1/search does not answer (Connection refused)" in shown
  assert "cret" not in shown


def test_a_search_directory_knows_its_store(tmp_path):
  storage.settle_store(tmp_path, "postgresql://me:secret@host/search")
  url = without_password(parse_url("postgresql://me:secret@host/search"))
  storage.settle_store(tmp_path, url)
  storage.settle_store(tmp_path, None)
  assert storage.store_place(tmp_path).render_as_string(hide_password=False) == url
  assert "secret" not in (tmp_path / "store.txt").read_text()
  with pytest.raises(UserError, match=r"are in .*host/search, not in .*host/other"):
    storage.settle_store(tmp_path, url.replace("search", "other"))


def test_a_search_does_not_change_its_kind_of_store(tmp_path):
  storage.database_path(tmp_path).touch()
  storage.settle_store(tmp_path, None)
  assert storage.store_place(tmp_path) == tmp_path / "search.db"
  with pytest.raises(UserError, match=r"are in its search\.db"):
    storage.settle_store(tmp_path, "postgresql+pg8000://me@host/search")
