"""The export formats: what makes each, what runs it, and which packages that takes. No TensorFlow.

A new format is a row here, its conversions in `serving/export/` and its runtime in
`serving/detectors/`.
"""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from official_nasfpn.errors import UserError, nearest_name
from official_nasfpn.installation import require

# TensorFlow's guide asks for a hundred to some hundreds.
CALIBRATION_IMAGES = 200
_EXPORT = "official_nasfpn.serving.export"
_DETECTORS = "official_nasfpn.serving.detectors"


@dataclass(frozen=True)
class ExportFormat:
  """A row of `FORMATS`. Functions and classes are named, "module:name", to be imported when used.

  Attributes:
    name: as in `--format`.
    model_file: the file in an export's folder that tells the format.
    runtime: a class; it takes an `ExportFolder`, and is then called as `detectors.detector.Runtime`
      is.
    conversions: by precision, a function from a detector, its experiment and the number of an exit
      to the bytes of `model_file`; in int8 also from `calibration_images`, their number. Empty for
      the SavedModel, which holds every exit and has the number format of its run.
    conversion_packages: modules that the conversions import beyond the core's.
    runtime_packages: modules that the runtime imports beyond the core's.
  """

  name: str
  model_file: str
  runtime: str
  conversions: Mapping[str, str] = field(default_factory=dict)
  conversion_packages: tuple[str, ...] = ()
  runtime_packages: tuple[str, ...] = ()

  def require_conversion(self) -> None:
    """Raises a `UserError` where a package that makes such exports is not installed."""
    require(f"--format {self.name}", *self.conversion_packages)

  def require_runtime(self, what: str) -> None:
    """Raises a `UserError` where a package that runs such exports is not installed.

    Args:
      what: what the user asked for, the subject of the sentence.
    """
    require(what, *self.runtime_packages)

  def load_runtime(self) -> Callable[..., Any]:
    """Returns the class `runtime`."""
    return pkgutil.resolve_name(self.runtime)

  def load_conversion(self, precision: str) -> Callable[..., bytes]:
    """Returns the function that converts to a precision, one of `conversions`."""
    return pkgutil.resolve_name(self.conversions[precision])


FORMATS = {
  row.name: row
  for row in (
    ExportFormat(
      name="saved_model",
      model_file="saved_model.pb",
      runtime=f"{_DETECTORS}.saved_model_runtime:SavedModelRuntime",
    ),
    ExportFormat(
      name="onnx",
      model_file="model.onnx",
      runtime=f"{_DETECTORS}.onnx_runtime:OnnxRuntime",
      conversions={"float32": f"{_EXPORT}.onnx_file:to_onnx"},
      conversion_packages=("tf2onnx", "onnx"),
      runtime_packages=("onnxruntime",),
    ),
    ExportFormat(
      name="tflite",
      model_file="model.tflite",
      runtime=f"{_DETECTORS}.tflite_runtime:TfliteRuntime",
      conversions={
        "float32": f"{_EXPORT}.tflite_file:to_tflite_float32",
        "float16": f"{_EXPORT}.tflite_file:to_tflite_float16",
        "int8": f"{_EXPORT}.tflite_file:to_tflite_int8",
      },
      runtime_packages=("ai_edge_litert",),
    ),
  )
}
PRECISIONS = tuple(dict.fromkeys(p for row in FORMATS.values() for p in row.conversions))


def find_format(name: str) -> ExportFormat:
  """Returns the format of a name.

  Raises:
    UserError: there is none of that name; the nearest is named.
  """
  if name not in FORMATS:
    raise UserError(
      f"--format {name!r} is no export format. Did you mean {nearest_name(name, FORMATS)!r}? There "
      f"are {', '.join(FORMATS)}."
    )
  return FORMATS[name]
