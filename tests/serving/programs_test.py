"""export and detect as a person runs them, on a detector that has learnt something.

The AP of a SavedModel, through the code of `detect`, is the AP that the evaluator gave.
"""

import dataclasses
import json

import pytest
import tf_keras

from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.preparation import Settings, prepare_dataset
from official_nasfpn.data.shapes import ShapesConfig
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.training import runner
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, open_dataset
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.strategies import build_strategy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["float32", "mixed_bfloat16"])
def trained(tmp_path_factory, request):
  """A run folder, its dataset and its evaluation on 16 drawn images.

  Those that it was trained on: an AP near zero would agree with anything.
  """
  root = tmp_path_factory.mktemp("trained")
  settings = Settings(seed=1, validation_fraction=0.5)
  info, _ = prepare_dataset(ShapesConfig(32, 128), root / "data", settings, num_threads=2)
  experiment = Experiment(
    DetectorConfig(
      backbone="R-10",
      backbone_width=0.5,
      num_filters=32,
      num_repeats=1,
      head_num_convs=1,
      image_size=(128, 128),
      anchor_size=2.0,
      norm_momentum=0.9,
    ),
    InputConfig(
      data_dir=str(info.data_dir),
      train_parts=("val",),
      scale_min=1.0,
      scale_max=1.0,
      horizontal_flip=False,
    ),
    TrainingConfig(
      batch_size=8,
      epochs=40,
      learning_rate=0.32,
      schedule="cosine",
      warmup_epochs=1,
      gradient_clip_norm=10.0,
      compute_dtype=request.param,
    ),
  )
  experiment, dataset = open_dataset(experiment)
  folder = RunFolder(root / "run")
  folder.claim(experiment, dataset.label_map)
  strategy = build_strategy("one_device", None)
  try:
    runner.train(experiment, dataset, folder, strategy)
    evaluation = runner.evaluate(experiment, dataset, folder, strategy)
  finally:
    tf_keras.mixed_precision.set_global_policy("float32")
  return folder, dataset, evaluation


def test_ap_of_the_saved_model_is_the_evaluators(trained, tmp_path, run_program):
  folder, dataset, evaluation = trained
  assert evaluation.metrics["AP"] > 0.3

  export, out = tmp_path / "an export", tmp_path / "out"
  # The run folder alone is needed, wherever it lies.
  moved = RunFolder(tmp_path / "moved")
  moved.path.mkdir()
  for name in ("config.gin", "label_map.json", "checkpoints"):
    (moved.path / name).symlink_to(folder.path / name)
  process = run_program("export", "--model_dir", moved.path, "--output_dir", export)
  assert (process.returncode, process.stderr) == (0, "")
  assert process.stdout.startswith("Exported ")

  images = tmp_path / "images"
  images.mkdir()
  for file in dataset.images_dir("val").iterdir():
    (images / file.name).symlink_to(file)
  (images / "broken.jpg").write_text("no image")
  arguments = ["--saved_model", export, "--output_dir", out, images]
  process = run_program("detect", *arguments, "--annotations", dataset.annotation_file("val"))
  assert process.returncode == 0, process.stderr
  found = json.loads((out / "evaluation.json").read_text())
  assert found["num_images"] == evaluation.num_images == dataset.num_images(["val"])
  assert found["metrics"] == pytest.approx(evaluation.metrics, abs=1e-3)
  assert found["class_ap"] == pytest.approx(evaluation.class_ap, abs=1e-3)
  assert f"AP50 {evaluation.metrics['AP50']:.3f}" in process.stdout

  # The run folder as it is, with its evaluation.
  folder.evaluation_file.write_text(evaluation.to_json())
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
      ["detect", "--saved_model", export_dir, "--output_dir", tmp_path / "out", tmp_path],
      "None of the 1 files is an image",
    ),
  ]:
    process = run_program(*arguments)
    assert process.returncode == 1
    assert process.stderr.strip().split("\n")[-1].startswith("error: ")
    assert message in process.stderr
    assert "Traceback" not in process.stderr
