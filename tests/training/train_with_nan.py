"""`nasfpn train` whose loss is NaN at one train step of one worker of a cluster.

NASFPN_TEST_NAN is WORKER:STEP.
"""

import itertools
import json
import os

import numpy as np
import tensorflow as tf

from official_nasfpn import train
from official_nasfpn.errors import run_program
from official_nasfpn.training import train_step

worker, bad_step = map(int, os.environ["NASFPN_TEST_NAN"].split(":"))
detection_losses = train_step.detection_losses
steps = itertools.count(1)


def spoilt_losses(*arguments):
  *early, last = detection_losses(*arguments)
  factor = tf.numpy_function(
    lambda: np.float32(np.nan if next(steps) == bad_step else 1), [], tf.float32
  )
  return [*early, {**last, "class_loss": last["class_loss"] * tf.ensure_shape(factor, [])}]


if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == worker:
  train_step.detection_losses = spoilt_losses

if __name__ == "__main__":
  run_program(train.main)
