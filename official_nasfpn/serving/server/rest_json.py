"""TensorFlow Serving's JSON: requests to arrays, arrays to answers, errors. No TensorFlow.

https://www.tensorflow.org/tfx/serving/api_rest. Texts of errors are those of TensorFlow Serving
(`json_tensor.cc`), shortened where it would repeat a whole request.
"""

import base64
import binascii
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from official_nasfpn.json_text import parse_json

# TensorFlow's codes, by their numbers.
CODES = (
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
)
HTTP_STATUS = {
  "INVALID_ARGUMENT": 400,
  "FAILED_PRECONDITION": 400,
  "OUT_OF_RANGE": 400,
  "UNAUTHENTICATED": 401,
  "PERMISSION_DENIED": 403,
  "NOT_FOUND": 404,
  "ALREADY_EXISTS": 409,
  "ABORTED": 409,
  "RESOURCE_EXHAUSTED": 429,
  "CANCELLED": 499,
  "UNIMPLEMENTED": 501,
  "UNAVAILABLE": 503,
  "DEADLINE_EXCEEDED": 504,
}
_LONGEST_VALUE = 100
_MOST_DIMENSIONS = 32


class ModelError(Exception):
  """An error that a request is answered with.

  Attributes:
    code: one of `CODES`.
    text: what is wrong.
  """

  def __init__(self, code: str, text: str):
    super().__init__(f"{code}: {text}")
    self.code = code
    self.text = text

  @property
  def http_status(self) -> int:
    """The status of HTTP that TensorFlow Serving gives such an error."""
    return HTTP_STATUS.get(self.code, 500)


@dataclass(frozen=True)
class InputSpec:
  """An input of a signature.

  Attributes:
    dtype: NumPy's; `object` for strings.
    shape: None where any size is accepted; None as a whole where any rank is.
  """

  dtype: np.dtype
  shape: tuple[int | None, ...] | None


def parse_body(body: bytes) -> dict[str, Any]:
  """Returns the JSON object that a request holds.

  Raises:
    ModelError: it holds none.
  """
  if not body:
    raise _invalid("JSON Parse error: The document is empty")
  try:
    content = parse_json(body)
  except json.JSONDecodeError as error:
    raise _invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
  except ValueError as error:
    # Not UTF-8, a number of thousands of digits, lists within thousands of lists.
    raise _invalid(f"JSON Parse error: {str(error)[:_LONGEST_VALUE]}") from error
  if not isinstance(content, dict):
    raise _invalid(f"JSON Value: {_shown(content)} Is not object")
  return content


def signature_name(content: Mapping[str, Any]) -> str:
  """Returns the name of the signature that a request asks for.

  Raises:
    ModelError: the name is not a string.
  """
  name = content.get("signature_name", "")
  if not isinstance(name, str):
    raise _invalid(
      f"JSON Value: {_shown(name)} not formatted correctly. 'signature_name' key must be a string "
      "value."
    )
  return name or "serving_default"


def read_inputs(
  content: Mapping[str, Any], specs: Mapping[str, InputSpec]
) -> tuple[dict[str, np.ndarray], bool]:
  """Returns the inputs of a request, and whether it has them in rows (`instances`).

  Args:
    content: the request.
    specs: what its signature takes.

  Raises:
    ModelError: they are not what the signature takes.
  """
  if "instances" in content and "inputs" in content:
    raise _invalid("Not formatted correctly expecting only one of 'inputs' or 'instances' keys")
  if "instances" in content:
    columns = _columns(content["instances"], specs)
  elif "inputs" in content:
    columns = _by_name(content["inputs"], specs)
  else:
    raise _invalid("Missing 'inputs' or 'instances' key")
  return {name: _tensor(name, columns[name], spec) for name, spec in specs.items()}, (
    "instances" in content
  )


def write_outputs(outputs: Mapping[str, np.ndarray], in_rows: bool) -> bytes:
  """Returns the answer to a request.

  Args:
    outputs: the signature's.
    in_rows: whether the request was in rows; the answer then is, too.
  """
  columns = {name: _to_list(values) for name, values in outputs.items()}
  only = next(iter(columns.values())) if len(columns) == 1 else None
  if not in_rows:
    answer = {"outputs": columns if only is None else only}
  elif only is not None:
    answer = {"predictions": only}
  else:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    answer = {"predictions": rows}
  return json.dumps(answer, ensure_ascii=False).encode(errors="replace")


def write_error(text: str) -> bytes:
  """Returns the answer to a wrong request; escaped as in C, which is not always JSON."""
  known = {"\n": r"\n", "\r": r"\r", "\t": r"\t", '"': r"\"", "'": r"\'", "\\": r"\\"}
  escaped = "".join(
    known.get(chr(byte)) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}")
    for byte in text.encode(errors="replace")
  )
  return f'{{ "error": "{escaped}" }}'.encode()


def _columns(instances: Any, specs: Mapping[str, InputSpec]) -> dict[str, Any]:
  """Turns rows into columns."""
  if not isinstance(instances, list):
    raise _invalid("Excepting 'instances' to be an list/array")
  if not instances:
    raise _invalid("No values in 'instances' array")
  if not _is_row(instances[0]):
    if len(specs) > 1:
      raise _invalid(
        "instances is a plain list, but expecting list of objects as multiple input tensors "
        "required as per tensorinfo_map"
      )
    for index, row in enumerate(instances):
      if _is_row(row):
        raise _invalid(f"Expecting value/list but got object at item {index} of input list")
    return {next(iter(specs)): instances}
  for index, row in enumerate(instances):
    if not _is_row(row):
      raise _invalid(f"Expecting object but got list at item {index} of input list")
    if set(row) != set(specs):
      raise _invalid(
        f"Failed to process element: {index} of 'instances' list. JSON object: {_shown(row)} keys "
        f"must be equal to: {','.join(sorted(specs))}"
      )
  return {name: [row[name] for row in instances] for name in specs}


def _by_name(inputs: Any, specs: Mapping[str, InputSpec]) -> dict[str, Any]:
  if not _is_row(inputs):
    if len(specs) > 1:
      raise _invalid(
        "inputs is a plain value/list, but expecting an object as multiple input tensors required "
        "as per tensorinfo_map"
      )
    return {next(iter(specs)): inputs}
  for name in specs:
    if name not in inputs:
      raise _invalid(f"Missing named input: {name} in 'inputs' object.")
  return inputs


def _is_row(value: Any) -> bool:
  return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: Any) -> bool:
  return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _tensor(name: str, values: Any, spec: InputSpec) -> np.ndarray:
  array = _strings(values) if spec.dtype == object else _numbers(values, spec.dtype)
  fits = spec.shape is None or (
    len(spec.shape) == array.ndim
    and all(want in (None, got) for want, got in zip(spec.shape, array.shape, strict=True))
  )
  if not fits:
    wanted = ",".join("?" if size is None else str(size) for size in spec.shape)
    got = ",".join(map(str, array.shape))
    raise _invalid(f"Input {name} has the shape [{got}] where the signature takes [{wanted}]")
  return array


def _strings(values: Any) -> np.ndarray:
  def to_bytes(value: Any) -> bytes:
    if isinstance(value, str):
      return value.encode(errors="replace")
    if not _is_base64(value):
      if isinstance(value, dict):
        raise _invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
      raise _type_error(value, "string")
    try:
      return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
      raise _invalid("Unable to base64 decode") from error

  shape, flat = _flatten(values, to_bytes)
  array = np.empty(len(flat), object)
  array[:] = flat
  return array.reshape(shape)


def _numbers(values: Any, dtype: np.dtype) -> np.ndarray:
  kinds = {int, float} if dtype.kind == "f" else {int}
  shape, flat = _flat_as_far_as_even(values)
  # Numbers alone: in an array of strings each would take the memory of the longest.
  array = np.array(flat).reshape(shape) if set(map(type, flat)) <= kinds else None
  if array is None or array.dtype.kind not in ("iuf" if dtype.kind == "f" else "iu"):
    # Slower, and says which element is at fault.
    shape, flat = _flatten(values, lambda value: _number(value, dtype))
    array = np.array(flat, dtype).reshape(shape)
  if dtype.kind in "iu" and array.size:
    limits = np.iinfo(dtype)
    for extreme in (array.min(), array.max()):
      if not limits.min <= extreme <= limits.max:
        raise _type_error(int(extreme), dtype.name)
  with np.errstate(over="ignore"):
    return array.astype(dtype)


def _flat_as_far_as_even(values: Any) -> tuple[list[int], list[Any]]:
  """Returns the shape of nested lists down to where they differ in length, and what lies there."""
  shape: list[int] = []
  flat = [values]
  while len(shape) < _MOST_DIMENSIONS and set(map(type, flat)) == {list}:
    lengths = set(map(len, flat))
    if len(lengths) > 1:
      break
    shape += lengths
    flat = list(itertools.chain.from_iterable(flat))
  return shape, flat


def _number(value: Any, dtype: np.dtype) -> Any:
  kinds = (int, float) if dtype.kind == "f" else (int,)
  if isinstance(value, bool) or not isinstance(value, kinds):
    raise _type_error(value, "float" if dtype == np.float32 else dtype.name)
  try:
    np.array(value, dtype)
  except OverflowError as error:
    raise _type_error(value, dtype.name) from error
  return value


def _flatten(values: Any, convert: Callable[[Any], Any]) -> tuple[tuple[int, ...], list[Any]]:
  """Returns the shape of nested lists, by their first elements, and their converted elements."""
  shape, first = [], values
  while isinstance(first, list):
    shape.append(len(first))
    first = first[0] if first else None
  if len(shape) > _MOST_DIMENSIONS:
    raise _invalid(f"Lists lie within more than {_MOST_DIMENSIONS} others")
  flat: list[Any] = []

  def fill(value: Any, level: int) -> None:
    if not isinstance(value, list):
      if level != len(shape):
        raise _invalid(
          f"JSON Value: {_shown(value)} found at incorrect level: {level + 1} in the JSON DOM. "
          f"Expected at level: {len(shape)}"
        )
      flat.append(convert(value))
      return
    if level >= len(shape):
      raise _invalid(
        f"Encountered list at unexpected level: {level} expected < {len(shape)}",
      )
    if len(value) != shape[level]:
      raise _invalid(
        f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
        f"{shape[level]}"
      )
    for element in value:
      fill(element, level + 1)

  fill(values, 0)
  return tuple(shape), flat


def _to_list(array: np.ndarray) -> Any:
  if array.dtype == object:
    return np.vectorize(lambda text: text.decode(errors="replace"), otypes=[object])(array).tolist()
  if array.dtype.kind == "f":
    # As few digits as tell one float from another.
    return array.astype(str).astype(float).tolist()
  return array.tolist()


def _type_error(value: Any, expected: str) -> ModelError:
  kind = {str: "String", list: "Array", dict: "Object", type(None): "Null", bool: str(value)}.get(
    type(value), "Number"
  )
  return _invalid(f"JSON Value: {_shown(value)} Type: {kind} is not of expected type: {expected}")


def _shown(value: Any) -> str:
  text = json.dumps(value, ensure_ascii=False)
  return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} ..."


def _invalid(text: str) -> ModelError:
  return ModelError("INVALID_ARGUMENT", text)
