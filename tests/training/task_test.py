"""The train step as a TPU wants it: static shapes, compiled by XLA, and the same numbers."""

import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.data.config import InputConfig
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, open_dataset
from official_nasfpn.training.optimizer import build_optimizer
from official_nasfpn.training.task import LOSSES, DetectionTask


@pytest.fixture(scope="module")
def experiment_and_dataset(shapes_data):
  return open_dataset(
    Experiment(
      DetectorConfig(
        backbone="R-10",
        backbone_width=0.25,
        architecture="nas_fpn",
        num_filters=16,
        num_repeats=1,
        head_num_convs=1,
        image_size=(128, 128),
        norm_momentum=0.9,
      ),
      InputConfig(data_dir=str(shapes_data)),
      TrainingConfig(batch_size=4, gradient_clip_norm=10.0, warmup_learning_rate=0.08),
    )
  )


def _one_step(experiment, dataset, jit_compile):
  task = DetectionTask(experiment, dataset)
  model = task.build_model()
  optimizer = build_optimizer(experiment.training, dataset.num_images(("train",)))
  optimizer._create_all_weights(model.trainable_variables)
  metrics = task.build_metrics()
  batches = task.build_inputs(training=True)
  for spec in tf.nest.flatten(batches.element_spec):
    assert spec.shape.is_fully_defined(), spec

  step = tf.function(
    lambda batch: task.train_step(batch, model, optimizer, metrics), jit_compile=jit_compile
  )
  step(next(iter(batches)))
  losses = {metric.name: float(metric.result()) for metric in metrics}
  return losses, [(weight.name, weight.numpy()) for weight in model.variables]


@pytest.mark.slow
def test_xla_compiles_the_whole_train_step_and_computes_the_same(experiment_and_dataset):
  experiment, dataset = experiment_and_dataset
  losses, weights = _one_step(experiment, dataset, jit_compile=False)
  compiled_losses, compiled_weights = _one_step(experiment, dataset, jit_compile=True)
  assert set(losses) == set(LOSSES)
  assert losses["box_loss"] > 0
  assert compiled_losses == pytest.approx(losses, rel=1e-3)
  for (name, value), (_, compiled) in zip(weights, compiled_weights, strict=True):
    np.testing.assert_allclose(compiled, value, rtol=1e-2, atol=1e-3, err_msg=name)
