"""Results are stamped with the commit of this code, and with nobody else's."""

import subprocess

from official_nasfpn import __version__
from official_nasfpn.reporting import code_version


def _git(folder, *arguments):
  identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
  subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


def test_only_a_clone_of_the_package_gives_its_commit(tmp_path, monkeypatch):
  _git(tmp_path, "init")
  _git(tmp_path, "commit", "--allow-empty", "-m", "thesis")
  inside = tmp_path / "venv" / "site-packages" / "official_nasfpn" / "reporting"
  at_root = tmp_path / "official_nasfpn" / "reporting"
  inside.mkdir(parents=True)
  at_root.mkdir(parents=True)
  monkeypatch.setattr(code_version, "__file__", str(inside / "code_version.py"))
  assert code_version.code_version() == __version__
  monkeypatch.setattr(code_version, "__file__", str(at_root / "code_version.py"))
  assert code_version.code_version().startswith(f"{__version__}, commit ")
