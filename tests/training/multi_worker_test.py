"""Two processes train and evaluate one model together, as MultiWorkerMirroredStrategy's workers."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from official_nasfpn.data.preparation import Settings, prepare_dataset
from official_nasfpn.data.shapes import ShapesConfig
from official_nasfpn.training.run_folder import RunFolder

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


def _start(folder, name, *arguments, **environment):
  return subprocess.Popen(
    [
      sys.executable,
      "-m",
      "official_nasfpn.train",
      f"--gin_file={folder / 'recipe.gin'}",
      f"--data_dir={folder / 'data'}",
      f"--model_dir={folder / name}",
      *arguments,
    ],
    stderr=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    # The child's devices are its own: the two virtual ones of these tests are not handed down.
    env={**os.environ, **environment},
  )


def _finish(process):
  try:
    printed, errors = process.communicate(timeout=PATIENCE_SECONDS)
  finally:
    process.kill()
  assert process.returncode == 0, errors
  return printed


def _free_ports(number):
  sockets = [socket.create_server(("localhost", 0)) for _ in range(number)]
  ports = [s.getsockname()[1] for s in sockets]
  for s in sockets:
    s.close()
  return ports


@pytest.mark.slow
def test_two_processes_train_and_evaluate_one_model(tmp_path, weights):
  (tmp_path / "recipe.gin").write_text(RECIPE)
  # Odd numbers of images: the shares of the two workers differ.
  prepare_dataset(ShapesConfig(num_images=45), tmp_path / "data", Settings(), num_threads=2)

  workers = [f"localhost:{port}" for port in _free_ports(2)]
  processes = [
    _start(
      tmp_path,
      "both",
      "--distribution_strategy=multi_worker_mirrored",
      TF_CONFIG=json.dumps(
        {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
      ),
    )
    for index in range(2)
  ]
  chief, other = (_finish(process) for process in processes)
  assert "AP by class" in chief
  assert other == ""

  # One process gives the cluster's model the same AP: the chief has seen all detections.
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
