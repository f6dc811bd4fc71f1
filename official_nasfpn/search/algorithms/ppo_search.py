"""Proximal policy optimization of the controller (Schulman et al. 2017), as NAS-FPN uses it.

An architecture is an episode, and each of its decisions is an action. The reward of the
architecture is the return of all its actions.

Rewards may arrive many updates after their architectures were sampled, and the best architectures
are learnt from again (`PPO.replay_best`). In both cases the policy that sampled is older than the
policy that the step changes. The decoupled objective (Hilton, Cobbe & Schulman 2021, "Batch
size-invariance for policy optimization") separates the two. Its clipped ratio is relative to the
policy at the time of learning, and the weight of each choice is its probability under that policy
divided by its probability when it was sampled. The weight is truncated, as in V-trace (Espeholt et
al. 2018), which bounds its variance.

With several objectives each update learns from a trade-off of its own: weights drawn uniformly from
the simplex, and the augmented Chebyshev scalarisation of ParEGO (Knowles 2006, equation 2).
"""

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.search.algorithms.algorithm import Outcome, Proposal
from official_nasfpn.search.algorithms.controller import Controller
from official_nasfpn.search.algorithms.ppo import PPO
from official_nasfpn.search.front import crowded_order

# Of the sum in the augmented Chebyshev scalarisation (Knowles 2006).
_AUGMENTATION = 0.05


class PPOSearch:
  """Samples architectures from a controller, and trains it to prefer those with good rewards."""

  def __init__(self, space: SearchSpace, config: PPO, seed: int):
    """Makes the controller and its optimizer.

    Args:
      space: search space.
      config: settings of PPO.
      seed: seeds the initial weights and all random draws.

    Raises:
      UserError: `PPO.cell` needs tensorflow-addons, which is not installed.
    """
    self._config = config
    self._seed = seed
    self.controller = Controller(space, config.hidden_units, config.cell, seed)
    self._variables = self.controller.trainable_variables
    self._optimizer = tf_keras.optimizers.Adam(config.learning_rate)
    self._optimizer.build(self._variables)
    # Moving averages of rewards and of their squared distances from it; NaN before the first batch.
    self._baseline = float("nan")
    self._variance = float("nan")
    self._best: list[Outcome] = []
    # With several objectives: the worst and the best value of each so far, [D].
    self._extremes: tuple[np.ndarray, np.ndarray] | None = None
    # One trace for all batch sizes: the last batch of a search may be smaller.
    num_decisions = len(space.decisions)
    batch = [None, num_decisions]
    self._step = tf.function(
      self._gradient_step,
      input_signature=[
        tf.TensorSpec(batch, tf.int64),
        tf.TensorSpec([*batch, None], tf.bool),
        tf.TensorSpec(batch, tf.float32),
        tf.TensorSpec(batch, tf.float32),
      ],
    )
    self._score = tf.function(
      self.controller.log_probs_and_entropy, input_signature=self._step.input_signature[:2]
    )

  def propose(self, update: int, count: int) -> list[Proposal]:
    rng = np.random.default_rng([self._seed, update])
    with tf.device("CPU"):
      choices, log_probs = self.controller.sample(rng, count)
    return [
      Proposal(tuple(c), tuple(p))
      for c, p in zip(choices.tolist(), log_probs.tolist(), strict=True)
    ]

  def learn(self, update: int, outcomes: Sequence[Outcome]) -> Mapping[str, float]:
    """Takes `epochs_per_update` gradient steps on one batch.

    Returns:
      `baseline`: moving average of rewards before the batch; for the first batch, its mean.
      The others are those of the last gradient step:
      `loss`;
      `entropy`: mean over decisions, in nats;
      `approx_kl`: KL divergence of the new policy from the old one, mean over decisions, in nats;
      `clipped_share`: share of decisions whose ratio is outside the clip range.
      An empty batch has no metrics.
    """
    if not outcomes:
      return {}
    batch = [*outcomes, *self._best]
    rewards = [outcome.reward for outcome in batch]
    if outcomes[0].objectives:
      rewards = self._trade_off(update, batch)
      baseline, scale = self._within_batch(rewards[: len(outcomes)])
    else:
      baseline, scale = self._take_in(rewards[: len(outcomes)])
    self._remember(outcomes)
    choices = np.array([outcome.proposal.choices for outcome in batch])
    masks = self.controller.masks(choices)
    sampled = np.array([outcome.proposal.log_probs for outcome in batch], np.float32)
    advantages = np.array([(reward - baseline) / scale for reward in rewards], np.float32)
    with tf.device("CPU"):
      proximal, weights = self._proximal(choices, masks, sampled)
      weighted = weights * advantages[:, np.newaxis]
      for _ in range(self._config.epochs_per_update):
        measured = self._step(choices, masks, proximal, weighted)
    return {"baseline": baseline, **{k: float(v) for k, v in measured.items()}}

  def state(self) -> bytes:
    """Returns weights, optimizer slots, averages and best outcomes as an `.npz` archive."""
    buffer = io.BytesIO()
    arrays = {f"variable_{i}": v.numpy() for i, v in enumerate(self._all_variables())}
    if self._extremes is not None:
      arrays["extremes"] = np.array(self._extremes)
      arrays["best_objectives"] = np.array([outcome.objectives for outcome in self._best])
    np.savez(
      buffer,
      baseline=np.float64(self._baseline),
      variance=np.float64(self._variance),
      best_choices=np.array([outcome.proposal.choices for outcome in self._best], np.int64),
      best_log_probs=np.array([outcome.proposal.log_probs for outcome in self._best], np.float64),
      best_rewards=np.array([outcome.reward for outcome in self._best], np.float64),
      **arrays,
    )
    return buffer.getvalue()

  def restore(self, state: bytes) -> None:
    with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
      for index, variable in enumerate(self._all_variables()):
        variable.assign(arrays[f"variable_{index}"])
      self._baseline = float(arrays["baseline"])
      self._variance = float(arrays["variance"])
      best = [arrays[f"best_{name}"].tolist() for name in ("choices", "log_probs", "rewards")]
      objectives: list[list[float]] = [[] for _ in best[0]]
      if "extremes" in arrays:
        lows, highs = arrays["extremes"]
        self._extremes = lows, highs
        objectives = arrays["best_objectives"].tolist()
    self._best = [
      Outcome(Proposal(tuple(choices), tuple(log_probs)), reward, tuple(point))
      for choices, log_probs, reward, point in zip(*best, objectives, strict=True)
    ]

  def _take_in(self, rewards: Sequence[float]) -> tuple[float, float]:
    """Updates the moving averages with a batch of rewards.

    Returns:
      The baseline before the batch, and the divisor of advantages.
    """
    if math.isnan(self._baseline):
      # If the average began at 0, every early reward would look good.
      self._baseline = float(np.mean(rewards))
      self._variance = float(np.var(rewards))
    baseline = self._baseline
    # NASNet A.2: an exponential moving average over the rewards of previous architectures.
    decay = self._config.baseline_decay
    for reward in rewards:
      self._baseline = decay * self._baseline + (1 - decay) * reward
      self._variance = decay * self._variance + (1 - decay) * (reward - baseline) ** 2
    # The scale includes the batch itself, so that no advantage can be huge.
    scale = math.sqrt(self._variance) if self._config.scale_advantages else 1.0
    return baseline, scale or 1.0

  def _trade_off(self, update: int, batch: Sequence[Outcome]) -> list[float]:
    """Returns rewards in [0, 1.05] for the trade-off of an update, [B]."""
    points = np.array([outcome.objectives for outcome in batch])
    # What diverged has an infinite cost, which would be the only one that counts.
    known = np.where(np.isfinite(points), points, np.nan)
    lows, highs = np.fmin.reduce(known), np.fmax.reduce(known)
    if self._extremes is not None:
      lows, highs = np.fmin(lows, self._extremes[0]), np.fmax(highs, self._extremes[1])
    self._extremes = lows, highs
    spans = np.where(highs > lows, highs - lows, 1.0)
    lacking = np.where(np.isfinite(points), (highs - known) / spans, 1.0)
    weights = np.random.default_rng([self._seed, update, 1]).dirichlet(np.ones(points.shape[1]))
    weighted = weights * lacking
    loss = weighted.max(axis=1) + _AUGMENTATION * weighted.sum(axis=1)
    rewards: list[float] = (1 + _AUGMENTATION - loss).tolist()
    return rewards

  def _within_batch(self, rewards: Sequence[float]) -> tuple[float, float]:
    """Returns baseline and divisor of advantages from one batch: others have other trade-offs."""
    scale = float(np.std(rewards)) if self._config.scale_advantages else 1.0
    return float(np.mean(rewards)), scale or 1.0

  def _remember(self, outcomes: Sequence[Outcome]) -> None:
    """Keeps the best different outcomes so far; of equal ones, the earlier.

    With several objectives the best are those that NSGA-II would keep.
    """
    by_choices = {outcome.proposal.choices: outcome for outcome in (*self._best, *outcomes)}
    if outcomes[0].objectives:
      kept = [*by_choices.values()]
      order = crowded_order([outcome.objectives for outcome in kept])
      self._best = [kept[index] for index in order[: self._config.replay_best]]
      return
    ranked = sorted(by_choices.values(), key=lambda outcome: -outcome.reward)
    self._best = ranked[: self._config.replay_best]

  def _proximal(
    self, choices: np.ndarray, masks: np.ndarray, sampled: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the log-probabilities in the denominator of the ratio, and importance weights.

    Args:
      choices: choices of the architectures, int64 [B, T].
      masks: which choices are valid, bool [B, T, V].
      sampled: log-probabilities of the choices when they were sampled, float32 [B, T].

    Returns:
      The log-probabilities and the weights, each float32 [B, T].
    """
    if self._config.objective == "clipped":
      return sampled, np.ones_like(sampled)
    now = self._score(choices, masks)[0].numpy()
    return now, np.minimum(np.exp(now - sampled), self._config.max_importance_weight)

  def _all_variables(self) -> list[tf.Variable]:
    return [*self._variables, *self._optimizer.variables]

  def _gradient_step(
    self, choices: tf.Tensor, masks: tf.Tensor, proximal: tf.Tensor, advantages: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Takes one step of Adam on the clipped surrogate objective (equation 7) and the entropy.

    Args:
      choices: choices of the architectures, int64 [B, T].
      masks: which choices are valid, bool [B, T, V].
      proximal: log-probabilities in the denominator of the ratio, float32 [B, T].
      advantages: weighted advantage of each choice, float32 [B, T].

    Returns:
      The metrics `loss`, `entropy`, `approx_kl` and `clipped_share`, float32 [].
    """
    clip_ratio = self._config.clip_ratio
    with tf.GradientTape() as tape:
      log_probs, entropies = self.controller.log_probs_and_entropy(choices, masks)
      log_ratio = log_probs - proximal
      ratio = tf.exp(log_ratio)
      clipped = tf.clip_by_value(ratio, 1 - clip_ratio, 1 + clip_ratio)
      surrogate = tf.reduce_mean(tf.minimum(ratio * advantages, clipped * advantages))
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
