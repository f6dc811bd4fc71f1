"""The layer-normalised LSTM cell of tensorflow-addons, a package that has reached its end of life.

This module alone imports the package.
"""

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from official_nasfpn.installation import require

# tensorflow-addons 0.23 imports Keras 2 under names that Keras 3 has now.
_ALIASES = {
  "keras.src.engine": "tf_keras.src.engine",
  "keras.src.engine.keras_tensor": "tf_keras.src.engine.keras_tensor",
}
# Its two warnings: it is no longer developed, and it does not support this TensorFlow.
_NOTICES = (
  r"\s*TensorFlow Addons \(TFA\) has ended development",
  r"Tensorflow Addons supports using Python ops for all Tensorflow versions",
)


def require_addons() -> None:
  """Raises a `UserError` if tensorflow-addons is not installed."""
  require(
    "PPO.cell = 'layer_norm_lstm'",
    "tensorflow_addons",
    otherwise="It exists for Python up to 3.11, on x86-64; PPO.cell = 'lstm' does not need it.",
  )


def layer_norm_lstm_cell(units: int, **arguments: object) -> Any:
  """Returns a `tensorflow_addons.rnn.LayerNormLSTMCell`.

  Args:
    units: size of the hidden state.
    **arguments: further arguments of the cell.

  Raises:
    UserError: tensorflow-addons is not installed.
  """
  require_addons()
  with _keras_2_names(), warnings.catch_warnings():
    for notice in _NOTICES:
      warnings.filterwarnings("ignore", message=notice)
    from tensorflow_addons.rnn import LayerNormLSTMCell
  return LayerNormLSTMCell(units, **arguments)


@contextlib.contextmanager
def _keras_2_names() -> Iterator[None]:
  """Makes Keras 2 importable under the names in `_ALIASES` within the block."""
  before = {name: sys.modules.get(name) for name in _ALIASES}
  sys.modules.update({name: importlib.import_module(real) for name, real in _ALIASES.items()})
  try:
    yield
  finally:
    for name, module in before.items():
      if module is None:
        del sys.modules[name]
      else:
        sys.modules[name] = module
