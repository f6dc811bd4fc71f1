"""Foreign programs run an export and detect the same: to 1 pixel, scores to 1e-3."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from official_nasfpn.data.preprocessing import fit_pixels
from official_nasfpn.serving.detectors.detector import Detector
from official_nasfpn.serving.export.export_detector import export_detector
from official_nasfpn.training.experiment import open_dataset
from tests.program_process import ProgramProcess
from tests.serving.agreement import assert_same_detections, of_image

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["R-10", "NAS-FPNLite"])
def trained(request):
  """Returns the name of a trained detector."""
  return request.param


@pytest.fixture(scope="module")
def export(trained, trained_run, made_once):
  run = trained_run(trained)
  return made_once(
    f"trained_{trained}_export", lambda path: export_detector(run.path, path / "model")
  ) / ("model/1")


@pytest.fixture(scope="module")
def images(trained, trained_run):
  """Returns images of the training, as files and as uint8 [height, width, 3]."""
  _, dataset = open_dataset(trained_run(trained).load()[0])
  files = sorted(dataset.images_dir("val").iterdir())[:4]
  return files, [tf.io.decode_image(file.read_bytes(), channels=3).numpy() for file in files]


@pytest.fixture(scope="module")
def expected(export, images):
  """Returns the detections of our own code in each of them."""
  files, _ = images
  outputs = Detector(export)([file.read_bytes() for file in files])
  return [of_image(outputs, index) for index in range(len(files))]


def tensor_names(export, signature):
  """Returns the graph's names for the inputs and outputs of a signature."""
  (graph,) = SavedModel.FromString((export / "saved_model.pb").read_bytes()).meta_graphs
  definition = graph.signature_def[signature]
  return {
    name: info.name for name, info in (*definition.inputs.items(), *definition.outputs.items())
  }


class TestSavedModelCli:
  def run(self, export, signature, name, values, folder):
    np.save(folder / "input.npy", values)
    # What the command `saved_model_cli` runs.
    program = ProgramProcess(
      "tensorflow.python.tools.saved_model_cli",
      [
        *("run", "--dir", export, "--tag_set", "serve", "--signature_def", signature),
        *("--inputs", f"{name}={folder / 'input.npy'}", "--outdir", folder / "out"),
      ],
    )
    assert program.wait(200) == 0, program.stderr
    names = ("boxes", "scores", "classes", "num_detections")
    return {name: np.load(folder / "out" / f"{name}.npy") for name in names}

  def test_bytes(self, export, images, expected, tmp_path):
    files, _ = images
    encoded = np.array([file.read_bytes() for file in files])
    assert encoded.dtype.kind == "S"
    found = self.run(export, "serving_default", "image_bytes", encoded, tmp_path)
    for index, ours in enumerate(expected):
      assert_same_detections(of_image(found, index), ours)

  def test_tensors(self, export, images, expected, tmp_path):
    _, pixels = images
    found = self.run(export, "image_tensors", "images", pixels[0][np.newaxis], tmp_path)
    assert_same_detections(of_image(found, 0), expected[0])


@pytest.fixture(scope="module")
def program_in_c(tmp_path_factory):
  if not (compiler := shutil.which("gcc") or shutil.which("cc")):
    pytest.skip("there is no C compiler")
  libraries = Path(tf.sysconfig.get_lib())
  program = tmp_path_factory.mktemp("c") / "detect"
  command = [compiler, Path(__file__).with_name("detect.c"), "-O1", "-Wall", "-o", program]
  command += ["-isystem", tf.sysconfig.get_include(), f"-L{libraries}", f"-Wl,-rpath,{libraries}"]
  command += ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
  if shutil.which("ld.gold"):
    # The usual linker takes ten seconds to read TensorFlow's symbols.
    command.append("-fuse-ld=gold")
  process = subprocess.run(command, capture_output=True, text=True, check=False)
  assert (process.returncode, process.stderr) == (0, "")
  return program


class TestProgramInC:
  def run(self, program, export, kind, signature, name, files):
    names = tensor_names(export, signature)
    outputs = [names[output] for output in ("boxes", "scores", "classes", "num_detections")]
    process = subprocess.run(
      [program, export, kind, names[name], *outputs, *files],
      capture_output=True,
      text=True,
      check=False,
      timeout=200,
    )
    assert process.returncode == 0, process.stderr
    rows = np.array([line.split() for line in process.stdout.splitlines()], np.float64)
    by_image = [rows[rows[:, 0] == index] for index in range(len(files))]
    return [{"classes": of[:, 1], "scores": of[:, 2], "boxes": of[:, 3:]} for of in by_image]

  def test_bytes(self, program_in_c, export, images, expected):
    files, _ = images
    found = self.run(program_in_c, export, "bytes", "serving_default", "image_bytes", files)
    for theirs, ours in zip(found, expected, strict=True):
      assert_same_detections(theirs, ours)

  def test_tensors(self, program_in_c, export, images, expected, tmp_path):
    _, pixels = images
    file = tmp_path / "image.ppm"
    height, width, _ = pixels[0].shape
    file.write_bytes(b"P6 %d %d 255\n" % (width, height) + pixels[0].tobytes())
    (found,) = self.run(program_in_c, export, "pixels", "image_tensors", "images", [file])
    assert_same_detections(found, expected[0])


def test_onnx_runtime_with_nms(trained, trained_file, images, expected):
  onnxruntime = pytest.importorskip("onnxruntime")
  path = trained_file(trained, "onnx")
  session = onnxruntime.InferenceSession(path / "model.onnx")
  names = [output.name for output in session.get_outputs()]
  for image, ours in zip(images[1], expected, strict=True):
    # The same image twice: the batch size is free.
    found = dict(zip(names, session.run(names, {"images": np.stack([image, image])}), strict=True))
    assert_same_detections(of_image(found, 0), ours)
    assert_same_detections(of_image(found, 1), ours)


def test_openvino_without_nms(export, images, tmp_path, monkeypatch):
  # It reports conversions to its makers unless a file in the user's home declines.
  (tmp_path / "intel").mkdir()
  (tmp_path / "intel" / "openvino_telemetry").write_text("0")
  monkeypatch.setenv("HOME", str(tmp_path))
  openvino = pytest.importorskip("openvino")
  saved_model = tf.saved_model.load(str(export))
  signature = saved_model.signatures["without_nms"]
  _, inputs = signature.structured_input_signature
  size = tuple(inputs["images"].shape[1:3])
  fitted = np.stack([fit_pixels(tf.constant(image), size)[0] for image in images[1]])
  model = openvino.convert_model(signature)
  # By default it uses bfloat16 on processors that have it.
  precise = {"INFERENCE_PRECISION_HINT": "f32"}
  found = openvino.Core().compile_model(model, "CPU", precise)({"images": fitted})
  expected = signature(images=tf.constant(fitted))
  assert np.ptp(expected["scores"]) > 0.3
  np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-3)
  np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1.0)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_litert_with_nms(trained, trained_file, images, expected, precision):
  interpreter = pytest.importorskip("ai_edge_litert.interpreter")
  path = trained_file(trained, "tflite", precision)
  run = interpreter.Interpreter(str(path / "model.tflite")).get_signature_runner()
  size = tuple(run.get_input_details()["images"]["shape"][1:3].tolist())
  for image, ours in zip(images[1], expected, strict=True):
    fitted, scaled = fit_pixels(tf.constant(image), size)
    outputs = run(images=fitted[tf.newaxis].numpy(), sizes=scaled[tf.newaxis].numpy())
    found = of_image(outputs, 0)
    found["boxes"] = found["boxes"] * np.tile(image.shape[:2] / scaled.numpy(), 2)
    if precision == "float16":
      # With rounded weights only strong detections must be the same.
      assert_same_strong_detections(found, ours)
    else:
      assert_same_detections(found, ours)


def assert_same_strong_detections(found, expected):
  strong = expected["scores"] > max(0.1, 0.7 * expected["scores"].max())
  assert strong.any()
  for box, class_ in zip(expected["boxes"][strong], expected["classes"][strong], strict=True):
    same = found["boxes"][found["classes"] == class_]
    assert np.abs(same - box).max(axis=1).min() <= 1.0
