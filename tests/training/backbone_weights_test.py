"""Trainings and searches whose backbone starts from weights of another library."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from official_nasfpn.data.config import InputConfig
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.backbones import build_backbone
from official_nasfpn.search.proxy.proxy_task import make_evaluate, resolved
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.search import Search
from official_nasfpn.search.workers.evaluation import NullProgress
from official_nasfpn.training import initial_weights
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, load_experiment
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.training import evaluate_detector, plan_training, train_detector
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
  file = experiment.training.backbone_weights
  (tmp_path / "short").write_bytes(Path(file).read_bytes()[:-1])
  (tmp_path / "empty").mkdir()
  for backbone, width, weights, message in (
    ("R-18", WIDTH, "gone", "there is no such file"),
    ("R-18-torch", WIDTH, "gone", "there is no such file"),
    ("R-10", WIDTH, file, "not Detector.backbone = 'R-10'"),
    ("R-18", 0.25, file, r"the weights of conv1 are 7x7x3x8, and 'R-18-torch' wants 7x7x3x16\."),
    ("R-34", WIDTH, file, r"has no weights for layer\d\.\d\.\w+, which 'R-34-torch' has"),
    ("R-18", WIDTH, "short", "short' cannot be read"),
    ("R-18", WIDTH, "empty", "this folder is neither the run folder of a training nor a SavedMo"),
    ("R-10", WIDTH, "imagenet", r"no published weights for Detector\.backbone = 'R-10'"),
  ):
    known = weights if weights in (file, "imagenet") else str(tmp_path / weights)
    other = Experiment(
      dataclasses.replace(experiment.detector, backbone=backbone, backbone_width=width),
      experiment.input,
      dataclasses.replace(experiment.training, backbone_weights=known),
    )
    for begin in (lambda other: train_detector(other, tmp_path / "run"), plan_training):
      with pytest.raises(UserError, match=message):
        begin(other)
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
  take = initial_weights.take_backbone_weights

  def take_and_note(backbone, detector, setting):
    source = take(backbone, detector, setting)
    taken.append((detector.backbone, setting, backbone.get_layer("conv1").get_weights()[0]))
    return source

  monkeypatch.setattr(initial_weights, "take_backbone_weights", take_and_note)
  detector = dataclasses.replace(experiment.detector, architecture="nas_fpn")
  recipe = tmp_path / "recipe.gin"
  recipe.write_text(dataclasses.replace(experiment, detector=detector).to_gin())
  search = read_recipe([recipe], [f"Proxy.mode = {mode!r}", "Proxy.warmup_epochs = 0.2"])
  (tmp_path / "trial").mkdir()
  evaluate = make_evaluate(resolved(search), tmp_path)
  evaluate(detector.architecture, tmp_path / "trial", NullProgress())
  file = experiment.training.backbone_weights
  assert [(name, path) for name, path, _ in taken] == [("R-18-torch", file)]
  np.testing.assert_array_equal(taken[0][2], _first_kernel(file))


@pytest.mark.slow
def test_a_search_refuses_what_does_not_fit_before_it_begins(experiment, tmp_path):
  detector = dataclasses.replace(experiment.detector, architecture="nas_fpn", backbone_width=0.25)
  recipe = tmp_path / "recipe.gin"
  recipe.write_text(dataclasses.replace(experiment, detector=detector).to_gin())
  search = Search(tmp_path / "search", read_recipe([recipe]))
  with pytest.raises(UserError, match="'R-18-torch' wants 7x7x3x16"):
    search.run()
  assert not (tmp_path / "search").exists()
