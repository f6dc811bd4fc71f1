"""`python -m benchmarks.gpu_step`, at a size for processors."""

import json

import pytest

TINY = (
  "Detector.backbone = 'R-10'",
  "Detector.backbone_width = 0.25",
  "Detector.num_filters = 16",
  "Detector.num_repeats = 1",
  "Detector.head_num_convs = 1",
  "Detector.image_size = (128, 128)",
  "Training.batch_size = 2",
  "Training.steps_per_loop = 2",
  "Training.compute_dtype = 'float32'",
)


@pytest.mark.slow
def test_measures_steps_and_trainings_with_and_without_xla(shapes_data, tmp_path, run_program):
  output = tmp_path / "figures.json"
  result = run_program(
    "gpu_step",
    "--gin_file=gin/paper/nasfpn_r50_640.gin",
    *(f"--gin_param={binding}" for binding in TINY),
    f"--data_dir={shapes_data}",
    "--num_steps=2",
    "--train_steps=6",
    f"--output={output}",
    package="benchmarks",
  )
  assert result.returncode == 0, result.stderr
  figures = json.loads(output.read_text())
  assert json.loads(result.stdout) == figures
  assert figures["batch_size"] == 2
  # As the recipe has it; on one device there is nothing to exchange, and XLA compiles.
  assert figures["sync_batch_norm"]
  assert "computes in float32" in figures["where"]
  for kind in ("plain", "xla"):
    step, training = figures[f"step_{kind}"], figures[f"train_{kind}"]
    assert step["images_per_s"] == pytest.approx(2000 / step["step_ms"], rel=0.1)
    assert training["steps_per_s"] > 0
    assert training["loops"] >= 3
  assert figures["step_xla"]["loss"] == pytest.approx(figures["step_plain"]["loss"], rel=0.01)
