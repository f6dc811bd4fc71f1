"""A layer in a file of weights, whatever library has written it."""

import dataclasses

import numpy as np

# The layers of classifiers, in PyTorch and in Keras.
CLASSIFIERS = frozenset(
  ("fc", "predictions", "probs", "fc1000", "Logits", "dense", "Conv_1", "Conv_1_bn")
)


@dataclasses.dataclass(frozen=True)
class FileLayer:
  """The weights of one layer in a file.

  Attributes:
    name: of the layer there.
    values: its weights in Keras's order, kernels with Keras's order of dimensions, float32.
  """

  name: str
  values: list[np.ndarray]


def first_line(error: BaseException) -> str:
  """Returns the first line of what a library says of a file."""
  return str(error).strip().partition("\n")[0] or type(error).__name__
