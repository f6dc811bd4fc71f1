"""What opening a stranger's model executes, as SECURITY.md says."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.errors import UserError
from official_nasfpn.serving.detectors.detector import Detector
from tests.serving.conftest import LABELS


def test_a_saved_model_can_write_files(tmp_path):
  class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def detect(self, image_bytes):
      with tf.control_dependencies([tf.io.write_file(str(tmp_path / "written"), "by a model")]):
        return {"num_detections": tf.zeros_like(tf.strings.length(image_bytes))}

  model = Model()
  tf.saved_model.save(model, str(tmp_path / "export"), signatures={"serving_default": model.detect})
  assets = tmp_path / "export" / "assets"
  assets.mkdir(exist_ok=True)
  LABELS.save(assets / "label_map.json")
  (assets / "export.json").write_text("{}")
  detector = Detector(tmp_path / "export")
  assert not (tmp_path / "written").exists()
  detector([b"an image"])
  assert (tmp_path / "written").read_text() == "by a model"


@pytest.mark.parametrize("place", ["../secret.bin", "{}/secret.bin", "link.bin"])
def test_an_onnx_file_reads_nothing_outside_its_folder(tmp_path, place):
  onnx = pytest.importorskip("onnx")
  from onnx import TensorProto, helper

  (tmp_path / "secret.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
  folder = tmp_path / "export"
  folder.mkdir()
  (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
  LABELS.save(folder / "label_map.json")
  (folder / "export.json").write_text(json.dumps({"precision": "float32"}))
  weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
  weights.data_location = TensorProto.EXTERNAL
  for key, value in (("location", place.format(tmp_path)), ("offset", "0"), ("length", "16")):
    weights.external_data.add(key=key, value=value)
  ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("images", "y")]
  add = helper.make_node("Add", ["images", "w"], ["y"])
  graph = helper.make_graph([add], "g", [ends[0]], [ends[1]], [weights])
  model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
  (folder / "model.onnx").write_bytes(model.SerializeToString())
  assert onnx.load(folder / "model.onnx", load_external_data=False).graph.initializer
  with pytest.raises(UserError, match=r"is damaged: .*(escapes model directory|not allowed)"):
    Detector(folder)


def test_a_tflite_file_has_no_operations_of_tensorflow(exported_file, tmp_path):
  copy = shutil.copytree(exported_file("tflite"), tmp_path / "copy")
  (copy / "SHA256SUMS").unlink()
  module = tf.Module()
  target = str(tmp_path / "written")

  @tf.function(input_signature=[tf.TensorSpec([1], tf.float32, name="images")])
  def write(images):
    with tf.control_dependencies([tf.io.write_file(target, "by a model")]):
      return {"y": images + 1}

  converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [write.get_concrete_function()], module
  )
  converter.target_spec.supported_ops = [
    tf.lite.OpsSet.TFLITE_BUILTINS,
    tf.lite.OpsSet.SELECT_TF_OPS,
  ]
  (copy / "model.tflite").write_bytes(converter.convert())
  with pytest.raises(UserError, match=r"is damaged: .*TensorFlow op"):
    Detector(copy)
  assert not (tmp_path / "written").exists()
