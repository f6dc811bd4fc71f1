"""TensorFlow Serving's JSON: parsing of requests, and refusal of what is no request."""

import base64
import json
import tracemalloc

import numpy as np
import pytest

from official_nasfpn.serving.server.rest_json import (
  InputSpec,
  ModelError,
  parse_body,
  read_inputs,
  signature_name,
  write_error,
  write_outputs,
)

BYTES = {"image_bytes": InputSpec(np.dtype(object), (None,))}
WITHIN = {**BYTES, "budget_ms": InputSpec(np.dtype(np.float32), (None,))}
PIXELS = {"images": InputSpec(np.dtype(np.uint8), (None, None, None, 3))}


def b64(data):
  return {"b64": base64.b64encode(data).decode()}


def refusal(function, *arguments):
  with pytest.raises(ModelError) as error:
    function(*arguments)
  assert (error.value.code, error.value.http_status) == ("INVALID_ARGUMENT", 400)
  assert len(error.value.text) < 400
  return error.value.text


def test_rows_and_columns_are_the_same_inputs():
  rows = [{"image_bytes": b64(b"\0a"), "budget_ms": 3}, {"image_bytes": "ü", "budget_ms": 4.5}]
  columns = {"image_bytes": [b64(b"\0a"), "ü"], "budget_ms": [3, 4.5]}
  for content, in_rows in (({"instances": rows}, True), ({"inputs": columns}, False)):
    inputs, found_in_rows = read_inputs(content, WITHIN)
    assert found_in_rows is in_rows
    assert inputs["image_bytes"].tolist() == [b"\0a", "ü".encode()]
    assert inputs["budget_ms"].dtype == np.float32
    assert inputs["budget_ms"].tolist() == [3.0, 4.5]


def test_a_single_input_needs_no_name():
  for content in ({"instances": [b64(b"x")]}, {"inputs": [b64(b"x")]}):
    inputs, _ = read_inputs(content, BYTES)
    assert inputs["image_bytes"].tolist() == [b"x"]
  pixels = np.arange(24).reshape(1, 2, 4, 3).tolist()
  inputs, _ = read_inputs({"instances": pixels}, PIXELS)
  assert inputs["images"].dtype == np.uint8
  assert inputs["images"].tolist() == pixels


def test_numbers_of_javascript_are_read():
  spec = {"x": InputSpec(np.dtype(np.float32), None)}
  content = parse_body(b'{"inputs": [NaN, Infinity, -Infinity, 1e300, 7]}')
  inputs, _ = read_inputs(content, spec)
  np.testing.assert_array_equal(inputs["x"], [np.nan, np.inf, -np.inf, np.inf, 7])


@pytest.mark.parametrize(
  ("body", "message"),
  [
    (b"", "JSON Parse error: The document is empty"),
    (b"{", "JSON Parse error: "),
    (b'{"a": 1} 2', "at offset: 9"),
    (b"\xff\xfe\xfa", "JSON Parse error: "),
    (b"[" * 100_000, "JSON Parse error: "),
    (b"1" * 10_000, "JSON Parse error: "),
    (b"[1, 2]", "JSON Value: [1, 2] Is not object"),
    (b"null", "JSON Value: null Is not object"),
  ],
)
def test_what_is_no_json_object_is_refused(body, message):
  assert message in refusal(parse_body, body)


@pytest.mark.parametrize(
  ("content", "specs", "message"),
  [
    ({}, BYTES, "Missing 'inputs' or 'instances' key"),
    ({"inputs": [], "instances": []}, BYTES, "only one of 'inputs' or 'instances'"),
    ({"instances": {}}, BYTES, "'instances' to be an list"),
    ({"instances": []}, BYTES, "No values in 'instances' array"),
    ({"instances": [1]}, BYTES, "JSON Value: 1 Type: Number is not of expected type: string"),
    ({"instances": [None]}, BYTES, "Type: Null is not of expected type: string"),
    ({"instances": [{"b64": "!"}]}, BYTES, "Unable to base64 decode"),
    ({"instances": ["a", ["b"]]}, BYTES, "unexpected level: 1 expected < 1"),
    ({"instances": [["a"], "b"]}, BYTES, "found at incorrect level: 2"),
    ({"instances": [["a"], ["b", "c"]]}, BYTES, "unexpected size: 2 at level: 1 expected size: 1"),
    ({"instances": [["a"], ["b"]]}, BYTES, "has the shape [2,1] where the signature takes [?]"),
    ({"inputs": "a"}, BYTES, "has the shape [] where the signature takes [?]"),
    ({"instances": ["a"]}, WITHIN, "expecting list of objects"),
    ({"instances": [{"image_bytes": "a"}]}, WITHIN, "keys must be equal to: budget_ms,image_bytes"),
    ({"instances": [{"image_bytes": "a"}, "b"]}, BYTES, "got list at item 1"),
    ({"instances": ["b", {"image_bytes": "a"}]}, BYTES, "got object at item 1"),
    ({"inputs": ["a"]}, WITHIN, "expecting an object as multiple"),
    ({"inputs": {"image_bytes": ["a"]}}, WITHIN, "Missing named input: budget_ms"),
    ({"inputs": {"image_bytes": {"x": 1}}}, BYTES, "not formatted correctly for base64 data"),
    ({"inputs": {"image_bytes": ["a"], "budget_ms": ["3"]}}, WITHIN, "expected type: float"),
    ({"inputs": {"image_bytes": ["a"], "budget_ms": [True]}}, WITHIN, "Type: True is not"),
    ({"inputs": [[[[0, 1, 256]]]]}, PIXELS, "JSON Value: 256 Type: Number is not of expected type"),
    ({"inputs": [[[[0, 1, -1]]]]}, PIXELS, "JSON Value: -1"),
    ({"inputs": [[[[0, 1, 2**80]]]]}, PIXELS, "expected type: uint8"),
    ({"inputs": [[[[0, 1, 0.5]]]]}, PIXELS, "JSON Value: 0.5"),
    ({"inputs": [[[[0, 1, True]]]]}, PIXELS, "Type: True is not of expected type: uint8"),
    ({"inputs": [[[[0, 1]]]]}, PIXELS, "[1,1,1,2] where the signature takes [?,?,?,3]"),
    ({"inputs": [[[[0, 1, 2]], [[3, 4]]]]}, PIXELS, "unexpected size: 2 at level: 3"),
    ({"inputs": ["x" * 10_000]}, PIXELS, "x ... Type: String"),
  ],
)
def test_inputs_that_a_signature_does_not_take_are_refused(content, specs, message):
  assert message in refusal(read_inputs, content, specs)


def test_a_long_string_among_numbers_takes_no_memory_for_the_others():
  tracemalloc.start()
  try:
    for values in (["A" * 50_000] + ["b"] * 500, [[7, "A" * 50_000]] + [[7, "b"]] * 500):
      assert "Type: String is not of expected type: uint8" in refusal(
        read_inputs, {"inputs": values}, PIXELS
      )
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
  finally:
    tracemalloc.stop()


def test_a_signature_has_a_name_or_is_the_default():
  assert signature_name({}) == signature_name({"signature_name": ""}) == "serving_default"
  assert signature_name({"signature_name": "exit_1"}) == "exit_1"
  assert "'signature_name' key must be a string" in refusal(signature_name, {"signature_name": 1})


def test_answers_have_the_form_of_their_requests():
  outputs = {
    "scores": np.array([[0.2, 1.0], [np.nan, 3e-5]], np.float32),
    "labels": np.array([["ü".encode(), b"b"], [b"", b"\xff"]], object),
    "exit": np.array([1, 2], np.int32),
  }
  columns = json.loads(write_outputs(outputs, in_rows=False))["outputs"]
  assert columns["labels"] == [["ü", "b"], ["", "\ufffd"]]
  assert columns["exit"] == [1, 2]
  rows = json.loads(write_outputs(outputs, in_rows=True))["predictions"]
  assert rows[0] == {"scores": [0.2, 1.0], "labels": ["ü", "b"], "exit": 1}
  # No more digits than float32 has.
  assert b"[0.2, 1.0]" in write_outputs(outputs, in_rows=True)
  assert b"[NaN, 3e-05]" in write_outputs(outputs, in_rows=True)
  only = {"exit": outputs["exit"]}
  assert json.loads(write_outputs(only, in_rows=True)) == {"predictions": [1, 2]}
  assert json.loads(write_outputs(only, in_rows=False)) == {"outputs": [1, 2]}


def test_errors_are_escaped_as_in_c():
  text = 'It\'s "größer"\nthan \\ 3'
  assert write_error(text).decode() == (
    r'{ "error": "It' + r"\'s " + r'\"gr\303\266\303\237er\"\nthan \\ 3" }'
  )
