"""The NaN guard remembers the first bad step, inside a graph loop and on any replica."""

import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.training.nan_guard import NanGuard, TrainingDiverged
from official_nasfpn.training.strategies import build_strategy


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_names_the_first_bad_step_of_a_graph_loop(bad):
  guard = NanGuard(("total_loss", "box_loss"))

  @tf.function
  def loop(steps):
    for step in tf.range(1, steps + 1):
      value = tf.where(step >= 7, bad, 1.0)
      guard.watch({"total_loss": value, "box_loss": tf.cast(step, tf.float32)}, step)

  loop(tf.constant(6))
  guard.check(tf.distribute.get_strategy())
  loop(tf.constant(20))
  with pytest.raises(TrainingDiverged, match=r"train step 7 .*box_loss 7") as caught:
    guard.check(tf.distribute.get_strategy())
  assert caught.value.step == 7
  assert "learning_rate" in str(caught.value)


def test_sees_every_replica():
  strategy = build_strategy("mirrored")
  with strategy.scope():
    guard = NanGuard(("total_loss",))

  @tf.function
  def step():
    def replica():
      second = tf.distribute.get_replica_context().replica_id_in_sync_group == 1
      guard.watch({"total_loss": tf.where(second, np.nan, 1.0)}, tf.constant(3))

    strategy.run(replica)

  step()
  with pytest.raises(TrainingDiverged, match="train step 3"):
    guard.check(strategy)
