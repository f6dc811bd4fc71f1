"""The table of export formats."""

import pytest

from official_nasfpn import installation
from official_nasfpn.errors import UserError
from official_nasfpn.serving.formats import FORMATS, PRECISIONS, find_format


@pytest.mark.parametrize("row", FORMATS.values(), ids=FORMATS)
def test_what_a_row_names_is_there(row):
  assert callable(row.load_runtime())
  for precision in row.conversions:
    assert callable(row.load_conversion(precision))
  for module in (*row.conversion_packages, *row.runtime_packages):
    assert module in installation._BROUGHT_BY


def test_an_unknown_format_is_refused_with_the_nearest():
  assert find_format("onnx") is FORMATS["onnx"]
  assert PRECISIONS == ("float32", "float16", "int8")
  message = r"^--format 'tf_lite' is no export format\. Did you mean 'tflite'\?"
  with pytest.raises(UserError, match=rf"{message} There are saved_model, onnx, tflite\.$"):
    find_format("tf_lite")
