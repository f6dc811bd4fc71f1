"""The operations that join the two inputs of a merging cell (section 3.1, Figure 3).

None has weights. A new one is a function here, one entry in `MERGE_OPS`, and its name in
`architecture.OPS`, from which the search space takes it.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf

from official_nasfpn.modeling.resampling import Candidate


def sum_pair(first: Candidate, second: Candidate, level: int) -> tf.Tensor:
  """Adds both maps."""
  return first.at_level(level) + second.at_level(level)


def global_pool(first: Candidate, second: Candidate, level: int) -> tf.Tensor:
  """Adds the coarse map to the fine one gated, per channel, by the coarse map's global maximum.

  The input of the higher level is the coarse one; at equal levels the first input is. Maximum and
  sigmoid are those of the authors' released code.
  """
  coarse, fine = (first, second) if first.level >= second.level else (second, first)
  gate = tf.sigmoid(coarse.global_max())
  return coarse.at_level(level) + fine.at_level(level) * gate


MERGE_OPS: Mapping[str, Callable[[Candidate, Candidate, int], tf.Tensor]] = {
  "sum": sum_pair,
  "global_pool": global_pool,
}
