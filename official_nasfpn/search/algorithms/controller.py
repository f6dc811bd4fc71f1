"""The controller: a recurrent network that samples an architecture choice by choice.

One LSTM layer reads the previous choice, and a softmax over the valid choices gives the next one
(Zoph & Le 2017, section 3.2; Zoph et al. 2018, NASNet, A.2). Each decision has its own softmax and
its own embedding of its choices.
"""

import numpy as np
import tensorflow as tf
import tf_keras

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.search.algorithms.addons import layer_norm_lstm_cell

# Makes an invalid choice impossible, but is finite, so that gradients are finite.
_NEVER = -1e9


class Controller(tf.Module):
  """A policy over the sequences of decisions of a search space.

  T is the number of decisions, V the largest number of choices of any decision. Masks exclude the
  choices that a decision does not have.
  """

  def __init__(self, space: SearchSpace, hidden_units: int, cell: str, seed: int):
    """Draws all weights from U(-0.1, 0.1) (NASNet A.2).

    Args:
      space: search space with the decisions to take.
      hidden_units: size of the LSTM's hidden state and of the embeddings.
      cell: `lstm` or `layer_norm_lstm`.
      seed: seeds the initial weights.

    Raises:
      UserError: the cell is `layer_norm_lstm`, and tensorflow-addons is not installed.
    """
    super().__init__()
    self._space = space
    num_decisions = len(space.decisions)
    num_choices = max(decision.num_choices for decision in space.decisions)
    self._shape = (num_decisions, num_choices)
    seeds = iter(np.random.SeedSequence(seed).generate_state(5).tolist())

    def initializer() -> tf_keras.initializers.Initializer:
      return tf_keras.initializers.RandomUniform(-0.1, 0.1, seed=next(seeds))

    make_cell = {"lstm": tf_keras.layers.LSTMCell, "layer_norm_lstm": layer_norm_lstm_cell}[cell]
    self.cell = make_cell(
      hidden_units, kernel_initializer=initializer(), recurrent_initializer=initializer()
    )
    self.cell.build((None, hidden_units))
    self.recurrence = tf_keras.layers.RNN(self.cell, return_sequences=True)
    self.start = tf.Variable(initializer()((hidden_units,)), name="start")
    self.embedding = tf.Variable(
      initializer()((num_decisions, num_choices, hidden_units)), name="embedding"
    )
    self.kernel = tf.Variable(
      initializer()((num_decisions, hidden_units, num_choices)), name="kernel"
    )
    self.bias = tf.Variable(tf.zeros((num_decisions, num_choices)), name="bias")

  def sample(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples architectures.

    Args:
      rng: source of all randomness.
      count: number of architectures, B.

    Returns:
      Choices, int64 [B, T], and their log-probabilities in nats, float32 [B, T].
    """
    num_decisions, num_choices = self._shape
    # argmax(logits + Gumbel noise) is a draw from softmax(logits).
    noise = rng.gumbel(size=(count, num_decisions, num_choices)).astype(np.float32)
    choices = np.zeros((count, num_decisions), np.int64)
    log_probs = np.zeros((count, num_decisions), np.float32)
    rows = np.arange(count)
    embedding = self.embedding.numpy()
    inputs = np.tile(self.start.numpy(), [count, 1])
    state = [np.zeros((count, self.cell.units), np.float32)] * 2
    for step in range(num_decisions):
      mask = np.stack([self._mask(chosen[:step]) for chosen in choices])
      step_log_probs, state = self._decide(step, inputs, state, mask)
      step_log_probs = step_log_probs.numpy()
      choices[:, step] = np.argmax(step_log_probs + noise[:, step], axis=-1)
      log_probs[:, step] = step_log_probs[rows, choices[:, step]]
      inputs = embedding[step, choices[:, step]]
    return choices, log_probs

  # One trace for all decisions and batch sizes: eager execution takes twice as long.
  @tf.function(
    input_signature=[
      tf.TensorSpec([], tf.int32),
      tf.TensorSpec([None, None], tf.float32),
      [tf.TensorSpec([None, None], tf.float32)] * 2,
      tf.TensorSpec([None, None], tf.bool),
    ]
  )
  def _decide(
    self, step: tf.Tensor, inputs: tf.Tensor, state: list[tf.Tensor], mask: tf.Tensor
  ) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Reads the previous choice and scores the choices of the next decision.

    Args:
      step: index of the next decision, int32 [].
      inputs: embedding of the previous choice, float32 [B, hidden_units].
      state: the two state tensors of the cell, each float32 [B, hidden_units].
      mask: which choices are valid, bool [B, V].

    Returns:
      The log-probability of each choice, float32 [B, V], and the new state.
    """
    hidden, state = self.cell(inputs, state)
    logits = hidden @ self.kernel[step] + self.bias[step]
    return tf.nn.log_softmax(tf.where(mask, logits, _NEVER)), state

  def masks(self, choices: np.ndarray) -> np.ndarray:
    """Returns which choices were valid at each decision, bool [B, T, V], for choices [B, T]."""
    steps = range(self._shape[0])
    return np.stack([[self._mask(chosen[:step]) for step in steps] for chosen in choices])

  def log_probs_and_entropy(
    self, choices: tf.Tensor, masks: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Scores given architectures under the current weights.

    Args:
      choices: choices of the architectures, int [B, T].
      masks: which choices are valid, bool [B, T, V], from `masks`.

    Returns:
      The log-probability of each choice in nats, float32 [B, T], and the entropy of each decision's
      distribution in nats, float32 [B, T].
    """
    # A product with one-hot rows, not a gather: its gradient sums in the same order in every run.
    chosen = tf.one_hot(choices, self._shape[1])
    embedded = tf.einsum("btv,tvh->bth", chosen, self.embedding)
    start = tf.tile(self.start[tf.newaxis, tf.newaxis], [tf.shape(choices)[0], 1, 1])
    hidden = self.recurrence(tf.concat([start, embedded[:, :-1]], axis=1))
    logits = tf.einsum("bth,thv->btv", hidden, self.kernel) + self.bias
    log_probs = tf.nn.log_softmax(tf.where(masks, logits, _NEVER))
    # An invalid choice has probability 0 and adds 0 * log_prob = 0.
    entropy = -tf.reduce_sum(tf.exp(log_probs) * log_probs, axis=-1)
    return tf.reduce_sum(chosen * tf.where(masks, log_probs, 0.0), axis=-1), entropy

  def _mask(self, chosen: np.ndarray) -> np.ndarray:
    mask = np.zeros(self._shape[1], bool)
    valid = self._space.mask(chosen.tolist())
    mask[: len(valid)] = valid
    return mask
