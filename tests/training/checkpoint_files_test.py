"""Checkpoints are found by their files, also where TensorFlow's file of names is wrong."""

import pytest
import tensorflow as tf

from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.training.checkpoint_files import (
  checkpoints_in,
  files_of,
  newest_checkpoint,
  tell_tensorflow,
)
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.restore import checkpoint_errors
from official_nasfpn.training.run_folder import RunFolder


@pytest.fixture
def saved(tmp_path):
  """Returns a folder with the checkpoints of the steps 8, 9 and 10, and what saved them."""
  checkpoint = tf.train.Checkpoint(weight=tf.Variable(0.0))
  manager = tf.train.CheckpointManager(checkpoint, str(tmp_path), max_to_keep=3)
  for step in (8, 9, 10):
    checkpoint.weight.assign(step)
    manager.save(checkpoint_number=step)
  return tmp_path, checkpoint


def delete(checkpoint):
  for file in files_of(checkpoint):
    file.unlink()


def test_the_newest_has_the_greatest_step_and_an_index(saved, tmp_path):
  folder, _ = saved
  assert newest_checkpoint(folder) == str(folder / "ckpt-10")  # "9" is greater than "10".
  (folder / "ckpt-10.index").unlink()
  assert newest_checkpoint(folder) == str(folder / "ckpt-9")
  assert newest_checkpoint(tmp_path / "missing") is None


def test_a_deleted_checkpoint_is_not_looked_for(saved):
  folder, checkpoint = saved
  delete(newest_checkpoint(folder))
  assert tf.train.latest_checkpoint(str(folder)) is None  # Why it is not asked.
  tell_tensorflow(folder)
  manager = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=2)
  assert manager.restore_or_initialize() == str(folder / "ckpt-9")
  assert float(checkpoint.weight) == 9
  # It still knows which ones to delete.
  manager.save(checkpoint_number=11)
  assert checkpoints_in(folder) == [str(folder / "ckpt-9"), str(folder / "ckpt-11")]


def test_where_all_are_deleted_there_is_none(saved):
  folder, checkpoint = saved
  for path in checkpoints_in(folder):
    delete(path)
  tell_tensorflow(folder)
  manager = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=2)
  assert manager.restore_or_initialize() is None


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
def test_a_damaged_checkpoint_is_named(saved, suffix):
  folder, checkpoint = saved
  newest = newest_checkpoint(folder)
  file = folder / f"ckpt-10{suffix}"
  file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  message = r"The checkpoint .*ckpt-10 cannot be read: .*Delete .*ckpt-10\.\* to use the one before"
  with pytest.raises(UserError, match=message), checkpoint_errors(newest):
    checkpoint.restore(newest)
  # So it is.
  delete(newest)
  assert newest_checkpoint(folder) == str(folder / "ckpt-9")


@pytest.mark.parametrize("name", ["run[1]", "run*", "what?", "C:\\run"])
def test_a_path_that_is_a_pattern_is_refused_before_anything_is_trained(
  name, tmp_path, tiny_detector
):
  experiment = Experiment(tiny_detector, InputConfig(data_dir="nowhere"), TrainingConfig())
  with pytest.raises(UserError, match=r"--model_dir .* for a pattern"):
    RunFolder(tmp_path / name / "run").claim(experiment, LabelMap((Category(1, "cat"),)))
  assert not list(tmp_path.iterdir())


def test_a_path_that_tensorflow_reads_is_not_refused(tmp_path, tiny_detector):
  folder = RunFolder(tmp_path / "run {1} (2), ü]")
  experiment = Experiment(tiny_detector, InputConfig(data_dir="nowhere"), TrainingConfig())
  folder.claim(experiment, LabelMap((Category(1, "cat"),)))
  saved = tf.train.Checkpoint(weight=tf.Variable(1.0))
  saved.write(str(folder.checkpoints / "ckpt-1"))
  saved.read(newest_checkpoint(folder.checkpoints)).assert_consumed()


def test_a_run_that_was_moved_below_a_pattern_says_so(tmp_path):
  folder = tmp_path / "copy[1]"
  saved = tf.train.Checkpoint(weight=tf.Variable(1.0))
  saved.write(str(folder / "ckpt-1"))
  checkpoint = newest_checkpoint(folder)
  with pytest.raises(UserError, match="Rename the folder"), checkpoint_errors(checkpoint):
    saved.restore(checkpoint)
