"""What is said where a package is missing, or a Python or TensorFlow is of another version."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from official_nasfpn import errors, installation
from official_nasfpn.errors import UserError

if sys.version_info >= (3, 11):
  import tomllib
else:
  import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# These install the others, and nothing that is installed needs them.
INSTALLERS = {"pip", "setuptools-scm", "wheel"}


class Hidden:
  """A finder that knows of no such packages, whatever is installed."""

  def __init__(self, names):
    self.names = names

  def find_spec(self, name, path=None, target=None):
    if name.partition(".")[0] in self.names:
      raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return None


@pytest.fixture
def hide(monkeypatch):
  """Returns a function that hides packages for the time of a test."""

  def apply(*names):
    for module in list(sys.modules):
      if module.partition(".")[0] in names:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Hidden(names), *sys.meta_path])

  return apply


def refusal(action):
  """Returns what an action says that needs what is not there."""
  with pytest.raises(UserError) as caught:
    action()
  return str(caught.value)


def advice(what, package, extra):
  return f"{what} needs the package {package}: pip install 'official-nasfpn[{extra}]'."


class TestMissingExtras:
  @pytest.mark.parametrize("module", installation._BROUGHT_BY)
  def test_every_module_is_brought_by_the_extra_that_is_named(self, module, hide):
    hide(module)
    package, extra = installation._BROUGHT_BY[module]
    names = [canonicalize_name(Requirement(line).name) for line in EXTRAS[extra]]
    assert canonicalize_name(package) in names
    said = refusal(lambda: installation.require("This", "json", module))
    assert said == advice("This", package, extra)

  def test_a_folder_of_the_same_name_is_no_package(self, hide, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "onnx", raising=False)
    (tmp_path / "onnx").mkdir()
    assert not installation.is_installed("onnx")
    (tmp_path / "onnx" / "__init__.py").touch()
    assert installation.is_installed("onnx")

  def test_onnx_export_before_a_checkpoint_is_looked_for(self, hide, tmp_path):
    from official_nasfpn.serving import export_detector

    hide("tf2onnx")
    said = refusal(lambda: export_detector(tmp_path, tmp_path / "a", "onnx"))
    assert said == advice("--format onnx", "tf2onnx", "onnx")

  @pytest.mark.parametrize(
    ("file", "module", "package", "extra"),
    [
      ("model.onnx", "onnxruntime", "onnxruntime", "onnx"),
      ("model.tflite", "ai_edge_litert", "ai-edge-litert", "tflite"),
    ],
  )
  def test_an_export_whose_runtime_is_missing(self, hide, tmp_path, file, module, package, extra):
    from official_nasfpn.serving.detect.detection_folder import DetectionRequest
    from official_nasfpn.serving.detect.detection_run import run_detection
    from official_nasfpn.serving.detectors.detector import Detector

    export = tmp_path / "export"
    export.mkdir()
    (export / file).touch()
    hide(module)
    expected = advice(f"The export {export}", package, extra)
    assert refusal(lambda: Detector(export)) == expected
    request = DetectionRequest(export, (tmp_path / "image.jpg",))
    assert refusal(lambda: run_detection(request, tmp_path / "out")) == expected
    assert not (tmp_path / "out").exists()

  def test_videos_before_a_folder_is_claimed(self, hide, tmp_path):
    from official_nasfpn.serving.detect.detection_folder import DetectionRequest
    from official_nasfpn.serving.detect.detection_run import run_detection

    hide("cv2")
    request = DetectionRequest(tmp_path / "export", (tmp_path / "video.mp4",))
    said = refusal(lambda: run_detection(request, tmp_path / "out"))
    assert said == advice("Detecting in videos", "opencv-python-headless", "video")
    assert not (tmp_path / "out").exists()

  @pytest.mark.parametrize(
    ("url", "module", "package"),
    [
      ("http://localhost:8501/v1/models/cells", "requests", "requests"),
      ("grpc://localhost:8500/cells", "grpc", "grpcio"),
      ("grpc://localhost:8500/cells", "tensorflow_serving", "tensorflow-serving-api"),
    ],
  )
  def test_a_client(self, hide, url, module, package):
    from official_nasfpn.serving import DetectionClient

    hide(module)
    kind = "gRPC" if url.startswith("grpc") else "REST"
    said = refusal(lambda: DetectionClient(url))
    assert said.startswith(advice(f"A client over {kind}", package, "serving"))

  def test_a_store_in_postgresql(self, hide):
    from official_nasfpn.search.store.address import parse_url

    hide("pg8000")
    said = refusal(lambda: parse_url("postgresql://me@host/search"))
    assert said == advice("A trial store in PostgreSQL", "pg8000", "postgres")
    assert parse_url("sqlite:///search.db").database == "search.db"

  def test_workers_on_ray(self, hide, tmp_path):
    from official_nasfpn.search.workers.launchers import LauncherConfig, launcher_maker

    hide("ray")
    said = refusal(lambda: launcher_maker(LauncherConfig("ray"), tmp_path, ()))
    assert said == advice("--launcher ray", "ray", "ray")
    assert launcher_maker(LauncherConfig("local"), tmp_path, ())

  def test_the_layer_normalised_cell(self, hide):
    from official_nasfpn.search.algorithms.algorithms import ALGORITHMS
    from official_nasfpn.search.algorithms.ppo import PPO

    hide("tensorflow_addons")
    said = refusal(PPO(cell="layer_norm_lstm").check)
    what = "PPO.cell = 'layer_norm_lstm'"
    assert said.startswith(advice(what, "tensorflow-addons", "addons"))
    for algorithm in ALGORITHMS:
      algorithm().check()

  def test_warm_up_requests_are_left_out(self, hide, tmp_path):
    from official_nasfpn.serving.export.warm_up import write_warm_up_requests

    hide("tensorflow_serving")
    requests = {"serving_default": {"image": np.zeros(1)}}
    assert not write_warm_up_requests(tmp_path, requests)
    assert not list(tmp_path.iterdir())

  @pytest.mark.parametrize(
    ("arguments", "hidden", "said"),
    [
      (
        ["search", "--gin_file=gin/quickstart_search.gin", "--store=postgresql://me@host/a"],
        "pg8000",
        advice("A trial store in PostgreSQL", "pg8000", "postgres"),
      ),
      (
        ["export", "--model_dir=run", "--format=onnx"],
        "onnx",
        advice("--format onnx", "onnx", "onnx"),
      ),
      (
        ["export", "--model_dir=run", "--format=tflite", "--check"],
        "ai_edge_litert",
        advice("--check of --format tflite", "ai-edge-litert", "tflite"),
      ),
    ],
  )
  def test_programs_say_it_before_anything_is_made(
    self, arguments, hidden, said, shapes_data, tmp_path
  ):
    place = "search_dir" if arguments[0] == "search" else "output_dir"
    if arguments[0] == "search":
      arguments = [*arguments, f"--gin_param=Input.data_dir = {str(shapes_data)!r}"]
    result = subprocess.run(
      [
        sys.executable,
        "-c",
        f"import sys; sys.modules[{hidden!r}] = None; from official_nasfpn.cli import main; main()",
        *arguments,
        f"--{place}={tmp_path / 'new'}",
      ],
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=False,
    )
    assert (result.returncode, result.stderr) == (1, f"error: {said}\n")
    assert not (tmp_path / "new").exists()


class TestVersions:
  @pytest.mark.parametrize(
    ("version", "fits"),
    [
      *[(version, True) for version in ("2.20.0", "2.20.1", "2.20.0rc1")],
      *[(version, False) for version in ("2.19.1", "2.21.0", "2.2.0", "3.0.0", "2.200.0")],
    ],
  )
  def test_another_tensorflow_is_refused(self, version, fits, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    if fits:
      installation.check_tensorflow()
    else:
      assert refusal(installation.check_tensorflow) == (
        f"official_nasfpn needs TensorFlow 2.20, and {version} is installed: "
        "pip install 'tensorflow==2.20.*'."
      )

  def test_programs_check_it_when_they_start(self, monkeypatch, capsys):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.21.0")
    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(SystemExit) as end:
      errors.run_program(lambda argv: pytest.fail("was run"))
    assert end.value.code == 1
    assert re.fullmatch(r"error: .* 2\.21\.0 is installed.*\n", capsys.readouterr().err)

  @pytest.mark.parametrize("version", [(2, 7), (3, 9), (3, 14), (4, 0)])
  def test_another_python_is_refused_in_one_line(self, version):
    code = (
      f"import runpy, sys; sys.version_info = {version}; "
      "runpy._run_module_as_main('official_nasfpn.train')"
    )
    result = subprocess.run(
      [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    sentence = "official_nasfpn needs Python 3.10 to 3.13, and this is {}.{}.".format(*version)
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1

  def test_the_versions_of_python_are_those_of_the_project(self):
    assert PROJECT["requires-python"] == ">=3.10,<3.14"
    offered = [line for line in PROJECT["classifiers"] if "Python ::" in line]
    assert [line.rpartition(" ")[2] for line in offered] == ["3.10", "3.11", "3.12", "3.13"]

  def test_the_version_of_tensorflow_is_that_of_the_project(self):
    (range_,) = TestRanges.RANGES["tensorflow"][:1]
    assert f"{installation.TENSORFLOW}.0" in range_.specifier
    major, minor = map(int, installation.TENSORFLOW.split("."))
    assert f"{major}.{minor - 1}.9" not in range_.specifier
    assert f"{major}.{minor + 1}.0" not in range_.specifier


def requirements(lines):
  """Returns requirements by name; one package may have several, each for another Python."""
  found = {}
  for line in lines:
    if line.strip() and not line.startswith("#"):
      requirement = Requirement(line)
      found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
  return found


class TestRanges:
  PINS = requirements(
    line
    for file in ("requirements.txt", "requirements-ray.txt", "requirements-cuda.txt")
    for line in (ROOT / file).read_text().splitlines()
  )
  RANGES = requirements([*PROJECT["dependencies"], *(line for e in EXTRAS.values() for line in e)])

  def test_the_same_packages_are_named(self):
    assert self.PINS.keys() - INSTALLERS == self.RANGES.keys() - {"official-nasfpn"}

  @pytest.mark.parametrize("name", sorted(PINS.keys() - INSTALLERS))
  def test_what_is_pinned_lies_in_the_range(self, name):
    for pin in self.PINS[name]:
      (version,) = (part.version for part in pin.specifier)
      for range_ in self.RANGES[name]:
        assert range_.specifier.contains(version), (pin, range_)
        assert range_.marker is None or str(range_.marker) == str(pin.marker)

  @pytest.mark.parametrize("name", sorted(RANGES))
  def test_a_range_begins_somewhere(self, name):
    for range_ in self.RANGES[name]:
      assert name == "official-nasfpn" or any(part.operator == ">=" for part in range_.specifier)

  def test_the_extras_are_those_that_are_documented(self):
    assert set(EXTRAS) == {
      *("serving", "onnx", "tflite", "ray", "postgres", "video", "cuda", "addons", "dev"),
      "benchmark",
    }
