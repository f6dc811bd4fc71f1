"""Trainings and searches whose backbone starts from weights of another library."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from official_nasfpn.data.config import InputConfig
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.backbones import build_backbone
from official_nasfpn.search.proxy import shared_proxy
from official_nasfpn.search.proxy.proxy_task import make_evaluate
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.workers.evaluation import NullProgress
from official_nasfpn.training import task
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, load_experiment
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.training import evaluate_detector, train_detector
from tests.modeling.published_weights_files import torch_weights

WIDTH = 0.125


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
  """A file of a narrow R-18 by PyTorch's names."""
  backbone = build_backbone("R-18-torch", (128, 128), width=WIDTH)
  path = tmp_path_factory.mktemp("weights") / "r18.safetensors"
  save_file(torch_weights(backbone), path)
  return path


@pytest.fixture
def experiment(tiny_detector, shapes_data, weights_file):
  return Experiment(
    dataclasses.replace(tiny_detector, backbone="R-18", backbone_width=WIDTH),
    InputConfig(data_dir=str(shapes_data)),
    # So slow that the weights are seen to be what the training has started from.
    TrainingConfig(
      batch_size=4,
      epochs=0.2,
      learning_rate=1e-9,
      warmup_learning_rate=0.0,
      decay_epochs=(),
      backbone_weights=str(weights_file),
    ),
  )


@pytest.mark.slow
def test_a_training_starts_from_them_and_needs_them_no_more(
  experiment, weights_file, tmp_path, capsys, weights
):
  moved = weights_file.rename(tmp_path / "moved.safetensors")
  training = dataclasses.replace(experiment.training, backbone_weights=str(moved))
  run = train_detector(dataclasses.replace(experiment, training=training), tmp_path / "run")
  moved.rename(weights_file)
  assert f"the backbone starts from {moved}" in capsys.readouterr().err
  folder = RunFolder(run.model_dir)
  assert folder.load()[0].detector.backbone == "R-18-torch"
  (kernel,) = [value for value in weights(folder).values() if value.shape == (7, 7, 3, 8)]
  np.testing.assert_allclose(kernel, _first_kernel(weights_file), atol=1e-6)
  assert evaluate_detector(run.model_dir).evaluation.num_images > 0


def _first_kernel(path):
  return load_file(path)["conv1.weight"].transpose(2, 3, 1, 0)


def test_what_does_not_fit_is_said_before_a_folder_is_claimed(experiment, tmp_path):
  for backbone, weights, message in (
    ("R-18", str(tmp_path / "gone"), "there is no such file"),
    ("R-18-torch", str(tmp_path / "gone"), "there is no such file"),
    ("R-10", experiment.training.backbone_weights, "not Detector.backbone = 'R-10'"),
  ):
    other = Experiment(
      dataclasses.replace(experiment.detector, backbone=backbone),
      experiment.input,
      dataclasses.replace(experiment.training, backbone_weights=weights),
    )
    with pytest.raises(UserError, match=message):
      train_detector(other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_path_is_kept_whole(weights_file, monkeypatch):
  monkeypatch.chdir(weights_file.parent)
  bindings = [f"Training.backbone_weights = '{weights_file.name}'"]
  assert load_experiment([], bindings).training.backbone_weights == str(weights_file)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["plain", "shared"])
def test_trials_start_from_them(mode, experiment, tmp_path, monkeypatch):
  """Whatever is trained, the weights of its backbone are those of the file when it begins."""
  taken = []
  for module in (shared_proxy, task):
    take = module.take_published_weights

    def take_and_note(backbone, name, path, take=take):
      take(backbone, name, path)
      taken.append((name, path, backbone.get_layer("conv1").get_weights()[0]))

    monkeypatch.setattr(module, "take_published_weights", take_and_note)
  detector = dataclasses.replace(experiment.detector, architecture="nas_fpn")
  recipe = tmp_path / "recipe.gin"
  recipe.write_text(dataclasses.replace(experiment, detector=detector).to_gin())
  search = read_recipe([recipe], [f"Proxy.mode = {mode!r}", "Proxy.warmup_epochs = 0.2"])
  (tmp_path / "trial").mkdir()
  evaluate = make_evaluate(search, tmp_path)
  evaluate(detector.architecture, tmp_path / "trial", NullProgress())
  file = experiment.training.backbone_weights
  assert [(name, path) for name, path, _ in taken] == [("R-18-torch", file)]
  np.testing.assert_array_equal(taken[0][2], _first_kernel(file))
