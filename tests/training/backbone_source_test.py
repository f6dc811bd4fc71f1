"""What backbones start from besides files: runs, exports, checkpoints, published weights."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.configuration import Stored
from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.backbones import build_backbone
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.modeling.detector import build_detector
from official_nasfpn.modeling.detector_parts import freeze
from official_nasfpn.modeling.weights_cache import FOLDER_VARIABLE
from official_nasfpn.serving.export.export_detector import export_detector
from official_nasfpn.training.backbone_source import kind_of, settled
from official_nasfpn.training.backbone_weights import check_backbone_weights, take_backbone_weights
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, load_experiment
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.start_weights import weights_in_order

WIDTH = 0.125
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


@pytest.fixture(scope="module")
def source():
  tf_keras.utils.set_random_seed(5)
  return build_detector(THEIRS, 2)


@pytest.fixture(scope="module")
def run(source, tmp_path_factory):
  folder = RunFolder(tmp_path_factory.mktemp("ours") / "run")
  experiment = Experiment(THEIRS, InputConfig(data_dir="gone"), TrainingConfig())
  folder.claim(experiment, LABELS)
  checkpoint = tf.train.Checkpoint(model=source)
  tf.train.CheckpointManager(checkpoint, str(folder.checkpoints), max_to_keep=1).save(7)
  return folder.path


@pytest.fixture(scope="module")
def export(run, tmp_path_factory):
  return export_detector(run, tmp_path_factory.mktemp("ours") / "export").path.parent


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "export"])
def test_their_backbone_is_taken(kind, source, request):
  path = str(request.getfixturevalue(kind))
  assert kind_of(path) == kind
  assert settled(OURS, path) == (OURS, path)
  tf_keras.utils.set_random_seed(6)
  ours = build_detector(OURS, 5)
  freeze(ours, ("stem", "group_4"))  # Keras then lists their weights last.
  assert take_backbone_weights(ours.backbone, OURS, path) == path
  found = weights_in_order(ours.backbone)
  for variable, expected in zip(found, source.backbone.variables, strict=True):
    np.testing.assert_array_equal(variable, expected)


def test_a_checkpoint_in_a_run_is_not_taken_for_model_garden_s(run):
  path = str(run / "checkpoints" / "ckpt-7")
  with pytest.raises(UserError, match="is a checkpoint of a training of this program: give its"):
    check_backbone_weights(OURS, path)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"backbone": "R-18"}, r"has the backbone 'R-10', and Detector\.backbone is 'R-18'"),
    ({"backbone_width": 0.25}, r"with Detector\.backbone_width = 0\.125, .* with 0\.25"),
    ({"norm_epsilon": 1e-3}, r"with Detector\.norm_epsilon = 0\.0001, .* with 0\.001: write"),
  ],
)
def test_other_backbones_are_refused(change, message, run):
  with pytest.raises(UserError, match=message):
    settled(dataclasses.replace(OURS, **change), str(run))


def test_the_arithmetic_of_their_library_is_kept(tmp_path):
  """Its epsilon is its own, whatever `Detector.norm_epsilon` says."""
  folder = RunFolder(tmp_path / "run")
  theirs = dataclasses.replace(THEIRS, backbone="R-18-torch", norm_epsilon=1e-3)
  folder.claim(Experiment(theirs, InputConfig(), TrainingConfig()), LABELS)
  folder.checkpoints.mkdir()
  ours = dataclasses.replace(OURS, backbone="R-18")
  assert settled(ours, str(folder.path))[0].backbone == "R-18-torch"


class TestModelGarden:
  def test_a_whole_detector_of_theirs_is_read(self, tmp_path):
    """Their trainer keeps the detector under `model`, and its optimizer beside it."""
    config = dataclasses.replace(OURS, backbone="R-18")
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
    config = dataclasses.replace(OURS, backbone="R-18-torch")
    with pytest.raises(UserError, match="is a checkpoint of the Model Garden, and Detector"):
      settled(config, path)

  @pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
  def test_a_checkpoint_that_is_cut_short_is_named(self, part, tmp_path):
    backbone = build_backbone("R-10", (64, 64), width=WIDTH)
    path = tf.train.Checkpoint(backbone=backbone).save(tmp_path / "ckpt")
    file = Path(f"{path}.{part}")
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"does not fit Detector\.backbone = 'R-10', or is damaged"):
      check_backbone_weights(OURS, path)

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
  MOBILENET = dataclasses.replace(OURS, backbone="MobileNetV2", backbone_width=1.0)
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
