"""An export as a model server sees it: a name, a version, and signatures called by name."""

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from official_nasfpn.data.detections import BATCH_ARRAYS
from official_nasfpn.data.image_encoding import MAX_DETECTION_PIXELS, is_misread
from official_nasfpn.data.image_headers import declared_size
from official_nasfpn.errors import UserError
from official_nasfpn.gpus import warn_of_an_unused_gpu
from official_nasfpn.serving.checksums import check_files
from official_nasfpn.serving.detectors.detector import Detector
from official_nasfpn.serving.export_folder import ExportFolder, damaged
from official_nasfpn.serving.server.rest_json import CODES, InputSpec, ModelError
from official_nasfpn.training.checkpoint_files import refuse_pattern


class ServedModel:
  """One version of one model. A request for anything else raises a `ModelError`.

  Attributes:
    name: the model's name in the URL.
    version: the export's version.
    signatures: the signatures by name, as TensorFlow describes them.
  """

  def __init__(self, export: ExportFolder, name: str):
    """Loads an export.

    Args:
      export: its folder.
      name: to serve it under.

    Raises:
      UserError: it is damaged or differs from its sums, or its runtime is not installed.
    """
    self.name = name
    self.version = export.version
    is_saved_model = export.format.name == "saved_model"
    if is_saved_model:  # A `Detector` does the same by itself.
      check_files(export.path)
      warn_of_an_unused_gpu()
    self._model = _SavedModelSession(export.path) if is_saved_model else _FileModel(export.path)
    self.signatures: Mapping[str, SignatureDef] = self._model.signatures
    # One request at a time keeps within the memory and the processors of one.
    self._lock = threading.Lock()

  def find(self, name: str, version: int | None) -> None:
    """Does nothing if a name and a version (None: the newest) are those of this model."""
    if name != self.name or version not in (None, self.version):
      asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
      raise ModelError("NOT_FOUND", f"Servable not found for request: {asked}")

  def status(self, name: str, version: int | None) -> dict[str, Any]:
    """Returns TensorFlow Serving's answer about the state of a model."""
    if name != self.name:
      raise ModelError("NOT_FOUND", f"Could not find any versions of model {name}")
    if version not in (None, self.version):
      raise ModelError("NOT_FOUND", f"Could not find version {version} of model {name}")
    status = {"error_code": "OK", "error_message": ""}
    row = {"version": str(self.version), "state": "AVAILABLE", "status": status}
    return {"model_version_status": [row]}

  def metadata(self, name: str, version: int | None) -> dict[str, Any]:
    """Returns TensorFlow Serving's answer about the signatures of a model."""
    self.find(name, version)
    definitions = {key: _to_json(signature) for key, signature in self.signatures.items()}
    return {
      "model_spec": {"name": name, "signature_name": "", "version": str(self.version)},
      "metadata": {"signature_def": {"signature_def": definitions}},
    }

  def inputs_of(self, name: str, version: int | None, signature_name: str) -> dict[str, InputSpec]:
    """Returns what a signature takes."""
    self.find(name, version)
    if signature_name not in self.signatures:
      text = f'Serving signature name: "{signature_name}" not found in signature def'
      raise ModelError("INVALID_ARGUMENT", text)
    inputs = self.signatures[signature_name].inputs
    return {key: _spec(info) for key, info in inputs.items()}

  def predict(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs of a signature; strings are `bytes` in arrays of objects."""
    for values in inputs.values():
      if values.dtype == object:
        _check_pixels(values)
    with self._lock:
      return self._model.run(signature_name, inputs)


class _SavedModelSession:
  """Runs a SavedModel in a session, as TensorFlow Serving does, so that errors read the same."""

  def __init__(self, path: Path):
    graph = tf.Graph()
    try:
      with graph.as_default():
        self._session = tf.compat.v1.Session(graph=graph)
        meta = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
    # A damaged file raises errors of TensorFlow, protobuf or Python.
    except Exception as error:
      refuse_pattern(path, "The SavedModel")
      reason = str(error).strip().split("\n")[0]
      raise damaged(path, reason.rstrip(".")) from error
    self.signatures = {
      name: signature
      for name, signature in meta.signature_def.items()
      if not name.startswith("__saved_model")
    }

  def run(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    signature = self.signatures[signature_name]
    try:
      return self._session.run(
        {name: info.name for name, info in signature.outputs.items()},
        {signature.inputs[name].name: values for name, values in inputs.items()},
      )
    except tf.errors.OpError as error:
      # Python's session rewrites TensorFlow's message; a server passes on the original.
      said = error.__context__ if isinstance(error.__context__, tf.errors.OpError) else error
      raise ModelError(CODES[said.error_code], said.message) from error
    except ValueError as error:  # A shape that does not fit.
      raise ModelError("INVALID_ARGUMENT", str(error)) from error


class _FileModel:
  """Runs an ONNX or TensorFlow Lite export behind one signature, which takes encoded images."""

  def __init__(self, path: Path):
    self._detector = Detector(path)
    signature = SignatureDef(method_name="tensorflow/serving/predict")
    signature.inputs["image_bytes"].CopyFrom(_info("image_bytes", tf.string, [None]))
    for name, spec in BATCH_ARRAYS.items():
      signature.outputs[name].CopyFrom(_info(name, tf.as_dtype(spec.dtype), spec.shape))
    self.signatures = {"serving_default": signature}

  def run(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    try:
      return self._detector(list(inputs["image_bytes"]))
    except UserError as error:
      raise ModelError("INVALID_ARGUMENT", str(error)) from error


def _check_pixels(images: np.ndarray) -> None:
  """Refuses images that would fill the memory or be read wrong, by what their headers say."""
  for position, encoded in enumerate(images.flat):
    if is_misread(encoded):
      text = f"image_bytes has a BMP with a palette at position {position}: send it as a PNG"
      raise ModelError("INVALID_ARGUMENT", text)
  # Of an image whose size cannot be told the model itself says what is wrong.
  sizes = [declared_size(encoded) or (0, 0) for encoded in images.flat]
  if sum(width * height for width, height in sizes) > MAX_DETECTION_PIXELS:
    # Not RESOURCE_EXHAUSTED: the same request would never be answered, and a part of it may be.
    raise ModelError(
      "INVALID_ARGUMENT",
      f"The images of one request have more than {MAX_DETECTION_PIXELS:,} pixels together",
    )


def _spec(info: TensorInfo) -> InputSpec:
  dtype = tf.as_dtype(info.dtype)
  shape = tf.TensorShape(info.tensor_shape)
  return InputSpec(
    np.dtype(object) if dtype == tf.string else np.dtype(dtype.as_numpy_dtype),
    None if shape.rank is None else tuple(shape.as_list()),
  )


def _info(name: str, dtype: tf.DType, shape: Sequence[int | None]) -> TensorInfo:
  return TensorInfo(
    name=f"{name}:0",
    dtype=dtype.as_datatype_enum,
    tensor_shape=tf.TensorShape(shape).as_proto(),
  )


def _to_json(signature: SignatureDef) -> dict[str, Any]:
  return json.loads(json_format.MessageToJson(signature, preserving_proto_field_name=True))
