"""The sums of an export: what they notice, and who looks at them."""

import re
import shutil
import subprocess

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.serving.checksums import SUMS_FILE, check_files, sha256_of, write_checksums
from official_nasfpn.serving.detectors.detector import Detector
from official_nasfpn.serving.export.export_detector import export_detector
from official_nasfpn.serving.export_folder import find_export
from official_nasfpn.serving.server.served_model import ServedModel

MODEL = "variables/variables.data-00000-of-00001"


@pytest.fixture
def model(tmp_path):
  folder = tmp_path / "model"
  for name in ("saved_model.pb", MODEL, "assets/label_map.json", "assets/größe 1.txt"):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(name.encode() * 1000)
  write_checksums(folder)
  return folder


def test_what_is_as_it_was_written_passes(model):
  check_files(model)
  (model / "assets.extra").mkdir()
  (model / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"of a server's owner")
  (model / "README").write_text("of its user")
  check_files(model)


def test_the_sums_are_those_of_sha256sum(model):
  command = ["sha256sum", "--check", "--strict", SUMS_FILE]
  done = subprocess.run(command, cwd=model, capture_output=True, text=True, check=True)
  assert done.stdout.count(": OK") == 4
  printed = subprocess.run(["sha256sum", SUMS_FILE], cwd=model, capture_output=True, check=True)
  assert printed.stdout.decode().split()[0] == sha256_of(model / SUMS_FILE)


def change_a_bit(model):
  data = bytearray((model / MODEL).read_bytes())
  data[len(data) // 2] ^= 1
  (model / MODEL).write_bytes(data)


CHANGES = {
  "a bit": (change_a_bit, f"{MODEL} is not what was exported, by the sums in {SUMS_FILE}"),
  "an end": (
    lambda model: (model / "saved_model.pb").write_bytes(b"saved"),
    "saved_model.pb is not what was exported",
  ),
  "a file that is gone": (
    lambda model: (model / "assets/label_map.json").unlink(),
    "assets/label_map.json is missing, which SHA256SUMS lists",
  ),
  "a file in the place of a folder": (
    lambda model: (shutil.rmtree(model / "variables"), (model / "variables").touch()),
    f"{MODEL} is missing",
  ),
  "another graph": (
    lambda model: (model / "saved_model.cpb").write_bytes(b"another"),
    "saved_model.cpb is not listed in SHA256SUMS",
  ),
  "more variables": (
    lambda model: (model / "variables/more").touch(),
    "variables/more is not listed in SHA256SUMS",
  ),
  "no sums": (lambda model: (model / SUMS_FILE).write_text(""), r"größe 1\.txt is not listed"),
  "half a sum": (
    lambda model: (model / SUMS_FILE).write_bytes((model / SUMS_FILE).read_bytes()[:50]),
    r"SHA256SUMS is no list of sums, at '\w{50}'",
  ),
  "bytes": (lambda model: (model / SUMS_FILE).write_bytes(b"\xff\x00"), "cannot be read"),
  "another folder": (
    lambda model: (model / SUMS_FILE).write_text(f"{'0' * 64}  ../secret\n"),
    r"SHA256SUMS is no list of sums, at '0+  \.\./s",
  ),
  "a place": (
    lambda model: (model / SUMS_FILE).write_text(f"{'0' * 64}  /dev/zero\n"),
    "SHA256SUMS is no list of sums",
  ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_differs_is_one_sentence(model, what):
  change, problem = CHANGES[what]
  change(model)
  with pytest.raises(UserError, match=problem) as caught:
    check_files(model)
  assert re.fullmatch(r"The export \S+ is damaged: [^\n]*", str(caught.value))
  assert str(caught.value).endswith("if you have changed it yourself, delete its SHA256SUMS.")


@pytest.mark.parametrize("format_", ["saved_model", "onnx"])
def test_every_way_to_open_an_export_looks_at_them(
  export_dir, exported_file, untrained_run, tmp_path, format_
):
  source = export_dir if format_ == "saved_model" else exported_file(format_)
  copy = shutil.copytree(source, tmp_path / "copy")
  folder = find_export(copy)
  sums = folder.path / SUMS_FILE
  made = export_detector(untrained_run.path, copy, format_)
  assert (made.is_new, made.sums_sha256) == (False, sha256_of(sums))
  label_map = folder.label_map_file
  label_map.write_text(label_map.read_text().replace("ant", "ape"))
  ways = (
    lambda: Detector(copy),
    lambda: ServedModel(folder, "m"),
    lambda: export_detector(untrained_run.path, copy, format_),
  )
  for way in ways:
    with pytest.raises(UserError, match=r"label_map\.json is not what was exported"):
      way()
  # An export of a version that wrote none.
  sums.unlink()
  assert Detector(copy).label_map.name(0) == "ape"
  assert ServedModel(folder, "m").signatures
  assert export_detector(untrained_run.path, copy, format_).sums_sha256 is None
