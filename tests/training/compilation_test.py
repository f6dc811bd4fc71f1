"""Whether XLA compiles the train step; that what it compiles is the same is in task_test.py."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.data.config import InputConfig
from official_nasfpn.errors import UserError
from official_nasfpn.search.proxy import proxy_task
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.training import compilation as compilation_lib
from official_nasfpn.training.compilation import compilation
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, open_dataset
from official_nasfpn.training.repeated_training import RepeatedTraining
from official_nasfpn.training.run_folder import RunFolder
from official_nasfpn.training.strategies import build_strategy
from official_nasfpn.training.training import plan_training, train_detector

H100 = ("H100", (9, 0))
MANY = 10_000


@pytest.fixture
def experiment(tiny_detector, shapes_data):
  return Experiment(
    tiny_detector,
    InputConfig(data_dir=str(shapes_data)),
    TrainingConfig(
      batch_size=4,
      epochs=0.3,
      learning_rate=0.1,
      warmup_epochs=0.1,
      decay_epochs=(),
      steps_per_loop=2,
    ),
  )


def stated(experiment, jit_compile, sync_batch_norm=False):
  return dataclasses.replace(
    experiment,
    training=dataclasses.replace(experiment.training, jit_compile=jit_compile),
    detector=dataclasses.replace(experiment.detector, sync_batch_norm=sync_batch_norm),
  )


def test_auto_compiles_on_gpus_for_trainings_that_win_the_time_back(experiment, install_gpus):
  strategy = build_strategy("one_device")
  auto = stated(experiment, "auto")
  on_processor = compilation(auto, MANY, strategy)
  assert (on_processor.jit_compile, on_processor.sentence) == (
    False,
    "XLA does not compile: on processors it is slower",
  )
  install_gpus(H100)
  assert compilation(auto, MANY, strategy).jit_compile
  short = compilation(auto, 144, strategy)
  assert not short.jit_compile
  assert "which 144 steps do not win back" in short.sentence
  assert not compilation(stated(experiment, False), MANY, strategy).jit_compile
  # What is stated holds for short trainings, too.
  assert compilation(stated(experiment, True), 1, strategy).jit_compile


def test_what_several_devices_exchange_in_the_network_cannot_be_compiled(experiment, install_gpus):
  mirrored = build_strategy("mirrored")
  assert mirrored.num_replicas_in_sync == 2
  install_gpus(H100, H100)
  plain = compilation(stated(experiment, "auto", sync_batch_norm=True), MANY, mirrored)
  assert not plain.jit_compile
  assert "Detector.sync_batch_norm = True for several devices" in plain.sentence
  assert compilation(stated(experiment, "auto"), MANY, mirrored).jit_compile
  one = build_strategy("one_device")
  assert compilation(stated(experiment, "auto", sync_batch_norm=True), MANY, one).jit_compile


def test_a_strategy_that_cannot_is_refused_before_the_folder_is_claimed(experiment, tmp_path):
  settings = stated(experiment, True, sync_batch_norm=True)
  with pytest.raises(UserError, match=r"jit_compile = True, but XLA cannot .* Write 'auto'"):
    train_detector(settings, tmp_path / "run", distribution_strategy="mirrored")
  assert not list(tmp_path.iterdir())


def test_a_device_without_a_compiler_is_refused_or_does_without(
  experiment, tmp_path, monkeypatch, install_gpus
):
  def without_libdevice(number):
    raise tf.errors.InternalError(None, None, "libdevice not found at ./libdevice.10.bc\nat ...")

  monkeypatch.setattr(compilation_lib.tf, "exp", without_libdevice)
  with pytest.raises(UserError, match=r"for this device: libdevice not found at .*bc\."):
    train_detector(stated(experiment, True), tmp_path / "run")
  assert not list(tmp_path.iterdir())
  install_gpus(H100)
  without = compilation(stated(experiment, "auto"), MANY, build_strategy("one_device"))
  assert not without.jit_compile
  assert "libdevice not found" in without.sentence


def test_the_shared_proxy_cannot_be_compiled():
  recipe = read_recipe(["gin/quickstart.gin"], ["Training.jit_compile = True"])
  shared = dataclasses.replace(recipe, proxy=dataclasses.replace(recipe.proxy, mode="shared"))
  with pytest.raises(UserError, match=r"XLA cannot compile Proxy\.mode = 'shared'"):
    proxy_task.resolved(shared)


def test_a_plan_says_what_a_training_would(experiment):
  lines = plan_training(experiment).as_text().splitlines()
  assert "compiler         XLA does not compile: on processors it is slower" in lines


def test_a_run_goes_on_where_compiling_is_left_to_the_device(experiment, tmp_path):
  experiment, dataset = open_dataset(experiment)
  folder = RunFolder(tmp_path / "run")
  folder.claim(stated(experiment, True), dataset.label_map)
  folder.claim(stated(experiment, "auto"), dataset.label_map)
  assert folder.load()[0].training.jit_compile is True
  with pytest.raises(UserError, match="jit_compile is True there and False here"):
    folder.claim(stated(experiment, False), dataset.label_map)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("strategy", "architecture", "sync_batch_norm"),
  # As the paper's recipes are on one device, where the gradient of a global maximum was NaN once.
  [("one_device", "nas_fpn", True), ("mirrored", "fpn", False)],
)
def test_a_compiled_training_learns_the_same(
  strategy, architecture, sync_batch_norm, experiment, tmp_path, weights, monkeypatch
):
  detector = dataclasses.replace(experiment.detector, architecture=architecture)
  experiment = dataclasses.replace(experiment, detector=detector)
  compiled = []
  make_function = tf.function

  def noting(*arguments, **options):
    compiled.append(options.get("jit_compile"))
    return make_function(*arguments, **options)

  monkeypatch.setattr(tf, "function", noting)
  runs = {}
  for jit_compile in (False, True):
    run = train_detector(
      stated(experiment, jit_compile, sync_batch_norm),
      tmp_path / f"{strategy}_{jit_compile}",
      evaluate=False,
      distribution_strategy=strategy,
    )
    runs[jit_compile] = weights(RunFolder(run.model_dir))
    assert any(compiled) == jit_compile
    said = (run.model_dir / "train.log").read_text()
    assert f"as Training.jit_compile = {jit_compile} says" in said
  # One function for a whole step; on two replicas, one each for the targets and for the gradients.
  assert compiled.count(True) - 2 == {"one_device": 1, "mirrored": 4}[strategy]
  for name, value in runs[False].items():
    np.testing.assert_allclose(runs[True][name], value, rtol=1e-2, atol=1e-3, err_msg=name)


@pytest.mark.slow
def test_a_trial_may_be_compiled(experiment, tmp_path):
  settings, dataset = open_dataset(experiment)

  def train(jit_compile):
    log_file = tmp_path / f"{jit_compile}.log"
    training = RepeatedTraining(stated(settings, jit_compile), dataset)
    spec = settings.detector.architecture
    result, _ = training.run(spec, log_file, lambda share: None)
    return result.metrics, log_file.read_text()

  plain, log = train("auto")
  assert "XLA does not compile" in log
  compiled, log = train(True)
  assert "XLA compiles the train step" in log
  assert compiled.keys() == plain.keys()
  assert compiled["AP"] == pytest.approx(plain["AP"], abs=0.01)
