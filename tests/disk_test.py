"""Files are written whole or not at all, and every error of a disk is one sentence."""

import errno
import os
from pathlib import Path

import pytest
import sqlalchemy as sa
import tensorflow as tf

from official_nasfpn.disk import (
  check_picture_path,
  disk_errors,
  disk_problem,
  end_of_log,
  write_text,
)
from official_nasfpn.errors import UserError


def test_a_file_that_could_not_be_written_leaves_the_old_one(tmp_path, no_file_above):
  file = tmp_path / "new" / "a.txt"
  write_text(file, "old")
  no_file_above(1000)
  with pytest.raises(OSError, match="File too large"):
    write_text(file, "n" * 2000)
  assert [(path.name, path.read_text()) for path in file.parent.iterdir()] == [("a.txt", "old")]


def test_a_picture_has_a_format_and_a_place(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  check_picture_path("--figure", "a.PNG")
  check_picture_path("--figure", str(tmp_path / "a.b.svg"))
  (tmp_path / "folder.png").mkdir()
  for path, said in (
    ("a.jpg", r"--figure a\.jpg: an image ends in \.png, \.svg, \.pdf\."),
    ("a", "an image ends in"),
    ("no/a.png", r"--figure no/a\.png: there is no folder no\."),
    ("folder.png", "is a folder"),
  ):
    with pytest.raises(UserError, match=said):
      check_picture_path("--figure", path)
  check_picture_path("--preview", "a.jpg", (".jpg",))


def _write_too_much_with_tensorflow(folder: Path) -> None:
  with tf.io.TFRecordWriter(str(folder / "records")) as writer:
    writer.write(bytes(100_000))
    writer.flush()


def _write_too_much_with_sqlite(folder: Path) -> None:
  engine = sa.create_engine(f"sqlite:///{folder / 'a.db'}")
  try:
    with engine.begin() as connection:
      connection.execute(sa.text("create table t (x)"))
      connection.execute(sa.text("insert into t values (:x)"), {"x": "x" * 100_000})
  finally:
    engine.dispose()


def _write_too_much_with_python(folder: Path) -> None:
  (folder / "a.txt").write_text("x" * 100_000)


@pytest.mark.parametrize(
  "write",
  [
    _write_too_much_with_python,
    _write_too_much_with_sqlite,
    _write_too_much_with_tensorflow,
  ],
)
def test_every_library_s_word_for_a_full_disk_is_understood(write, tmp_path, no_file_above):
  no_file_above(20_000)
  with (
    pytest.raises(UserError, match=r"cannot be written: .*\. Make room\."),
    disk_errors(tmp_path, "Make room."),
  ):
    write(tmp_path)


def test_other_errors_are_nobody_s_disk():
  assert disk_problem(OSError(errno.ENOENT, "no such file")) is None
  assert disk_problem(ValueError("shapes differ")) is None
  assert disk_problem(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.txt"))
  with pytest.raises(ValueError, match="shapes differ"), disk_errors(Path("a"), "Make room."):
    raise ValueError("shapes differ")


def test_text_that_was_to_be_stored_is_not_taken_for_the_disk_s():
  engine = sa.create_engine("sqlite://")
  with pytest.raises(sa.exc.OperationalError) as caught, engine.begin() as connection:
    connection.execute(sa.text("insert into t values (:x)"), {"x": "No space left on device"})
  assert "No space left" in str(caught.value)
  assert disk_problem(caught.value) is None
  engine.dispose()


def test_text_that_no_file_holds_is_one_sentence(tmp_path):
  message = r"cannot be written: .*udcff.* is no text that utf-8 has\. Mend the name\."
  with pytest.raises(UserError, match=message), disk_errors(tmp_path, "Make room."):
    write_text(tmp_path / "a.txt", "a folder \udcff")


def test_the_end_of_a_log_says_if_nothing_could_be_written(tmp_path):
  log = tmp_path / "worker.log"
  log.write_text("".join(f"line {number}\n" for number in range(9)))
  assert end_of_log(log).splitlines() == [
    f"The end of {log}:",
    *(f"  line {number}" for number in range(4, 9)),
  ]
  log.write_bytes(b"")
  assert end_of_log(log).startswith(f"{log} is empty; if the disk is full, make room")
