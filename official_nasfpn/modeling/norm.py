"""The settings of batch norm, the same in all parts of a detector."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class NormSettings:
  """How every batch norm of a network works. Its fields are the arguments of Keras.

  Attributes:
    momentum: of the moving averages.
    epsilon: added to the variance.
    synchronized: whether batch statistics are taken over all replicas.
  """

  momentum: float = 0.997
  epsilon: float = 1e-4
  synchronized: bool = False

  def for_keras(self) -> dict[str, Any]:
    """Returns the arguments of `BatchNormalization`."""
    return dataclasses.asdict(self)

  def for_model_garden(self) -> dict[str, Any]:
    """Returns the arguments of Model Garden's backbones, decoders and heads."""
    return {
      "norm_momentum": self.momentum,
      "norm_epsilon": self.epsilon,
      "use_sync_bn": self.synchronized,
    }


DEFAULT_NORM = NormSettings()
