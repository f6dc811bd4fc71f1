"""Two processes train and evaluate one model with MultiWorkerMirroredStrategy."""

import json
import socket
import time

import numpy as np
import pytest

from official_nasfpn.data.preparation import prepare_dataset
from official_nasfpn.data.shapes import ShapesConfig
from official_nasfpn.training.run_folder import RunFolder
from tests.program_process import ProgramProcess

PATIENCE_SECONDS = 300
RECIPE = """
Detector.backbone = 'R-10'
Detector.backbone_width = 0.25
Detector.architecture = 'fpn'
Detector.num_filters = 16
Detector.num_repeats = 1
Detector.head_num_convs = 1
Detector.image_size = (128, 128)
# Without it every replica would normalise by the statistics of its own images.
Detector.sync_batch_norm = True
Detector.score_threshold = 0.001
Training.batch_size = 4
Training.images_per_epoch = 16
Training.epochs = 1.0
Training.warmup_epochs = 0.1
Training.steps_per_loop = 2
Training.evaluation_batch_size = 4
"""


def _start(folder, name, *arguments, program="official_nasfpn.train", **environment):
  return ProgramProcess(
    program,
    [
      f"--gin_file={folder / 'recipe.gin'}",
      f"--data_dir={folder / 'data'}",
      f"--model_dir={folder / name}",
      *arguments,
    ],
    # The process has its own devices, not the two virtual ones of these tests.
    environment=environment,
  )


def _finish(process):
  assert process.wait(PATIENCE_SECONDS) == 0, process.stderr
  return process.stdout


def _free_ports(number):
  sockets = [socket.create_server(("localhost", 0)) for _ in range(number)]
  ports = [s.getsockname()[1] for s in sockets]
  for s in sockets:
    s.close()
  return ports


def _start_two(folder, name, *arguments, **settings):
  workers = [f"localhost:{port}" for port in _free_ports(2)]
  return [
    _start(
      folder,
      name,
      "--distribution_strategy=multi_worker_mirrored",
      *arguments,
      TF_CONFIG=json.dumps(
        {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
      ),
      **settings,
    )
    for index in range(2)
  ]


@pytest.mark.slow
def test_two_processes_train_and_evaluate_one_model(tmp_path, weights):
  (tmp_path / "recipe.gin").write_text(RECIPE)
  # Odd numbers of images: the shares of the two workers differ.
  prepare_dataset(tmp_path / "data", shapes=ShapesConfig(num_images=45), num_threads=2)

  chief, other = (_finish(process) for process in _start_two(tmp_path, "both"))
  assert "AP by class" in chief
  assert other == ""

  # An evaluation in one process gives the same AP: the chief has seen all detections.
  run = tmp_path / "both"
  of_cluster = json.loads((run / "evaluation.json").read_text())
  _finish(_start(tmp_path, "both", "--mode=evaluate"))
  of_one = json.loads((run / "evaluation.json").read_text())
  assert of_cluster["num_images"] == of_one["num_images"] == 9
  assert of_cluster["num_detections"] == of_one["num_detections"] > 9
  assert of_cluster["metrics"] == pytest.approx(of_one["metrics"], abs=1e-4)

  folder = RunFolder(run)
  assert all(np.isfinite(value).all() for value in weights(folder).values())
  assert folder.latest_checkpoint().endswith("ckpt-4")


@pytest.mark.minutes
@pytest.mark.slow
def test_when_a_worker_is_killed_the_same_commands_go_on_from_the_checkpoint(tmp_path):
  num_steps = 12
  recipe = f"{RECIPE}\nTraining.epochs = {num_steps / 4}\nTraining.checkpoint_epochs = 0.5\n"
  # Any exchange besides that of gradients would take a second per step.
  recipe += "Detector.sync_batch_norm = False\n"
  (tmp_path / "recipe.gin").write_text(recipe)
  prepare_dataset(tmp_path / "data", shapes=ShapesConfig(num_images=45), num_threads=2)
  folder = RunFolder(tmp_path / "run")

  chief, other = _start_two(tmp_path, "run", "--mode=train")
  deadline = time.monotonic() + PATIENCE_SECONDS
  while not list(folder.checkpoints.glob("ckpt-*.index")):
    assert chief.poll() is None, chief.stderr
    assert time.monotonic() < deadline
    time.sleep(0.05)
  other.kill()
  assert chief.wait(PATIENCE_SECONDS) == 1
  assert "A worker of the cluster was lost" in chief.stderr
  assert "start the same command on all of them again" in chief.stderr
  step = int(folder.latest_checkpoint().rsplit("-", 1)[1])
  assert 0 < step < num_steps

  again = _start_two(tmp_path, "run", "--mode=train")
  codes = [process.wait(PATIENCE_SECONDS) for process in again]
  assert codes == [0, 0], [process.stderr for process in again]
  for index, bar in enumerate(process.stderr for process in again):
    assert ("trains R-10" in bar) == (index == 0)  # Only the chief prints.
    assert f"| {step}/{num_steps} [" in bar
    assert f"| 0/{num_steps} [" not in bar
  assert folder.latest_checkpoint().endswith(f"ckpt-{num_steps}")


@pytest.mark.slow
def test_nan_on_one_worker_stops_all_and_is_their_reason(tmp_path):
  # The fourth step is the last of a loop, after which a checkpoint would be saved.
  recipe = f"{RECIPE}\nTraining.epochs = 3.0\nTraining.checkpoint_epochs = 0.5\n"
  (tmp_path / "recipe.gin").write_text(f"{recipe}\nDetector.sync_batch_norm = False\n")
  prepare_dataset(tmp_path / "data", shapes=ShapesConfig(num_images=45), num_threads=2)
  both = _start_two(
    tmp_path, "run", "--mode=train", program="tests.training.train_with_nan", NASFPN_TEST_NAN="1:4"
  )
  assert [process.wait(PATIENCE_SECONDS) for process in both] == [1, 1]
  for process in both:
    assert "The loss became NaN or infinite at train step 4 (" in process.stderr
    assert "class_loss nan" in process.stderr
  # Of the first step, which stands alone.
  assert RunFolder(tmp_path / "run").latest_checkpoint().endswith("ckpt-1")
