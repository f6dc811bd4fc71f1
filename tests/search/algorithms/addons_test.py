"""The layer-normalised LSTM cell of tensorflow-addons, the real one where it is installed."""

import importlib.util
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.errors import UserError
from official_nasfpn.search.algorithms.addons import layer_norm_lstm_cell

installed = pytest.mark.skipif(
  importlib.util.find_spec("tensorflow_addons") is None,
  reason="tensorflow-addons is not installed (it has no release for Python 3.12 and later)",
)


@installed
def test_the_cell_normalises_its_state():
  cell = layer_norm_lstm_cell(64, recurrent_initializer="zeros")
  inputs = tf.random.stateless_normal((5, 3), seed=(1, 2))
  # With closed forget gates, open output gates and no recurrence, the output is tanh of the
  # normalised state.
  output, (hidden, state) = cell(inputs, [tf.zeros((5, 64))] * 2)
  np.testing.assert_array_equal(output, hidden)
  np.testing.assert_allclose(np.mean(state, axis=1), 0, atol=1e-4)
  np.testing.assert_allclose(np.std(state, axis=1), 1, atol=0.05)


@installed
def test_importing_it_leaves_no_trace():
  """No aliased module remains, and its two warnings are not shown."""
  program = """
import sys, warnings
with warnings.catch_warnings(record=True) as caught:
  warnings.simplefilter("always")
  import official_nasfpn
  import tf_keras
  before = {name for name in sys.modules if name.startswith("keras.src.engine")}
  ours = len(caught)
  from official_nasfpn.search.algorithms.addons import layer_norm_lstm_cell
  layer_norm_lstm_cell(4)
after = {name for name in sys.modules if name.startswith("keras.src.engine")}
assert after == before, after - before
told = [str(w.message) for w in caught[ours:] if "ddons" in str(w.message)]
assert not told, told
"""
  subprocess.run([sys.executable, "-c", program], check=True)


def test_it_says_what_to_do_where_it_is_not_installed(monkeypatch):
  # Python's own mark for a module that must not be imported.
  monkeypatch.setitem(sys.modules, "tensorflow_addons", None)
  monkeypatch.setitem(sys.modules, "tensorflow_addons.rnn", None)
  with warnings.catch_warnings(), pytest.raises(UserError, match=r"official-nasfpn\[addons\]"):
    layer_norm_lstm_cell(4)
