"""The programs export and detect, with a trained detector.

The AP of a SavedModel by the code of `detect` equals the AP of the evaluator.
"""

import dataclasses
import json
import shutil

import pytest

from official_nasfpn.training.number_format import number_format
from official_nasfpn.training.run_folder import RunFolder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["float32", "mixed_bfloat16"])
def trained(request, trained_detector):
  return trained_detector("R-10", request.param)


def test_ap_of_the_saved_model_is_the_evaluators(trained, tmp_path, run_program):
  folder, dataset, evaluation = trained

  export, out = tmp_path / "an export", tmp_path / "out"
  # Only the run folder is needed, wherever it is.
  moved = RunFolder(tmp_path / "moved")
  moved.path.mkdir()
  for name in ("config.gin", "label_map.json", "checkpoints"):
    (moved.path / name).symlink_to(folder.path / name)
  process = run_program("export", "--model_dir", moved.path, "--output_dir", export)
  # A recipe that asks for bfloat16 gets it, with a note where that is slow.
  warning = number_format(RunFolder(folder.path).load()[0].training.compute_dtype).warning
  expected = f"warning: {warning}\n" if warning else ""
  assert (process.returncode, process.stderr) == (0, expected)
  assert process.stdout.startswith("Exported ")

  images = tmp_path / "images"
  images.mkdir()
  for file in dataset.images_dir("val").iterdir():
    (images / file.name).symlink_to(file)
  (images / "broken.jpg").write_text("no image")
  arguments = ["--export_dir", export, "--output_dir", out, images]
  process = run_program("detect", *arguments, "--annotations", dataset.annotation_file("val"))
  assert process.returncode == 0, process.stderr
  found = json.loads((out / "evaluation.json").read_text())
  assert found["num_images"] == evaluation.num_images == dataset.num_images(["val"])
  assert found["metrics"] == pytest.approx(evaluation.metrics, abs=1e-3)
  assert found["class_ap"] == pytest.approx(evaluation.class_ap, abs=1e-3)
  assert f"AP50 {evaluation.metrics['AP50']:.3f}" in process.stdout

  # A copy of the run folder with its evaluation, since other tests read it as well.
  folder = RunFolder(shutil.copytree(folder.path, tmp_path / "run"))
  arguments = ["export", "--model_dir", folder.path, "--output_dir", export, "--check"]
  process = run_program(*arguments)
  assert process.returncode == 0, process.stderr
  assert "nothing to do" in process.stdout
  assert f"AP50 {evaluation.metrics['AP50']:.3f}" in process.stdout

  better = dataclasses.replace(evaluation, metrics={**evaluation.metrics, "AP": 0.9})
  folder.evaluation_file.write_text(better.to_json())
  process = run_program(*arguments)
  assert process.returncode == 1
  assert "evaluation.json says 0.900" in process.stderr


def test_what_is_wrong_is_said_in_one_line(export_dir, tmp_path, run_program):
  (tmp_path / "broken.jpg").write_text("no image")
  for arguments, message in [
    (["export", "--model_dir", tmp_path, "--output_dir", tmp_path / "export"], "not a run folder"),
    (
      # The former name of --export_dir.
      ["detect", "--saved_model", export_dir, "--output_dir", tmp_path / "out", tmp_path],
      "None of the 1 files is an image",
    ),
  ]:
    process = run_program(*arguments)
    assert process.returncode == 1
    assert process.stderr.strip().split("\n")[-1].startswith("error: ")
    assert message in process.stderr
    assert "Traceback" not in process.stderr
