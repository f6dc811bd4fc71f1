"""Architecture files of strangers, in gin and in JSON."""

import dataclasses
import json

from hypothesis import event, given
from hypothesis import strategies as st

from official_nasfpn.architecture import (
  CATALOG,
  PyramidSpec,
  canonical_hash,
  from_gin,
  from_json,
  to_gin,
  to_json,
)
from official_nasfpn.errors import UserError
from tests.fuzz.fuzzing import check_sentence, examples, opened_files
from tests.fuzz.mutations import mutated

SPECS = [
  *(spec for spec in CATALOG.values() if isinstance(spec, PyramidSpec)),
  dataclasses.replace(CATALOG["nas_fpn"], num_repeats=3, num_filters=64),
]
PIECES = [
  "0",
  "-1",
  "1e3",
  "3.0",
  "99",
  "9" * 400,
  "9" * 5000,
  "true",
  "None",
  "null",
  "NaN",
  "Infinity",
  "{}",
  "[]",
  "()",
  "[[0, 1], 5, 'sum']",
  "'sum'",
  '"global_pool"',
  "[" * 2000,
  "{" * 2000,
  ",",
  ":",
  "\\",
  "\0",
  "\n",
  "\ufeff",
  "\ud800",
  "PyramidSpec.cells = ()\n",
  "PyramidSpec.min_level = 7\n",
  "Detector.num_filters = 3\n",
  "Detector.architecture = @Detector()\n",
  "import os\n",
  "include '/etc/hostname'\n",
  "%macro",
  '"version": 2,',
  '"cells": null,',
  "#",
]
VALUES = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
  lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
  ),
  max_leaves=8,
)
OBJECTS = st.fixed_dictionaries(
  {"version": st.just(1)},
  optional={
    "min_level": st.integers(-2, 9) | VALUES,
    "max_level": st.integers(-2, 9) | VALUES,
    "cells": VALUES
    | st.lists(
      st.fixed_dictionaries(
        {
          "inputs": st.lists(st.integers(-1, 14), max_size=3) | VALUES,
          "level": st.integers(1, 9) | VALUES,
          "op": st.sampled_from(("sum", "global_pool", "concat")) | VALUES,
        }
      ),
      max_size=12,
    ),
  },
)


def _check(read, text):
  with opened_files() as opened:
    try:
      spec = read(text)
    except UserError as error:
      check_sentence(error)
      spec = None
  assert opened == []
  event("refused" if spec is None else "read")
  if spec is not None:
    # What is read is a pyramid in every sense.
    assert from_json(to_json(spec)) == from_gin(to_gin(spec)) == spec
    assert canonical_hash(spec)


@examples(150)
@given(mutated([to_gin(spec) for spec in SPECS], PIECES))
def test_gin(text):
  _check(from_gin, text)


@examples(150)
@given(mutated([to_json(spec) for spec in SPECS], PIECES))
def test_json(text):
  _check(from_json, text)


@examples(200)
@given(OBJECTS)
def test_objects_in_json(fields):
  _check(from_json, json.dumps(fields))
