"""Trainings and searches whose backbone starts from weights of another library."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from safetensors.numpy import load_file, save_file

from official_nasfpn.configuration import Stored
from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.backbones import build_backbone
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detector import build_detector
from official_nasfpn.modeling.weights_cache import FOLDER_VARIABLE
from official_nasfpn.search.proxy.proxy_task import make_evaluate, resolved
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.search import Search
from official_nasfpn.search.workers.evaluation import NullProgress
from official_nasfpn.serving.export.export_detector import export_detector
from official_nasfpn.training import initial_weights
from official_nasfpn.training.backbone_source import kind_of, settled
from official_nasfpn.training.backbone_weights import check_backbone_weights, take_backbone_weights
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


class TestOfOurs:
  """Run folders and exports: their backbones, whatever else the detectors have."""

  LABELS = LabelMap((Category(1, "cat"), Category(2, "dog")))
  THEIRS = DetectorConfig(
    backbone="R-10",
    backbone_width=WIDTH,
    architecture="fpn",
    num_filters=8,
    num_repeats=1,
    head_num_convs=0,
    image_size=(128, 128),
  )
  # Other classes, another pyramid, heads and image size.
  OURS = dataclasses.replace(
    THEIRS, architecture="nas_fpn", num_filters=16, head_num_convs=1, image_size=(128, 256)
  )

  @pytest.fixture(scope="class")
  def source(self):
    tf_keras.utils.set_random_seed(5)
    return build_detector(self.THEIRS, 2)

  @pytest.fixture(scope="class")
  def run(self, source, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("ours") / "run")
    experiment = Experiment(self.THEIRS, InputConfig(data_dir="gone"), TrainingConfig())
    folder.claim(experiment, self.LABELS)
    checkpoint = tf.train.Checkpoint(model=source)
    checkpoint.write(str(folder.checkpoints / "ckpt-7"))
    tf.train.update_checkpoint_state(str(folder.checkpoints), str(folder.checkpoints / "ckpt-7"))
    return folder.path

  @pytest.fixture(scope="class")
  def export(self, run, tmp_path_factory):
    return export_detector(run, tmp_path_factory.mktemp("ours") / "export").path.parent

  @pytest.mark.slow
  @pytest.mark.parametrize("kind", ["run", "export"])
  def test_their_backbone_is_taken(self, kind, source, request):
    path = str(request.getfixturevalue(kind))
    assert kind_of(path) == kind
    assert settled(self.OURS, path) == (self.OURS, path)
    tf_keras.utils.set_random_seed(6)
    ours = build_detector(self.OURS, 5)
    assert take_backbone_weights(ours.backbone, self.OURS, path) == path
    for variable, expected in zip(ours.backbone.variables, source.backbone.variables, strict=True):
      np.testing.assert_array_equal(variable, expected)

  def test_a_checkpoint_in_a_run_is_not_taken_for_model_garden_s(self, run):
    path = str(run / "checkpoints" / "ckpt-7")
    with pytest.raises(UserError, match="is a checkpoint of a training of this program: give its"):
      check_backbone_weights(self.OURS, path)

  @pytest.mark.parametrize(
    ("change", "message"),
    [
      ({"backbone": "R-18"}, r"has the backbone 'R-10', and Detector\.backbone is 'R-18'"),
      ({"backbone_width": 0.25}, r"with Detector\.backbone_width = 0\.125, .* with 0\.25"),
      ({"norm_epsilon": 1e-3}, r"with Detector\.norm_epsilon = 0\.0001, .* with 0\.001: write"),
    ],
  )
  def test_other_backbones_are_refused(self, change, message, run):
    with pytest.raises(UserError, match=message):
      settled(dataclasses.replace(self.OURS, **change), str(run))

  def test_the_arithmetic_of_their_library_is_kept(self, tmp_path):
    """Its epsilon is its own, whatever `Detector.norm_epsilon` says."""
    folder = RunFolder(tmp_path / "run")
    theirs = dataclasses.replace(self.THEIRS, backbone="R-18-torch", norm_epsilon=1e-3)
    folder.claim(Experiment(theirs, InputConfig(), TrainingConfig()), self.LABELS)
    folder.checkpoints.mkdir()
    ours = dataclasses.replace(self.OURS, backbone="R-18")
    assert settled(ours, str(folder.path))[0].backbone == "R-18-torch"


class TestModelGarden:
  def test_a_whole_detector_of_theirs_is_read(self, tmp_path):
    """Their trainer keeps the detector under `model`, and its optimizer beside it."""
    config = dataclasses.replace(TestOfOurs.OURS, backbone="R-18")
    tf_keras.utils.set_random_seed(5)
    theirs = build_backbone("R-18", (64, 64), width=WIDTH)
    whole = tf.train.Checkpoint(model=tf.train.Checkpoint(backbone=theirs), step=tf.Variable(3))
    path = whole.save(tmp_path / "ckpt")
    assert kind_of(path) == "checkpoint"
    backbone = build_backbone("R-18", (64, 64), width=WIDTH)
    take_backbone_weights(backbone, config, path)
    for variable, expected in zip(backbone.variables, theirs.variables, strict=True):
      np.testing.assert_array_equal(variable, expected)

  def test_a_backbone_of_a_library_takes_none(self, tmp_path):
    path = tf.train.Checkpoint(backbone=tf.Variable(1.0)).save(tmp_path / "ckpt")
    config = dataclasses.replace(TestOfOurs.OURS, backbone="R-18-torch")
    with pytest.raises(UserError, match="is a checkpoint of the Model Garden, and Detector"):
      settled(config, path)

  @pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
  def test_a_checkpoint_that_is_cut_short_is_named(self, part, tmp_path):
    backbone = build_backbone("R-10", (64, 64), width=WIDTH)
    path = tf.train.Checkpoint(backbone=backbone).save(tmp_path / "ckpt")
    file = Path(f"{path}.{part}")
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"does not fit Detector\.backbone = 'R-10', or is damaged"):
      check_backbone_weights(TestOfOurs.OURS, path)

  def test_the_path_is_without_the_ending(self, tmp_path):
    path = tf.train.Checkpoint(backbone=tf.Variable(1.0)).save(tmp_path / "ckpt")
    with pytest.raises(UserError, match=r"give the path of a checkpoint without \.index"):
      kind_of(f"{path}.index")


class TestFormerSetting:
  """`Training.backbone_checkpoint` of earlier versions."""

  def test_a_user_is_told_the_present_name(self):
    with pytest.raises(UserError, match=r"'backbone_checkpoint': it is Training\.backbone_weights"):
      load_experiment([], ["Training.backbone_checkpoint = 'ckpt'"])

  def test_a_run_folder_of_then_is_read(self, tmp_path):
    here = load_experiment([]).to_gin()
    assert "Training.backbone_weights = None\n" in here
    for line, expected in (
      ("Training.backbone_checkpoint = None\n", None),
      (f"Training.backbone_checkpoint = '{tmp_path}/ckpt-1'\n", f"{tmp_path}/ckpt-1"),
    ):
      training = load_experiment([Stored(here + line, "config.gin")]).training
      assert training.backbone_weights == expected

  def test_a_file_of_weights_stays_beside_it(self, tmp_path):
    text = f"Training.backbone_checkpoint = None\nTraining.backbone_weights = '{tmp_path}/w.h5'\n"
    assert load_experiment([Stored(text, "it")]).training.backbone_weights == f"{tmp_path}/w.h5"


class TestImagenet:
  MOBILENET = dataclasses.replace(TestOfOurs.OURS, backbone="MobileNetV2", backbone_width=1.0)
  FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"

  def test_what_is_meant_is_written_down(self):
    detector, weights = settled(self.MOBILENET, "imagenet")
    assert (detector.backbone, weights) == ("MobileNetV2-keras", "imagenet:keras/mobilenet_v2")
    assert settled(detector, weights) == (detector, weights)

  def test_it_is_no_path(self):
    bindings = ["Training.backbone_weights = 'imagenet'"]
    assert load_experiment([], bindings).training.backbone_weights == "imagenet"

  @pytest.mark.slow
  def test_a_file_that_was_put_there_is_taken(self, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    network = tf_keras.applications.MobileNetV2(include_top=False, weights=None)
    network.save_weights(tmp_path / self.FILE)
    detector, weights = settled(self.MOBILENET, "imagenet")
    backbone = build_backbone("MobileNetV2-keras", (64, 64))
    source = take_backbone_weights(backbone, detector, weights)
    assert source == f"imagenet:keras/mobilenet_v2 ({tmp_path / self.FILE})"
    expected = network.get_layer("block_16_project").get_weights()[0]
    assert any(np.array_equal(weight, expected) for weight in backbone.get_weights())
