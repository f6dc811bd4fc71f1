"""A head that shares its convolutions with another one."""

from typing import Any

import tensorflow as tf
from official.vision.modeling.heads.dense_prediction_heads import RetinaNetHead


class SharedHead(RetinaNetHead):
  """Model Garden's head with the convolutions of another head and batch norms of its own."""

  def __init__(self, head: RetinaNetHead, **kwargs: Any):
    """Takes the settings of the other head.

    Args:
      head: whose convolutions are shared.
      **kwargs: arguments of every Keras layer, such as `name`.
    """
    super().__init__(**head.get_config(), **kwargs)
    # Behind a function, so that Keras does not take the other head for a part of this one.
    self._lender = lambda: head

  def build(self, input_shape: dict[str, tf.TensorShape]) -> None:
    super().build(input_shape)
    head = self._lender()
    if not head.built:
      head.build(input_shape)
    # The layers just made have no weights yet, and are discarded.
    self._cls_convs, self._classifier = head._cls_convs, head._classifier
    self._box_convs, self._box_regressor = head._box_convs, head._box_regressor
