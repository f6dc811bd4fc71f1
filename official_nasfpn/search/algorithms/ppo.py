"""Proximal policy optimization of the controller (Schulman et al. 2017), as NAS-FPN uses it.

An architecture is an episode and each of its decisions an action; the reward of the architecture
is the return of all of them.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.search.algorithms.algorithm import Outcome, Proposal
from official_nasfpn.search.algorithms.controller import Controller
from official_nasfpn.search.config import SearchConfig


class PPO:
  """Samples architectures from a controller and moves it towards those with good rewards."""

  def __init__(self, space: SearchSpace, config: SearchConfig):
    self._config = config
    self.controller = Controller(space, config.hidden_units, config.cell, config.seed)
    self._variables = self.controller.trainable_variables
    self._optimizer = tf_keras.optimizers.Adam(config.learning_rate)
    self._optimizer.build(self._variables)
    # The moving average of rewards; NaN until there is one.
    self._baseline = float("nan")
    # One trace for every batch size: the last batch of a search may be smaller.
    num_decisions = len(space.decisions)
    batch = [None, num_decisions]
    self._step = tf.function(
      self._gradient_step,
      input_signature=[
        tf.TensorSpec(batch, tf.int64),
        tf.TensorSpec([*batch, None], tf.bool),
        tf.TensorSpec(batch, tf.float32),
        tf.TensorSpec([None], tf.float32),
      ],
    )

  def propose(self, update: int, count: int) -> list[Proposal]:
    rng = np.random.default_rng([self._config.seed, update])
    choices, log_probs = self.controller.sample(rng, count)
    return [
      Proposal(tuple(c), tuple(p))
      for c, p in zip(choices.tolist(), log_probs.tolist(), strict=True)
    ]

  def learn(self, update: int, outcomes: Sequence[Outcome]) -> Mapping[str, float]:
    """Takes `epochs_per_update` gradient steps on one batch.

    Returns:
      `baseline` before the batch (at first the batch's mean); then of the last step: `loss`,
      `entropy` (mean over decisions, nats), `approx_kl` (of the new policy from the old one, mean
      over decisions) and `clipped_share` (of decisions whose ratio is outside the clip range).
    """
    del update
    if not outcomes:
      return {}
    rewards = np.array([outcome.reward for outcome in outcomes])
    if np.isnan(self._baseline):
      # An average that began at 0 would call every early reward good.
      self._baseline = rewards.mean()
    baseline = self._baseline
    choices = np.array([outcome.proposal.choices for outcome in outcomes])
    old_log_probs = np.array([outcome.proposal.log_probs for outcome in outcomes], np.float32)
    masks = self.controller.masks(choices)
    advantages = (rewards - baseline).astype(np.float32)
    for _ in range(self._config.epochs_per_update):
      measured = self._step(choices, masks, old_log_probs, advantages)
    # NASNet A.2: an exponential moving average over the rewards of previous architectures.
    decay = self._config.baseline_decay
    for reward in rewards:
      self._baseline = decay * self._baseline + (1 - decay) * reward
    return {"baseline": float(baseline), **{k: float(v) for k, v in measured.items()}}

  def state(self) -> bytes:
    """Returns weights, optimizer slots and baseline as an `.npz` archive."""
    buffer = io.BytesIO()
    arrays = {f"variable_{i}": v.numpy() for i, v in enumerate(self._all_variables())}
    np.savez(buffer, baseline=np.float64(self._baseline), **arrays)
    return buffer.getvalue()

  def restore(self, state: bytes) -> None:
    with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
      for index, variable in enumerate(self._all_variables()):
        variable.assign(arrays[f"variable_{index}"])
      self._baseline = float(arrays["baseline"])

  def _all_variables(self) -> list[tf.Variable]:
    return [*self._variables, *self._optimizer.variables]

  def _gradient_step(
    self, choices: tf.Tensor, masks: tf.Tensor, old_log_probs: tf.Tensor, advantages: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Takes one step of Adam on the clipped surrogate objective (equation 7) and the entropy.

    Args:
      choices: int64 [B, T].
      masks: bool [B, T, V].
      old_log_probs: float32 [B, T], stored when the choices were made.
      advantages: float32 [B].
    """
    clip_ratio = self._config.clip_ratio
    with tf.GradientTape() as tape:
      log_probs, entropies = self.controller.log_probs_and_entropy(choices, masks)
      log_ratio = log_probs - old_log_probs
      ratio = tf.exp(log_ratio)
      clipped = tf.clip_by_value(ratio, 1 - clip_ratio, 1 + clip_ratio)
      advantage = advantages[:, tf.newaxis]
      surrogate = tf.reduce_mean(tf.minimum(ratio * advantage, clipped * advantage))
      entropy = tf.reduce_mean(entropies)
      loss = -surrogate - self._config.entropy_weight * entropy
    self._optimizer.apply_gradients(
      zip(tape.gradient(loss, self._variables), self._variables, strict=True)
    )
    return {
      "loss": loss,
      "entropy": entropy,
      # The low-variance estimator k3 of http://joschu.net/blog/kl-approx.html
      "approx_kl": tf.reduce_mean((ratio - 1) - log_ratio),
      "clipped_share": tf.reduce_mean(tf.cast(tf.abs(ratio - 1) > clip_ratio, tf.float32)),
    }
