"""The describe program: notation, formats, mistakes; tests/paper has the published numbers."""

import json
import subprocess
import sys

import pytest

from official_nasfpn import describe
from official_nasfpn.architecture import CATALOG, to_json
from official_nasfpn.errors import UserError
from official_nasfpn.modeling import DetectorConfig


@pytest.mark.parametrize("notation", ["R-18, 3 @ 64", " R-18,3@64 "])
def test_notation_of_the_paper(notation):
  assert describe.detector_config(notation, None, "256x384") == DetectorConfig(
    backbone="R-18", num_repeats=3, num_filters=64, image_size=(256, 384)
  )


def test_a_backbone_alone_is_the_fpn_baseline():
  baseline = DetectorConfig(backbone="R-50", architecture="fpn", num_repeats=1, num_filters=256)
  assert describe.detector_config("R-50", None, "640") == baseline
  assert describe.detector_config("R-50, 1 @ 256", "fpn", "640") == baseline


@pytest.mark.parametrize(
  ("model", "architecture", "image_size", "message"),
  [
    ("R-50, 7x256", None, "640", "not in the paper's notation"),
    ("", None, "640", "not in the paper's notation"),
    ("R-5, 7 @ 256", None, "640", "did you mean 'R-50'"),
    ("R-50, 0 @ 256", None, "640", "num_repeats = 0: input should be greater than 0"),
    ("R-50, 7 @ 256", None, "600", "Nearest: 512 and 640"),
    ("R-50, 7 @ 256", None, "big", "--image_size 'big'"),
    ("R-50, 7 @ 256", "nasfpn", "640", "nas_fpn"),
  ],
)
def test_mistakes(model, architecture, image_size, message):
  with pytest.raises(UserError, match=message):
    describe.detector_config(model, architecture, image_size)


def test_the_program_with_an_architecture_file(tmp_path, run_program):
  architecture = tmp_path / "mine.json"
  architecture.write_text(to_json(CATALOG["nas_fpn"]))
  finished = run_program(
    "describe",
    "--model=R-10, 2 @ 16",
    "--image_size=128",
    f"--architecture={architecture}",
    f"--diagram={tmp_path / 'pyramid.png'}",
    "--format=json",
  )
  assert finished.returncode == 0, finished.stderr
  description = json.loads(finished.stdout)
  assert description["architecture"] == "nas_fpn"
  assert description["parts"]["pyramid"]["parameters"] == 2 * 7 * (9 * 16**2 + 3 * 16)
  assert list(description["parts"]) == ["backbone", "lateral_projections", "pyramid", "heads"]
  assert (tmp_path / "pyramid.png").read_bytes().startswith(b"\x89PNG")
  assert description["diagram"] == str(tmp_path / "pyramid.png")


def test_the_program_says_what_it_has_drawn_and_needs_no_tensorflow(tmp_path):
  picture = tmp_path / "pyramid.png"
  code = (
    "import runpy, sys, atexit\n"
    "atexit.register(lambda: print('tensorflow' in sys.modules))\n"
    f"sys.argv = ['describe', '--diagram', {str(picture)!r}]\n"
    "runpy.run_module('official_nasfpn.describe', run_name='__main__')"
  )
  finished = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
  )
  table, drawn, has_tensorflow = finished.stdout.rstrip().rsplit("\n", 2)
  assert "total                     60.06 M       140.08 B" in table
  assert drawn == f"nas_fpn is drawn in {picture}"
  assert has_tensorflow == "False"


@pytest.mark.parametrize("name", ["pyramid", "folder", "nowhere/pyramid.png"])
def test_a_drawing_that_would_lie_elsewhere_is_refused(tmp_path, name):
  (tmp_path / "folder").mkdir()
  with pytest.raises(UserError, match=r"--diagram .*(an image ends in|there is no folder)"):
    describe.write_diagram(CATALOG["nas_fpn"], str(tmp_path / name))
  assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_the_table():
  size = {"parameters": 1_230_000, "multiply_adds": 4_560_000_000}
  table = describe.as_table(
    {
      "model": "R-10, 2 @ 16",
      "architecture": "fpn",
      "image_size": [128, 256],
      "num_classes": 90,
      "parts": {"lateral_projections": size},
      "total": size,
    }
  )
  assert "R-10, 2 @ 16 with fpn at 128 x 256 pixels, 90 classes" in table
  assert "lateral projections        1.23 M         4.56 B" in table


def test_a_mistake_ends_the_program_with_one_line(run_program):
  finished = run_program("describe", "--image_size=600")
  assert finished.returncode == 1
  assert finished.stderr.startswith("error: Detector: image_size (600, 600)")
  assert finished.stderr.count("\n") == 1


def test_a_recipe_beside_what_is_published_of_it(run_program):
  finished = run_program("describe", "--recipe=gin/paper/fpnlite_64.gin", "--format=json")
  assert finished.returncode == 0, finished.stderr
  (row,) = json.loads(finished.stdout)
  assert row["recipe"] == "fpnlite_64"
  assert row["published"]["parameters"] == 2.02
  assert row["parameters_difference_percent"] == pytest.approx(100 * (row["parameters"] / 2.02 - 1))


def test_a_recipe_leaves_nothing_to_other_flags(run_program):
  finished = run_program("describe", "--recipe=all", "--image_size=512")
  assert finished.returncode == 1
  assert finished.stderr == "error: --recipe says all of a model: leave --image_size out.\n"


def test_a_baseline_cannot_be_drawn(run_program):
  finished = run_program("describe", "--model=R-10, 1 @ 8", "--architecture=fpn", "--diagram=x.png")
  assert finished.returncode == 1
  assert "--architecture fpn_like" in finished.stderr
