"""gin and JSON: round trips, and that a stranger's file is read as data."""

import dataclasses
import json
import os
import random
import sys

import pytest

from official_nasfpn import configuration
from official_nasfpn.architecture import (
  CATALOG,
  PyramidSpec,
  SearchSpace,
  from_gin,
  from_json,
  resolve_architecture,
  to_gin,
  to_json,
)
from official_nasfpn.errors import UserError

NAS_FPN = CATALOG["nas_fpn"]


@pytest.mark.parametrize(("write", "read"), [(to_gin, from_gin), (to_json, from_json)])
@pytest.mark.parametrize(
  "space",
  [
    SearchSpace(),
    SearchSpace(3, 6, 11),
    SearchSpace(2, 3, 0),
    SearchSpace(num_repeats=(1, 12), num_filters=(8, 4096)),
    SearchSpace(num_filters=(8, 24)),
    SearchSpace(num_repeats=(2,)),
  ],
)
def test_every_pyramid_goes_round(write, read, space):
  rng = random.Random(0)
  for _ in range(20):
    spec = space.sample(rng)
    assert read(write(spec)) == spec


def test_gin_text_can_be_read_by_a_person():
  lines = to_gin(CATALOG["fpn_like"]).splitlines()
  assert lines[0] == "Detector.architecture = @PyramidSpec()"
  assert lines[2:4] == ["PyramidSpec.min_level = 3", "PyramidSpec.max_level = 7"]
  assert lines[4] == "PyramidSpec.cells = (((3, 4), 7, 'sum'),"
  assert len(lines) == 9


def test_gin_text_is_what_a_training_takes():
  configuration.parse((), ["\n".join(to_gin(NAS_FPN).splitlines()[1:])])
  assert configuration.from_bindings(PyramidSpec) == NAS_FPN


def test_sizes_are_written_where_there_are_any():
  sized = dataclasses.replace(NAS_FPN, num_repeats=3, num_filters=64)
  lines = ["PyramidSpec.num_repeats = 3", "PyramidSpec.num_filters = 64"]
  assert to_gin(sized) == to_gin(NAS_FPN) + "\n".join(lines) + "\n"
  assert from_gin("\n".join([lines[1], to_gin(NAS_FPN), lines[0]])) == sized
  assert list(json.loads(to_json(sized)))[3:5] == ["num_repeats", "num_filters"]


@pytest.mark.parametrize("size", ["0", "-1", "3.0", "True", "10000", "1" + 400 * "0", "'3'"])
def test_a_size_that_is_none_is_refused(size):
  for name in ("num_repeats", "num_filters"):
    with pytest.raises(UserError, match=f"x.gin: {name} must be an int from 1 to 9999, or None"):
      from_gin(f"{to_gin(NAS_FPN)}PyramidSpec.{name} = {size}\n", "x.gin")


def test_gin_by_hand_with_a_block_a_comment_and_the_reference_name():
  text = """
# Two levels.
PyramidSpec:
  min_level = 3
  max_level = 4
  cells = [([0, 1], 3, "attention"), ([1, 0], 4, "sum")]
"""
  assert from_gin(text) == PyramidSpec(3, 4, (((0, 1), 3, "global_pool"), ((1, 0), 4, "sum")))


def test_json_says_its_version_and_names_its_fields():
  fields = json.loads(to_json(NAS_FPN))
  assert list(fields) == ["version", "min_level", "max_level", "cells"]
  assert fields["version"] == 1
  assert fields["cells"][0] == {"inputs": [1, 3], "level": 4, "op": "global_pool"}


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("import this", "only binds values, found 'import this'"),
    ("from os import path", "only binds values, found 'from os import path'"),
    ("include 'other.gin'", "only binds values"),
    ("Detector.num_filters = 3", "only, found Detector.num_filters"),
    ("Detector.architecture = 'fpn'", "only, found Detector.architecture"),
    ("Detector.architecture = @PyramidSpec", "only, found Detector.architecture"),
    ("Detector.architecture = @os.system()", "only, found Detector.architecture"),
    ("a/PyramidSpec.min_level = 3", "only, found a/PyramidSpec.min_level"),
    ("x = 3", r"only, found x\.$"),
    (
      "PyramidSpec.cell = 3",
      "has min_level, max_level, cells, num_repeats, num_filters, not 'cell'",
    ),
    ("PyramidSpec.cells = %cells", "the macro %cells has no place"),
    ("PyramidSpec.cells = @cells()", "cells must be a sequence"),
    ("PyramidSpec.cells = (1,", "gin cannot parse it: .*EOF in multi-line statement"),
    ("PyramidSpec.cells = __import__('os')", "gin cannot parse it"),
    ("PyramidSpec.cells = ((1, 1), 3, 'sum'),", "gin cannot parse it: Expected newline"),
    ("PyramidSpec.cells = " + "(" * 9000, "nested too deeply|too many nested"),
    ("PyramidSpec.cells = " + "[" * 9000, "nested too deeply|too many nested"),
    ("#" * 70_000, "more than 65,536 bytes"),
    ("\tinclude \\\n'other.gin'", "only binds values"),
    ("PyramidSpec.cells = (include 'other.gin',)", "A value is not a literal"),
    ("PyramidSpec.cells = 'include 1'", "cells must be a sequence"),
    ("", "0 cells are too few"),
  ],
)
def test_gin_with_anything_else_is_refused(text, message):
  with pytest.raises(UserError, match=message) as error:
    from_gin(text, "some.gin")
  assert str(error.value).startswith("some.gin: ")


def test_reading_gin_neither_imports_nor_binds(tmp_path, monkeypatch):
  (tmp_path / "payload.py").write_text("raise SystemExit('ran')")
  monkeypatch.syspath_prepend(tmp_path)
  configuration.parse()
  with pytest.raises(UserError):
    from_gin("import payload")
  with pytest.raises(UserError):
    from_gin("PyramidSpec.cells = @payload.run()")
  from_gin(to_gin(NAS_FPN))
  assert "payload" not in sys.modules
  with pytest.raises(UserError, match="0 cells"):
    configuration.from_bindings(PyramidSpec)  # nothing is bound


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("{", "some.json is not JSON"),
    ("[]", "expected a JSON object"),
    ("[" * 60_000, "is not JSON: lists or objects are nested too deeply"),
    ('{"version": ' + "1" * 5000 + "}", "is not JSON: a number has [0-9,]+ digits"),
    ('{"min_level": 3}', "has version None; this program reads 1"),
    ('{"version": 2}', "has version 2"),
    (
      '{"version": 1, "levels": 3}',
      "has min_level, max_level, cells, num_repeats, num_filters, not 'levels'",
    ),
    ('{"version": 1, "cells": [[[0, 1], 3, "sum"]]}', "cell 0 must have inputs, level and op"),
    ('{"version": 1, "cells": [{"inputs": [0, 1]}]}', "cell 0 must have inputs, level and op"),
    ('{"version": 1, "cells": 3}', "cells must be a sequence"),
    ('{"version": 1}', "0 cells are too few"),
  ],
)
def test_json_of_anything_else_is_refused(text, message):
  with pytest.raises(UserError, match=message):
    from_json(text, "some.json")


@pytest.mark.parametrize("read", [from_gin, from_json])
def test_a_broken_rule_names_the_file_and_the_cell(read):
  write = {from_gin: to_gin, from_json: to_json}[read]
  text = write(NAS_FPN).replace("(1, 3)", "(3, 3)").replace("[1, 3]", "[3, 3]")
  with pytest.raises(UserError, match=r"^trial: cell 0 \(intermediate\): the two inputs must diff"):
    read(text, "trial")


def test_a_setting_is_a_name_a_file_or_a_pyramid(tmp_path):
  gin_file = tmp_path / "architecture.gin"
  json_file = tmp_path / "architecture.json"
  gin_file.write_text(to_gin(NAS_FPN))
  json_file.write_text(to_json(NAS_FPN))
  for value in ("nas_fpn", NAS_FPN, gin_file, str(gin_file), json_file):
    assert resolve_architecture(value) == NAS_FPN


def test_a_setting_that_leads_nowhere_is_refused(tmp_path):
  with pytest.raises(UserError, match="Did you mean nas_fpn"):
    resolve_architecture("nas-fpn")
  with pytest.raises(UserError, match=r"no architecture file .*missing\.gin"):
    resolve_architecture(tmp_path / "missing.gin")
  for name in ("a" * 300, "a" * 300 + ".gin"):
    with pytest.raises(UserError, match=f"{name} cannot be read: File name too long"):
      resolve_architecture(name)
  with pytest.raises(UserError, match=r"ends in \.gin or \.json"):
    resolve_architecture("trials/000001/architecture.yaml")
  (tmp_path / "folder.gin").mkdir()
  with pytest.raises(UserError, match="cannot be read"):
    resolve_architecture(tmp_path / "folder.gin")
  os.mkfifo(tmp_path / "pipe.gin")
  with pytest.raises(UserError, match="cannot be read: it is not a file"):
    resolve_architecture(tmp_path / "pipe.gin")
  (tmp_path / "device.json").symlink_to("/dev/zero")
  with pytest.raises(UserError, match="cannot be read: it is not a file"):
    resolve_architecture(tmp_path / "device.json")
  (tmp_path / "large.json").write_text(" " * 70_000)
  with pytest.raises(UserError, match="more than 65,536 bytes"):
    resolve_architecture(tmp_path / "large.json")
  (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
  with pytest.raises(UserError, match="cannot be read"):
    resolve_architecture(tmp_path / "binary.json")
